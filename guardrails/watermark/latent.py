"""The latent mark: the signs of the noise that a picture is drawn from say who drew it.

After Gaussian Shading (Yang et al. 2024, arXiv:2404.04969), with two changes. A fresh key stream for every picture, so
that its noise is exactly standard normal and no two pictures share a pad (one fixed pad is a two-time pad, arXiv
2503.11404). And a second, smaller alphabet of streams, so that the mark can be found where nothing else is left.

The elements of a latent are split by the key of the epoch's stream:

- seven eighths, the *carried* part, are signed with one of 64 streams of the epoch. Through it they say the mark id,
  64 bits in the code of `coding` (rate 1/4), so a detector that knows nothing needs 64 tests an epoch;
- one eighth, the *fresh* part, is signed with a stream of this mark id alone. Nobody who has seen other pictures of the
  carried stream has seen this one.

The magnitudes are left to whoever draws the noise: |g| with a uniform sign is exactly standard normal.
"""

from __future__ import annotations

import hashlib
import hmac
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

SCHEME = "org.guardrails.latent.1"
STAGE = "latent"
FALSE_POSITIVE_RATE = 1e-6
# The pixel mark's searches use three quarters of the false-positive budget.
BUDGET_SHARE = 1 / 4
# Chi-square, decoding, and comparison with known ids: each has a third of the share.
ROUTES = 3
STREAMS = 64
FRESH_SHARE = 8
ID_SYMBOLS = ID_BITS * RATE
# Fewer leave less than seven elements to a coded bit.
MINIMUM_ELEMENTS = 8 * ID_SYMBOLS
# How many streams are decoded: those of the highest chi-square.
DECODED_STREAMS = 4
# What the fresh part must say by itself before a found mark is called present: the carried part can be imitated by
# someone who has collected many pictures of one stream, the fresh part cannot.
FRESH_RATE = 1e-4

Signs = NDArray[np.float32]
Latents = NDArray[np.float32]

# P(sum of signed constants > z) is at most 3.18 times the normal tail (Pinelis 1994), whatever the constants are.
_LOG_PINELIS = math.log(3.18)
_LOWEST_LOG = math.log(1e-300)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One of the 64 streams of an epoch.

    Attributes:
        fresh, carried: indices into the flat latent; together all of them.
        pad: +-1 of the carried part, in its order; the i-th element carries coded bit i modulo 256.
    """

    fresh: NDArray[np.intp]
    carried: NDArray[np.intp]
    pad: Signs

    def soft_bits(self, latents: Latents) -> Signs:
        """Standard score of every coded bit, shape (256,): the sum of its signed elements over their root energy.

        Under random signs each has mean 0 and variance 1 whatever the latent is, and even moments that are at most
        those of the normal distribution (Khinchine).
        """
        values = latents[self.carried]
        symbol = np.arange(len(values)) % ID_SYMBOLS
        sums = np.bincount(symbol, values * self.pad, ID_SYMBOLS)
        energy = np.bincount(symbol, values.astype(np.float64) ** 2, ID_SYMBOLS)
        scores: Signs = (sums / np.sqrt(energy + 1e-12)).astype(np.float32)
        return scores


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

        1. Chi-square of the carried part under every stream of every kept epoch.
        2. Decode the likeliest streams; the whole latent must agree with the decoded id, counted over all 2**64 ids
           that could have been decoded.
        3. Present when the fresh part, by itself, agrees too; else only suspected.

        Args:
            latents: float32 of the shape that was signed; any scale.

        Raises:
            WatermarkError: fewer than 2,304 elements, or values that are not finite.
        """
        flat = _flat(latents)
        scores = sorted(
            (
                (float((self._stream(epoch, index, len(flat)).soft_bits(flat) ** 2).sum()), epoch, index)
                for epoch in self._keyring.epochs
                for index in range(STREAMS)
            ),
            reverse=True,
        )
        tests = len(scores)
        best = self._by_chi_square(*scores[0][:2], tests)
        for _, epoch, index in scores[:DECODED_STREAMS]:
            reading = self._by_decoding(flat, epoch, index, tests)
            if reading is not None and (reading.verdict is MarkVerdict.PRESENT or reading.p_value < best.p_value):
                best = reading
            if best.verdict is MarkVerdict.PRESENT:
                break
        return best

    def _by_chi_square(self, statistic: float, epoch: int, tests: int) -> MarkReading:
        p_value = _p_value(log_chi_square_survival(statistic, ID_SYMBOLS), ROUTES * tests)
        found = p_value <= FALSE_POSITIVE_RATE
        return MarkReading(
            verdict=MarkVerdict.SUSPECTED if found else MarkVerdict.NOT_DETECTED,
            scheme=SCHEME,
            p_value=p_value,
            z=round((statistic - ID_SYMBOLS) / math.sqrt(2 * ID_SYMBOLS), 3),
            tests=tests,
            stage=STAGE,
            epoch=epoch if found else None,
        )

    def _by_decoding(self, flat: Latents, epoch: int, index: int, tests: int) -> MarkReading | None:
        """The reading of one stream's likeliest id; None when that says nothing."""
        soft = self._stream(epoch, index, len(flat)).soft_bits(flat)
        message = decode(soft)
        mark_id = np.packbits(message).tobytes().hex()
        if self._stream_of(mark_id, epoch) != index:
            return None
        signs = self._signs(mark_id, epoch, len(flat))
        z = _score(flat, signs)
        p_value = _p_value(_log_tail(z) + ID_BITS * math.log(2), ROUTES * tests)
        if p_value > FALSE_POSITIVE_RATE:
            return None
        fresh = self._stream(epoch, index, len(flat)).fresh
        present = _log_tail(_score(flat[fresh], signs[fresh])) <= math.log(FRESH_RATE)
        return MarkReading(
            verdict=MarkVerdict.PRESENT if present else MarkVerdict.SUSPECTED,
            scheme=SCHEME,
            p_value=p_value,
            z=round(z, 3),
            tests=tests,
            stage=STAGE,
            mark_id=mark_id if present else "",
            epoch=epoch,
            corrected_bits=int(((soft < 0) != encode(message)).sum()),
        )

    def _signs(self, mark_id: str, epoch: int, count: int) -> Signs:
        stream = self._stream(epoch, self._stream_of(mark_id, epoch), count)
        coded = encode(np.unpackbits(np.frombuffer(bytes.fromhex(mark_id), np.uint8)))
        signs = np.empty(count, np.float32)
        symbols = coded[np.arange(len(stream.carried)) % ID_SYMBOLS]
        signs[stream.carried] = stream.pad * (1 - 2 * symbols.astype(np.float32))
        key = self._keyring.derive(f"latent epoch {epoch} id {mark_id}")
        signs[stream.fresh] = _key_stream(key, len(stream.fresh)).signs(len(stream.fresh))
        return signs

    def _stream_of(self, mark_id: str, epoch: int) -> int:
        key = self._keyring.derive(f"latent epoch {epoch} choice")
        return hmac.digest(key, mark_id.encode("ascii"), hashlib.sha256)[0] % STREAMS

    def _stream(self, epoch: int, index: int, count: int) -> Stream:
        draws = _key_stream(self._keyring.derive(f"latent epoch {epoch} stream {index}"), 2 * count)
        order, fresh = draws.permutation(count), count // FRESH_SHARE
        return Stream(fresh=order[:fresh], carried=order[fresh:], pad=draws.signs(count - fresh))


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


def log_chi_square_survival(statistic: float, degrees: int) -> float:
    """Natural logarithm of P(chi-square > statistic) for an even number of degrees of freedom.

    The tail is that of a Poisson sum: exp(-x/2) times the sum over i < degrees/2 of (x/2)^i / i!.
    """
    half = statistic / 2
    if half <= 0:
        return 0.0
    powers = np.arange(degrees // 2)
    logs = powers * math.log(half) - np.array([math.lgamma(power + 1) for power in powers])
    peak = float(logs.max())
    return min(0.0, peak - half + math.log(float(np.exp(logs - peak).sum())))


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


def _key_stream(key: bytes, draws: int) -> KeyStream:
    """Expand a sub-key with ChaCha20; the nonce may be constant because each sub-key is used once."""
    return KeyStream(Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * draws)))
