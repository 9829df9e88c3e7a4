"""The embedder: shape the tile to the host, hide it, make it survive JPEG, and prove it by reading it back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.domain.images import MarkEmbedding, MarkReading, MarkVerdict
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
    fold,
    luma,
    require_markable,
    resize,
    whiten,
)
from guardrails.watermark.keys import EpochKeys
from guardrails.watermark.payload import Payload
from guardrails.watermark.protocol import Embedded
from guardrails.watermark.quantisation import harden
from guardrails.watermark.synchronisation import Band, ring_level

# Start with less than one grey level rms in flat areas and as much in texture as the mask and the goal allow; the
# self-check may raise both.
_PSNR_GOAL, _PSNR_FLOOR = 41.8, 41.0
_FLAT_RMS = 0.84
_STEP_DB, _STEPS = 0.5, 8
# Room for the mark in pixels that are saturated, for example on white paper: without it half of the mark is clipped.
# Less than half a grey level keeps the whole change within one level rms; when the self-check fails, it gets more.
_HEADROOM = (0.4, 1.0, 2.0)
# Half-informed: a bin where the host already says the right thing is written more weakly, and the reverse.
_HOST_FEEDBACK, _WEAKEST, _STRONGEST = 0.5, 0.25, 2.2
TILT_RADIUS, TILT = 6.0, 0.8
_MASK_GAIN, _MASK_EXPONENT, _MASK_LIMIT = 0.33, 0.75, 10.0
_DETAIL_SIGMA, _ENERGY_SIGMA, _REACH = 2.2, 2.0, 5
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
    frame = canonical(host)
    tiles = tiles_of(frame, keys.carrier_of(payload.mark_id), encode(payload.to_bits(keys.check_key)))
    for attempt in _attempts(pixels, host, tiles, mask_of(frame) - 1):
        readings = []
        for reading in _attacked_readings(attempt.luma, keys):
            readings.append(reading)
            if not _says(payload, reading):
                break
        else:
            break
    robust = _says(payload, readings[-1])
    # What is read after JPEG can be read before.
    proof = readings[0] if robust else _read(attempt.luma, keys)
    return Embedded(
        pixels=attempt.pixels,
        embedding=MarkEmbedding(
            scheme=SCHEME,
            mark_id=payload.mark_id,
            epoch=payload.epoch,
            psnr=round(attempt.psnr, 2),
            robust=robust,
            strength_db=attempt.strength_db,
            p_value=proof.p_value,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """Marked pixels. `luma` is uint8 of shape (height, width), as JPEG codes it."""

    pixels: Pixels
    luma: NDArray[np.uint8]
    psnr: float
    strength_db: float


def _attempts(pixels: Pixels, host: Plane, tiles: Plane, excess: Plane) -> Iterator[_Attempt]:
    """The same mark, stronger each time; the first is always yielded, later ones only above the PSNR floor.

    Args:
        tiles, excess: the mark and how much louder than in flat areas it may be, both in the canonical frame.
    """
    unit = min(host.shape) / SHORT_SIDE
    for step in range(_STEPS + 1):
        headroom = _HEADROOM[min(step, len(_HEADROOM) - 1)]
        missing = _missing_room(pixels, headroom)
        spent = float(np.mean(missing * missing))
        strength_db = step * _STEP_DB
        goal = max(_PSNR_GOAL - strength_db, _PSNR_FLOOR)
        amplitude = _FLAT_RMS * 10 ** (strength_db / 20)
        left = 255**2 / 10 ** (goal / 10) - spent
        share = _excess_share(tiles, excess, left / amplitude**2)
        residual = _enlarged(np.float32(amplitude) * tiles * (1 + np.float32(share) * excess), *host.shape)
        marked = _added(pixels, harden(host, residual, unit) + missing)
        psnr = _psnr(_square_error(pixels, marked))
        if step > 0 and psnr < _PSNR_FLOOR:
            return
        grey: NDArray[np.uint8] = cv2.cvtColor(marked, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
        yield _Attempt(pixels=marked, luma=grey, psnr=psnr, strength_db=strength_db)


def _enlarged(residual: Plane, height: int, width: int) -> Plane:
    """Resample from the canonical frame to the picture and keep the mean square, which shrinking would lower."""
    resampled = resize(residual, height, width)
    power, kept = (float(cv2.norm(plane, cv2.NORM_L2SQR)) / plane.size for plane in (residual, resampled))
    return resampled * np.float32(math.sqrt(power / (kept + 1e-12)))


def _missing_room(pixels: Pixels, headroom: float) -> Plane:
    """What brings saturated pixels so far from white and black that the mark is not clipped: float32, -2..2."""
    red, green, blue = cv2.split(pixels)
    brightest, darkest = (np.asarray(extreme(extreme(red, green), blue), np.float32) for extreme in (cv2.max, cv2.min))
    room: Plane = np.maximum(headroom - darkest, 0) - np.maximum(brightest - (255 - headroom), 0)
    return room


def _added(pixels: Pixels, residual: Plane) -> Pixels:
    """Add the rounded residual to all three channels, saturating."""
    steps = cv2.merge([np.rint(residual).astype(np.int16)] * 3)
    return cv2.add(pixels, steps, dtype=cv2.CV_8U)  # type: ignore[return-value]


def _square_error(one: Pixels, other: Pixels) -> float:
    return float(cv2.norm(one, other, cv2.NORM_L2SQR)) / one.size


def _psnr(square_error: float) -> float:
    return math.inf if square_error == 0 else 10 * math.log10(255**2 / square_error)


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


def _attacked_readings(marked: NDArray[np.uint8], keys: EpochKeys) -> Iterator[MarkReading]:
    """Read back after the two attacks of the self-check; they need the luma alone."""
    yield _read(_jpeg(marked, _SELF_CHECK_QUALITY), keys)
    height, width = marked.shape
    # A picture twice as large as the canonical frame is halved by every reading anyway.
    if min(height, width) < 2 * SHORT_SIDE:
        smaller = cv2.resize(marked, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        yield _read(smaller, keys)  # type: ignore[arg-type]


def _read(luma: NDArray[np.uint8], keys: EpochKeys) -> MarkReading:
    return Detector((keys,)).read_aligned(canonical(luma.astype(np.float32)))


def _says(payload: Payload, reading: MarkReading) -> bool:
    return reading.verdict is MarkVerdict.PRESENT and reading.mark_id == payload.mark_id


def _jpeg(grey: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)  # type: ignore[return-value]


def tiles_of(frame: Plane, carrier: Carrier, coded: NDArray[np.uint8]) -> Plane:
    """The mark for a canonical luma frame, of its shape and of unit standard deviation everywhere."""
    rows, columns = frame.shape
    spectrum = np.zeros(TILE * (TILE // 2 + 1), np.complex64)
    spectrum[FLAT_INDEX] = _shaped(frame, carrier.wanted(coded))
    tile = np.fft.irfft2(spectrum.reshape(TILE, -1)).astype(np.float32)
    tile /= tile.std()
    return np.tile(tile, (-(-rows // TILE), -(-columns // TILE)))[:rows, :columns]


def _shaped(frame: Plane, wanted: Band) -> Band:
    """Give every bin its amplitude, knowing what the host already has there."""
    present = band_of(fold(whiten(frame)))
    present = present / ring_level(present)
    real = 1 - _HOST_FEEDBACK * present.real * np.sign(wanted.real)
    imaginary = 1 - _HOST_FEEDBACK * present.imag * np.sign(wanted.imag)
    gain = wanted.real * real.clip(_WEAKEST, _STRONGEST) + 1j * wanted.imag * imaginary.clip(_WEAKEST, _STRONGEST)
    shaped: Band = gain * np.maximum(RADIUS, TILT_RADIUS) ** -TILT
    return shaped.astype(np.complex64)


def mask_of(frame: Plane) -> Plane:
    """How much louder than in a flat area the mark may be: 1 in flat areas, up to 10 in texture.

    The least energy of four diagonally displaced windows decides, so that the flat side of an edge stays flat.
    """
    detail = frame - blur(frame, _DETAIL_SIGMA)
    energy = blur(detail * detail, _ENERGY_SIGMA)
    padded = cv2.copyMakeBorder(energy, _REACH, _REACH, _REACH, _REACH, cv2.BORDER_REFLECT_101)
    height, width = frame.shape
    least = energy
    for down in (0, 2 * _REACH):
        for along in (0, 2 * _REACH):
            least = np.minimum(least, padded[down : down + height, along : along + width])
    texture = blur(np.sqrt(least), 1.0)
    mask: Plane = np.minimum(1 + _MASK_GAIN * texture**_MASK_EXPONENT, _MASK_LIMIT)
    return mask
