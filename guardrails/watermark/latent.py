"""The latent mark: the signs of the noise that a picture is drawn from say who drew it.

After Gaussian Shading (Yang et al. 2024, arXiv:2404.04969), with two changes. A key stream that depends on the picture,
so that its noise is exactly standard normal and pictures share no pad (one fixed pad is a two-time pad, arXiv
2503.11404). And a first part of the message so short that every value of it can be tried, so that the mark is found
where too little of the noise is left for a code of 64 bits.

The elements of a latent are split by the key of the epoch:

- the *carried* part, half of a large latent and fifteen sixteenths of a small one, says the *handle*: the first 20 bits
  of the mark id. Some of them choose a pad of the epoch, the others a word of the first-order Reed-Muller code
  (MacWilliams and Sloane 1977, chapter 14) that is multiplied with it. A fast Hadamard transform correlates with all
  2**20 at once, which is maximum-likelihood decoding. Over the words of one pad, the signs of any three elements in
  different columns are independent;
- three quarters of what is left, the *rest*, say the other 44 bits in the code of `coding` (rate 1/4), signed with a
  stream of this handle alone;
- one quarter, the *check*, is signed with a stream of this mark id alone. An id that is nearly right says nothing of
  it, and nobody who has seen other pictures of the pad has seen this one.

The magnitudes are left to whoever draws the noise: |g| with a uniform sign is exactly standard normal.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from guardrails.domain.images import LatentStart, MarkReading, MarkVerdict
from guardrails.errors import WatermarkError
from guardrails.watermark.carrier import KeyStream
from guardrails.watermark.coding import RATE, decode, encode
from guardrails.watermark.geometry import log_survival
from guardrails.watermark.keys import Keyring
from guardrails.watermark.payload import ID_BITS

SCHEME = "org.guardrails.latent.2"
STAGE = "latent"
FALSE_POSITIVE_RATE = 1e-6
# The pixel mark's searches use three quarters of the false-positive budget.
BUDGET_SHARE = 1 / 4
# The search for a handle and the comparison with known ids: each has half of the share.
ROUTES = 2
HANDLE_BITS = 20
HANDLE_DIGITS = HANDLE_BITS // 4
# Columns of the Reed-Muller code; a larger latent repeats them.
MOST_COLUMN_BITS = 16
# A small latent has no more evidence than finding it takes; a large one has some to spare for reading its id.
LARGE = 8192
SMALL_REMAINDER, LARGE_REMAINDER = 16, 2
CHECK_SHARE = 4
REST_BITS = ID_BITS - HANDLE_BITS
REST_SYMBOLS = REST_BITS * RATE
# Smaller latents were not tried.
MINIMUM_ELEMENTS = 2304
# What the check must say by itself before an id is believed and the mark called present: the carried part can be
# imitated by someone who has collected many pictures of one pad, the check cannot.
CHECK_RATE = 1e-4

Signs = NDArray[np.float32]
Latents = NDArray[np.float32]

# P(sum of signed constants > z) is at most 3.18 times the normal tail (Pinelis 1994), whatever the constants are.
_LOG_PINELIS = math.log(3.18)
_LOWEST_LOG = math.log(1e-300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the elements of a latent go; the same for all pads of an epoch.

    Attributes:
        carried, rest, check: indices into the flat latent; together all of them.
        column_bits: the i-th carried element stands in column i modulo 2**column_bits.
    """

    carried: NDArray[np.intp]
    rest: NDArray[np.intp]
    check: NDArray[np.intp]
    column_bits: int

    @property
    def pads(self) -> int:
        """How many pads an epoch has: the bits of a handle that are neither a column nor the sign of a word."""
        return 1 << (HANDLE_BITS - 1 - self.column_bits)

    def word(self, handle: int) -> Signs:
        """The Reed-Muller word of a handle, +-1 for each carried element."""
        columns = np.arange(len(self.carried)) % (1 << self.column_bits)
        parity = np.bitwise_count(columns & handle) + (handle >> self.column_bits)
        word: Signs = 1 - 2 * (parity & 1).astype(np.float32)
        return word

    def pad_of(self, handle: int) -> int:
        """Which pad a handle is multiplied with."""
        return handle >> (self.column_bits + 1)


class LatentMark:
    """Signs for initial latents, and the detector of them in latents that an inversion brought back.

    Args:
        keyring: marks with its current epoch, finds all the epochs it keeps.
    """

    name = SCHEME

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def start(self, shape: tuple[int, ...]) -> LatentStart:
        """What the record says of pictures that are drawn from signed latents of `shape`, or why they are not."""
        count = math.prod(shape)
        if count < MINIMUM_ELEMENTS:
            return LatentStart(reason=f"a latent of {count} elements is too small: it needs {MINIMUM_ELEMENTS}")
        return LatentStart(scheme=SCHEME, epoch=self._keyring.current_epoch)

    def signs(self, mark_id: str, shape: tuple[int, ...]) -> Signs:
        """The signs of one picture's initial latent, +-1 float32 of `shape`; independent of any other picture's.

        Args:
            mark_id: 16 hexadecimal digits; every picture needs its own, chosen at random (`ImageId.new`): bits that
                many ids have in common would show in the average of their noise.
            shape: of the latent, channels x height x width.

        Raises:
            WatermarkError: the latent has fewer than 2,304 elements.
        """
        count = math.prod(shape)
        require_elements(count)
        return self._signs(mark_id, self._keyring.current_epoch, count).reshape(shape)

    def confirm(self, latents: Latents, mark_id: str, epoch: int) -> MarkReading:
        """Whether a recovered latent is that of a mark id which is known from the pixel mark: one test."""
        return self.identify(latents, [(mark_id, epoch)])

    def identify(self, latents: Latents, candidates: Sequence[tuple[str, int]]) -> MarkReading:
        """Whether a recovered latent is that of one of some ids, for example of the records of an installation.

        Hears what `detect` no longer hears, because a known id needs no decoding; every candidate is a test.

        Args:
            candidates: mark ids and the epochs they were signed in.
        """
        flat = _flat(latents)
        scored = [
            (_score(flat, self._signs(mark_id, epoch, len(flat))), mark_id, epoch) for mark_id, epoch in candidates
        ]
        z, mark_id, epoch = max(scored, default=(0.0, "", 0))
        tests = max(1, len(scored))
        p_value = _p_value(_log_tail(z), ROUTES * tests)
        found = p_value <= FALSE_POSITIVE_RATE
        return MarkReading(
            verdict=MarkVerdict.PRESENT if found else MarkVerdict.NOT_DETECTED,
            scheme=SCHEME,
            p_value=p_value,
            z=round(z, 3),
            tests=tests,
            stage=STAGE,
            mark_id=mark_id if found else "",
            epoch=epoch if found else None,
        )

    def detect(self, latents: Latents) -> MarkReading:
        """Look for a mark in a recovered latent, without its id, prompt or payload.

        1. Correlate the carried part with every handle of every kept epoch; the strongest must be beyond chance.
        2. Decode the rest of the id; present when the check agrees with it, else only suspected.

        Args:
            latents: float32 of the shape that was signed; any scale.

        Raises:
            WatermarkError: fewer than 2,304 elements, or values that are not finite.
        """
        flat = _flat(latents)
        z, epoch, handle = max(self._strongest(flat, epoch) for epoch in self._keyring.epochs)
        tests = len(self._keyring.epochs) << HANDLE_BITS
        p_value = _p_value(_log_tail(z), ROUTES * tests)
        if p_value > FALSE_POSITIVE_RATE:
            return MarkReading(
                verdict=MarkVerdict.NOT_DETECTED,
                scheme=SCHEME,
                p_value=p_value,
                z=round(z, 3),
                tests=tests,
                stage=STAGE,
            )
        mark_id, corrected = self._rest(flat, epoch, handle)
        return MarkReading(
            verdict=MarkVerdict.PRESENT if mark_id else MarkVerdict.SUSPECTED,
            scheme=SCHEME,
            p_value=p_value,
            z=round(z, 3),
            tests=tests,
            stage=STAGE,
            mark_id=mark_id,
            epoch=epoch,
            corrected_bits=corrected,
        )

    def _strongest(self, flat: Latents, epoch: int) -> tuple[float, int, int]:
        """Standard score, epoch and number of the likeliest handle."""
        layout = self._layout(epoch, len(flat))
        values, columns = flat[layout.carried], 1 << layout.column_bits
        sums = np.zeros((layout.pads, columns), np.float32)
        for index in range(layout.pads):
            signed = values * self._pad(epoch, index, len(values))
            sums[index] = np.pad(signed, (0, -len(signed) % columns)).reshape(-1, columns).sum(axis=0)
        scores = hadamard(sums)
        pad, word = np.unravel_index(int(np.abs(scores).argmax()), scores.shape)
        score = float(scores[pad, word])
        handle = (int(pad) << 1 | int(score < 0)) << layout.column_bits | int(word)
        return abs(score) / math.sqrt(float(values @ values) + 1e-12), epoch, handle

    def _rest(self, flat: Latents, epoch: int, handle: int) -> tuple[str, int | None]:
        """The whole id, "" when the check does not agree with it; and how many of its coded bits were corrected."""
        layout = self._layout(epoch, len(flat))
        signed = flat[layout.rest] * self._rest_pad(epoch, handle, len(layout.rest))
        soft = np.bincount(np.arange(len(signed)) % REST_SYMBOLS, signed, REST_SYMBOLS).astype(np.float32)
        message = decode(soft)
        bits = np.concatenate([np.zeros(HANDLE_BITS, np.uint8), message])
        mark_id = f"{handle:0{HANDLE_DIGITS}x}" + np.packbits(bits).tobytes().hex()[HANDLE_DIGITS:]
        check = _score(flat[layout.check], self._check_signs(mark_id, epoch, len(layout.check)))
        if _log_tail(check) > math.log(CHECK_RATE):
            return "", None
        return mark_id, int(((soft < 0) != encode(message)).sum())

    def _signs(self, mark_id: str, epoch: int, count: int) -> Signs:
        layout = self._layout(epoch, count)
        carried, rest = len(layout.carried), len(layout.rest)
        handle = int(mark_id[:HANDLE_DIGITS], 16)
        coded = encode(np.unpackbits(np.frombuffer(bytes.fromhex(mark_id), np.uint8))[HANDLE_BITS:])
        signs = np.empty(count, np.float32)
        signs[layout.carried] = self._pad(epoch, layout.pad_of(handle), carried) * layout.word(handle)
        spread = 1 - 2 * coded[np.arange(rest) % REST_SYMBOLS].astype(np.float32)
        signs[layout.rest] = self._rest_pad(epoch, handle, rest) * spread
        signs[layout.check] = self._check_signs(mark_id, epoch, len(layout.check))
        return signs

    def _layout(self, epoch: int, count: int) -> Layout:
        return _layout(self._keyring.derive(f"latent epoch {epoch} layout"), count)

    def _pad(self, epoch: int, index: int, count: int) -> Signs:
        return _signs_of(self._keyring.derive(f"latent epoch {epoch} pad {index}"), count)

    def _rest_pad(self, epoch: int, handle: int, count: int) -> Signs:
        return _signs_of(self._keyring.derive(f"latent epoch {epoch} rest {handle}"), count)

    def _check_signs(self, mark_id: str, epoch: int, count: int) -> Signs:
        return _signs_of(self._keyring.derive(f"latent epoch {epoch} id {mark_id}"), count)


def require_elements(count: int) -> None:
    """Check that a latent is large enough to carry a mark.

    Raises:
        WatermarkError: it is not.
    """
    if count < MINIMUM_ELEMENTS:
        raise WatermarkError(
            f"a latent of {count} elements is too small for a mark: it needs {MINIMUM_ELEMENTS}",
            hint="draw a larger picture, or rely on the pixel mark",
        )


def hadamard(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over the last axis of 2**m values with every Walsh function: (-1)**popcount(i & j), in natural order."""
    sums = values
    for half in (1 << bit for bit in range(values.shape[-1].bit_length() - 1)):
        pairs = sums.reshape(-1, 2, half)
        sums = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
    return sums.reshape(values.shape)


def _flat(latents: Latents) -> Latents:
    flat = np.asarray(latents, np.float32).reshape(-1)
    require_elements(len(flat))
    if not np.isfinite(flat).all():
        raise WatermarkError("the recovered latent holds values that are not finite", hint="invert in float32")
    return flat


def _score(values: Latents, signs: Signs) -> float:
    """Correlation with signs, of mean 0 and variance 1 under random signs."""
    return float(values @ signs / math.sqrt(float(values @ values) + 1e-12))


def _log_tail(z: float) -> float:
    return min(0.0, _LOG_PINELIS + log_survival(z))


def _p_value(log_tail: float, tests: int) -> float:
    """Corrected for every test, in units of the whole budget, see `geometry.Search.p_value`; never below 1e-300."""
    return math.exp(min(0.0, max(_LOWEST_LOG, log_tail + math.log(tests) - math.log(BUDGET_SHARE))))


@functools.lru_cache(maxsize=16)
def _layout(key: bytes, count: int) -> Layout:
    order = _key_stream(key, count).permutation(count)
    remainder = count // (LARGE_REMAINDER if count >= LARGE else SMALL_REMAINDER)
    check, rest, carried = np.split(order, [remainder // CHECK_SHARE, remainder])
    columns = min(MOST_COLUMN_BITS, (len(carried) - 1).bit_length())
    return Layout(carried=carried, rest=rest, check=check, column_bits=columns)


def _signs_of(key: bytes, count: int) -> Signs:
    return _key_stream(key, count).signs(count)


def _key_stream(key: bytes, draws: int) -> KeyStream:
    """Expand a sub-key with ChaCha20; the nonce may be constant because each sub-key is used once."""
    return KeyStream(Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * draws)))
