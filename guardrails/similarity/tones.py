"""Do two pictures agree in colour, after one change of all colours that an edit or a decoder may have made?

No change but a slight shift is enough when nearly all tiles bear it out; else the change that most tiles bear out:

1. same: one shift of all colours, bounded: a tint is forgiven, another colour of the same shape is not.
2. toned: a gain, or a gain and an offset, for each channel, bounded: brightness, contrast, white balance.
3. turned hue: all hues turned by one angle, where the reference has several hues. A blue heart is a red heart turned;
   only a drawing of several colours can show that it was the same drawing.
4. grey: no colour at all, where the reference's brightness alone tells its parts from each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAME, TONED, TURNED, GREY, OTHER = "same", "toned", "turned hue", "grey", ""

_MAX_SHIFT = 24.0
_MAX_DISTANCE = 32.0
_MAX_CHROMA_DISTANCE = 20.0
_GAIN = 0.55, 1.8
_OFFSET = 70.0
_BLACK, _DARK, _WHITE = 6, 30, 249
# Of the tiles of equal structure. White parts of a drawing do not change with the others when the plain background,
# and what has its colour, is painted white: a change need not explain all.
_NEARLY_ALL, _MOST = 0.8, 0.6
_MIN_TILES = 8
# Second standard deviation of the chroma, in levels: below it all colours lie on one line through grey.
_MIN_HUES = 7.0
_MAX_GREY_CHROMA = 6.0
# BT.601, RGB to Cb and Cr.
_CHROMA = np.array([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float32)


def tone_agreement(
    seen: NDArray[np.float32], wanted: NDArray[np.float32], structure: NDArray[np.bool_]
) -> tuple[str, NDArray[np.bool_]]:
    """Which change of colours fits, and in which tiles.

    Args:
        seen, wanted: mean colours by tile, 0..255, (10, 10, 3).
        structure: bool (10, 10), tiles whose structure is the same; changes are fitted to these.

    Returns:
        The change's name, "" when none fits, and bool (10, 10): tiles whose colours agree under it.
    """
    same = _distance(seen - wanted - _shift(seen, wanted, structure)) <= _MAX_DISTANCE
    if structure.sum() < _MIN_TILES or _borne_out(same, structure) >= _NEARLY_ALL:
        return SAME, same
    changes = [
        (TONED, _dimmed(seen, wanted, structure)),
        (TONED, _toned(seen, wanted, structure)),
        (TURNED, _turned(seen, wanted, structure)),
        (GREY, _grey(seen, wanted, structure)),
    ]
    name, agrees = max(changes, key=lambda change: _borne_out(change[1], structure))
    return (name, agrees) if _borne_out(agrees, structure) >= _MOST else (OTHER, same)


def _borne_out(agrees: NDArray[np.bool_], structure: NDArray[np.bool_]) -> float:
    """Share of the tiles of equal structure that a change explains."""
    return float((agrees & structure).sum() / structure.sum())


def _distance(difference: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.abs(difference).max(axis=2), dtype=np.float32)


def _shift(seen: NDArray[np.float32], wanted: NDArray[np.float32], structure: NDArray[np.bool_]) -> NDArray[np.float32]:
    if not structure.any():
        return np.zeros(3, np.float32)
    return np.asarray(np.clip(np.median((seen - wanted)[structure], axis=0), -_MAX_SHIFT, _MAX_SHIFT), np.float32)


def _dimmed(seen: NDArray[np.float32], wanted: NDArray[np.float32], structure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    x, y = wanted[structure], seen[structure]
    ratio = np.where((x > _DARK) & (y < _WHITE), y / np.maximum(x, 1), np.nan)
    known = ~np.isnan(ratio).all(axis=0)
    gain = np.ones(3, np.float32)
    gain[known] = np.clip(np.nanmedian(ratio[:, known], axis=0), *_GAIN)
    return np.asarray(_distance(seen - np.clip(gain * wanted, 0, 255)) <= _MAX_DISTANCE, dtype=np.bool_)


def _toned(seen: NDArray[np.float32], wanted: NDArray[np.float32], structure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    fitted = np.empty_like(wanted)
    for channel in range(3):
        x, y = wanted[..., channel][structure], seen[..., channel][structure]
        # What was cut off at black or white tells nothing of the gain.
        free = (y > _BLACK) & (y < _WHITE)
        x, y = (x[free], y[free]) if free.sum() >= _MIN_TILES else (x, y)
        # By spread, not by least squares: the latter is drawn to zero by noise.
        gain = float(np.clip(y.std() / max(float(x.std()), 1e-3), *_GAIN))
        offset = float(np.clip(np.median(y - gain * x), -_OFFSET, _OFFSET))
        fitted[..., channel] = np.clip(gain * wanted[..., channel] + offset, 0, 255)
    return np.asarray(_distance(seen - fitted) <= _MAX_DISTANCE, dtype=np.bool_)


def _turned(seen: NDArray[np.float32], wanted: NDArray[np.float32], structure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    z, w = _chroma(seen), _chroma(wanted)
    if not _several_hues(w[structure]):
        return np.zeros(structure.shape, np.bool_)
    cross = np.sum(z[structure] * np.conj(w[structure]))
    turned = w * np.exp(1j * np.angle(cross))
    light = (seen - wanted).mean(axis=2)
    same_light = np.abs(light - np.median(light[structure])) <= _MAX_DISTANCE
    return np.asarray((np.abs(z - turned) <= _MAX_CHROMA_DISTANCE) & same_light, dtype=np.bool_)


def _grey(seen: NDArray[np.float32], wanted: NDArray[np.float32], structure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if np.median(np.abs(_chroma(seen)[structure])) > _MAX_GREY_CHROMA:
        return np.zeros(structure.shape, np.bool_)
    light = wanted @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.asarray(np.abs(seen.mean(axis=2) - light) <= _MAX_DISTANCE, dtype=np.bool_)


def _chroma(colours: NDArray[np.float32]) -> NDArray[np.complex64]:
    cb, cr = np.moveaxis(colours @ _CHROMA.T, -1, 0)
    return np.asarray(cb + 1j * cr, dtype=np.complex64)


def _several_hues(chroma: NDArray[np.complex64]) -> bool:
    """Whether the colours leave a line through grey."""
    points = np.stack([chroma.real, chroma.imag])
    smaller = np.linalg.eigvalsh(points @ points.T / points.shape[1])[0]
    return bool(np.sqrt(max(float(smaller), 0.0)) >= _MIN_HUES)
