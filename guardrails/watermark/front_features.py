"""What the learned front end sees: a canonical luma frame as three planes, folded into half the resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from guardrails.watermark.frame import Plane, blur, whiten

# Pixels of each 2 x 2 block become channels: the same receptive field at a quarter of the cost.
BLOCK = 2
OUTPUTS = BLOCK * BLOCK
CHANNELS = 3 * OUTPUTS

_SIGMA = 2.2


def features(frame: Plane) -> NDArray[np.float32]:
    """The whitened frame, detail over its local level, and the logarithm of that level.

    Args:
        frame: luma, float32 of shape (height, width), 0..255.

    Returns:
        float32 of shape (1, 12, ceil(height / 2), ceil(width / 2)); odd sides are padded by repeating.
    """
    height, width = frame.shape
    padded = np.pad(frame, ((0, height % BLOCK), (0, width % BLOCK)), mode="edge")
    detail = padded - blur(padded, _SIGMA)
    level = np.sqrt(blur(detail * detail, _SIGMA) + 1)
    return gather(np.stack([whiten(padded), detail / level, np.log(level) / 2 - 1]))


def gather(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blocks to channels: (n, height, width) to (1, 4 n, height / 2, width / 2)."""
    count, height, width = planes.shape
    blocks = planes.reshape(count, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(blocks.reshape(1, count * BLOCK * BLOCK, height // BLOCK, width // BLOCK))


def scatter(output: NDArray[np.float32], height: int, width: int) -> Plane:
    """Channels back to blocks: (1, 4, rows, columns) to a plane of shape (height, width)."""
    rows, columns = output.shape[2:]
    blocks = output.reshape(BLOCK, BLOCK, rows, columns).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(blocks.reshape(rows * BLOCK, columns * BLOCK)[:height, :width])
