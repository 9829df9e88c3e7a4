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

    A state is the last 8 bits, newest lowest. State s is entered from s >> 1 and from (s >> 1) + 128. Within a branch
    the states whose newest bit is 0 come first.
    """
    states = np.arange(_STATES)
    signs = np.empty((RATE, 2, _STATES), np.float32)
    for branch in (0, 1):
        register = branch << MEMORY | states
        for output, generator in enumerate(GENERATORS):
            parity = np.bitwise_count(register & generator) & 1
            signs[output, branch] = np.where(parity == 1, -1.0, 1.0)
    by_newest_bit = signs.reshape(RATE, 2, _STATES // 2, 2).swapaxes(2, 3)
    return by_newest_bit.reshape(RATE, 2 * _STATES)


_SIGNS = _branch_signs()
# Far below any sum of 416 clipped soft values, yet exact in float32 when added to them.
_IMPOSSIBLE = np.float32(-1e6)


def encode(message: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Code a message of 96 bits into 416 coded bits (uint8 0/1)."""
    padded = np.concatenate([np.zeros(MEMORY, np.int64), message.astype(np.int64), np.zeros(MEMORY, np.int64)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, MEMORY + 1)
    registers = windows @ (1 << np.arange(MEMORY, -1, -1))
    parities: NDArray[np.uint8] = np.bitwise_count(registers[:, None] & np.array(GENERATORS)) & 1
    return parities.reshape(-1)


def decode(soft: NDArray[np.float32], prefix: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The most likely message (maximum-likelihood sequence, Viterbi 1967).

    Args:
        soft: float32 of shape (416,), positive where the coded bit looks like 0.
        prefix: message bits that are known beforehand, shape (n,); the paths that contradict them are closed.

    Returns:
        uint8 0/1 of shape (96,).
    """
    # States 2 s and 2 s + 1 are entered from s and from s + 128, so halves are added and no gathering is needed.
    metrics = (soft.reshape(STEPS, RATE) @ _SIGNS).reshape(STEPS, 2, 2, _STATES // 2)
    best = np.full(_STATES, _IMPOSSIBLE)
    best[0] = 0.0
    by_newest_bit = best.reshape(-1, 2).T
    came_from_high = np.empty((STEPS, 2, _STATES // 2), bool)
    for step in range(STEPS):
        low = best[: _STATES // 2] + metrics[step, 0]
        high = best[_STATES // 2 :] + metrics[step, 1]
        np.greater(high, low, out=came_from_high[step])
        np.maximum(low, high, out=by_newest_bit)
        if step < len(prefix):
            by_newest_bit[1 - prefix[step]] = _IMPOSSIBLE
    return _trace_back(came_from_high)


def _trace_back(came_from_high: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Follow the survivors from the zero state, where the tail ends, to the start."""
    bits = np.empty(STEPS, np.uint8)
    state = 0
    for step in range(STEPS - 1, -1, -1):
        bits[step] = state & 1
        state = state >> 1 | int(came_from_high[step, state & 1, state >> 1]) << (MEMORY - 1)
    return bits[:MESSAGE_BITS]
