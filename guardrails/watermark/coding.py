"""The channel code: convolutional, constraint length 9, rate 1/4, ended by a zero tail; soft Viterbi decoding.

Generators 765, 671, 513, 473 (octal) are the maximum-free-distance code of that length and rate
(Larsen 1973, free distance 24).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from guardrails.watermark.payload import MESSAGE_BITS

MEMORY = 8
RATE = 4
GENERATORS = (0o765, 0o671, 0o513, 0o473)
STEPS = MESSAGE_BITS + MEMORY
CODED_BITS = STEPS * RATE

_STATES = 1 << MEMORY


def _branch_signs() -> NDArray[np.float32]:
    """Sent symbols (+1 for bit 0) of the two branches that enter each state, shape (4, 2 * 256).

    A state is the last 8 bits, newest lowest. State s is entered from s >> 1 and from (s >> 1) + 128.
    """
    states = np.arange(_STATES)
    signs = np.empty((RATE, 2, _STATES), np.float32)
    for branch in (0, 1):
        register = branch << MEMORY | states
        for output, generator in enumerate(GENERATORS):
            parity = np.bitwise_count(register & generator) & 1
            signs[output, branch] = np.where(parity == 1, -1.0, 1.0)
    return signs.reshape(RATE, 2 * _STATES)


_SIGNS = _branch_signs()
_FROM_LOW = np.arange(_STATES) >> 1
_NEWEST_BIT = np.arange(_STATES) & 1
# Far below any sum of 416 clipped soft values, yet exact in float32 when added to them.
_IMPOSSIBLE = np.float32(-1e6)


def encode(message: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Code a message of n bits into 4 (n + 8) coded bits (uint8 0/1): 96 into 416 for the pixel mark."""
    padded = np.concatenate([np.zeros(MEMORY, np.int64), message.astype(np.int64), np.zeros(MEMORY, np.int64)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, MEMORY + 1)
    registers = windows @ (1 << np.arange(MEMORY, -1, -1))
    parities: NDArray[np.uint8] = np.bitwise_count(registers[:, None] & np.array(GENERATORS)) & 1
    return parities.reshape(-1)


def decode(soft: NDArray[np.float32], prefix: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The most likely message (maximum-likelihood sequence, Viterbi 1967).

    Args:
        soft: float32 of shape (4 (n + 8),), positive where the coded bit looks like 0.
        prefix: message bits that are known beforehand, shape (n,); the paths that contradict them are closed.

    Returns:
        uint8 0/1 of shape (n,).
    """
    steps = len(soft) // RATE
    metrics = (soft.reshape(steps, RATE) @ _SIGNS).reshape(steps, 2, _STATES)
    best = np.full(_STATES, _IMPOSSIBLE)
    best[0] = 0.0
    came_from_high = np.empty((steps, _STATES), bool)
    for step in range(steps):
        low = best[_FROM_LOW] + metrics[step, 0]
        high = best[_FROM_LOW + _STATES // 2] + metrics[step, 1]
        came_from_high[step] = high > low
        best = np.maximum(low, high)
        if step < len(prefix):
            best[prefix[step] != _NEWEST_BIT] = _IMPOSSIBLE
    return _trace_back(came_from_high)


def _trace_back(came_from_high: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Follow the survivors from the zero state, where the tail ends, to the start."""
    steps = len(came_from_high)
    bits = np.empty(steps, np.uint8)
    state = 0
    for step in range(steps - 1, -1, -1):
        bits[step] = state & 1
        state = state >> 1 | int(came_from_high[step, state]) << (MEMORY - 1)
    return bits[:-MEMORY]
