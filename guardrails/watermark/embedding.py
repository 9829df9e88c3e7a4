"""The embedder: shape the tile to the host, hide it, make it survive JPEG, and prove it by reading it back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.domain.images import MarkEmbedding, MarkVerdict
from guardrails.imaging import Pixels
from guardrails.watermark.carrier import FLAT_INDEX, RADIUS, TILE, Carrier
from guardrails.watermark.coding import encode
from guardrails.watermark.detection import SCHEME, Detector
from guardrails.watermark.frame import (
    SHORT_SIDE,
    Plane,
    band_of,
    blur,
    canonical,
    canonical_size,
    fold,
    luma,
    require_markable,
    resize,
    whiten,
)
from guardrails.watermark.keys import EpochKeys
from guardrails.watermark.payload import Payload
from guardrails.watermark.protocol import Embedded
from guardrails.watermark.quantisation import BLOCK, DeadZone
from guardrails.watermark.synchronisation import Band, ring_rms

# Start with one grey level rms in flat areas and as much in texture as 42 dB allow; the self-check may raise both.
_PSNR_GOAL, _PSNR_FLOOR = 42.4, 41.0
_FLAT_RMS = 0.88
_STEP_DB, _STEPS = 0.5, 8
# Room for the mark in pixels that are saturated, for example on white paper: without it half of the mark is clipped.
_HEADROOM = 1.5
# Half-informed: a bin where the host already says the right thing is written more weakly, and the reverse.
_HOST_FEEDBACK, _WEAKEST, _STRONGEST = 0.5, 0.25, 2.2
_TILT_RADIUS, _TILT = 6.0, 0.8
_MASK_GAIN, _MASK_EXPONENT, _MASK_LIMIT = 0.33, 0.75, 10.0
_SELF_CHECK_QUALITY = 50


def embed(pixels: Pixels, payload: Payload, keys: EpochKeys) -> Embedded:
    """Mark RGB uint8 pixels.

    The amplitude rises in steps of 0.5 dB, never below a PSNR of 41 dB, until the mark is read back after JPEG
    quality 50 and after halving the size. When no step passes, the strongest one is returned with `robust` False.

    Raises:
        WatermarkError: the pixels cannot carry a mark, see `frame.require_markable`.
    """
    require_markable(pixels)
    host = luma(pixels)
    coded = encode(payload.to_bits(keys.check_key))
    tiles = tiles_of(host, keys.carrier_of(payload.mark_id), coded)
    robust = False
    for attempt in _attempts(pixels, host, tiles):
        robust = _survives(attempt.pixels, payload, keys)
        if robust:
            break
    reading = Detector((keys,)).read_aligned(attempt.pixels)
    return Embedded(
        pixels=attempt.pixels,
        embedding=MarkEmbedding(
            scheme=SCHEME,
            mark_id=payload.mark_id,
            epoch=payload.epoch,
            psnr=round(attempt.psnr, 2),
            robust=robust,
            strength_db=attempt.strength_db,
            p_value=reading.p_value,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    pixels: Pixels
    psnr: float
    strength_db: float


def _attempts(pixels: Pixels, host: Plane, tiles: Plane) -> Iterator[_Attempt]:
    """The same mark, stronger each time; the first is always yielded, later ones only above the PSNR floor."""
    excess = _mask(host) - 1
    room = pixels.astype(np.float32).clip(_HEADROOM, 255 - _HEADROOM)
    spent = float(np.mean((room - pixels) ** 2))
    zone = DeadZone(host, period=round(TILE * min(host.shape) / SHORT_SIDE / BLOCK))
    for step in range(_STEPS + 1):
        strength_db = step * _STEP_DB
        goal = max(_PSNR_GOAL - strength_db, _PSNR_FLOOR)
        amplitude = _FLAT_RMS * 10 ** (strength_db / 20)
        left = 255**2 / 10 ** (goal / 10) - spent
        share = _excess_share(tiles, excess, left / amplitude**2)
        residual = zone.harden(np.float32(amplitude) * tiles * (1 + np.float32(share) * excess))
        marked = np.clip(np.rint(room + residual[..., None]), 0, 255).astype(np.uint8)
        psnr = _psnr(pixels, marked)
        if step > 0 and psnr < _PSNR_FLOOR:
            return
        yield _Attempt(pixels=marked, psnr=psnr, strength_db=strength_db)


def _excess_share(tiles: Plane, excess: Plane, power: float) -> float:
    """The share s in [0, 1] for which tiles * (1 + s * excess) has at most this mean square.

    The texture gives way before the flat areas do: a drawing with many hard edges would otherwise spend its whole PSNR
    there, and the flat areas, where the mark is read best, would get nothing.
    """
    louder = tiles * excess
    quadratic, linear = float(np.mean(louder * louder)), float(np.mean(tiles * louder))
    missing = power - float(np.mean(tiles * tiles))
    if missing <= 0 or quadratic == 0:
        return 0.0
    return min(1.0, (math.sqrt(linear * linear + quadratic * missing) - linear) / quadratic)


def _psnr(one: Pixels, other: Pixels) -> float:
    error = float(np.mean((one.astype(np.float32) - other) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _survives(marked: Pixels, payload: Payload, keys: EpochKeys) -> bool:
    """Read back after the two attacks of the self-check."""
    height, width = marked.shape[:2]
    smaller: Pixels = cv2.resize(  # type: ignore[assignment]
        marked, (width // 2, height // 2), interpolation=cv2.INTER_AREA
    )
    for attacked in (_jpeg(marked, _SELF_CHECK_QUALITY), smaller):
        reading = Detector((keys,)).read_aligned(attacked)
        if reading.verdict is not MarkVerdict.PRESENT or reading.mark_id != payload.mark_id:
            return False
    return True


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: Pixels = cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return np.ascontiguousarray(decoded[..., ::-1])


def tiles_of(host: Plane, carrier: Carrier, coded: NDArray[np.uint8]) -> Plane:
    """The mark at the size of the host, of unit standard deviation everywhere."""
    height, width = host.shape
    spectrum = np.zeros(TILE * (TILE // 2 + 1), np.complex64)
    spectrum[FLAT_INDEX] = _shaped(host, carrier.wanted(coded))
    tile = np.fft.irfft2(spectrum.reshape(TILE, -1)).astype(np.float32)
    tile /= tile.std()
    rows, columns = canonical_size(height, width)
    tiled = np.tile(tile, (-(-rows // TILE), -(-columns // TILE)))[:rows, :columns]
    return resize(np.ascontiguousarray(tiled), height, width)


def _shaped(host: Plane, wanted: Band) -> Band:
    """Give every bin its amplitude, knowing what the host already has there."""
    present = band_of(fold(whiten(canonical(host))))
    present = present / ring_rms(present)
    real = 1 - _HOST_FEEDBACK * present.real * np.sign(wanted.real)
    imaginary = 1 - _HOST_FEEDBACK * present.imag * np.sign(wanted.imag)
    gain = wanted.real * real.clip(_WEAKEST, _STRONGEST) + 1j * wanted.imag * imaginary.clip(_WEAKEST, _STRONGEST)
    shaped: Band = gain * np.maximum(RADIUS, _TILT_RADIUS) ** -_TILT
    return shaped.astype(np.complex64)


def _mask(host: Plane) -> Plane:
    """How much louder than in a flat area the mark may be: 1 in flat areas, up to 10 in texture.

    The least energy of four diagonally displaced windows decides, so that the flat side of an edge stays flat.
    """
    scale = min(host.shape) / SHORT_SIDE
    detail = host - blur(host, 2.2 * scale)
    energy = blur(detail * detail, 2 * scale)
    reach = max(1, round(5 * scale))
    padded = cv2.copyMakeBorder(energy, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
    height, width = host.shape
    least = energy
    for down in (0, 2 * reach):
        for along in (0, 2 * reach):
            least = np.minimum(least, padded[down : down + height, along : along + width])
    texture = blur(np.sqrt(least), scale)
    mask: Plane = np.minimum(1 + _MASK_GAIN * texture**_MASK_EXPONENT, _MASK_LIMIT)
    return mask
