"""The channel code: convolutional, constraint length 9, rate 1/4, tail-biting; soft Viterbi decoding.

Generators 765, 671, 513, 473 (octal) are the maximum-free-distance code of that length and rate
(Larsen 1973, free distance 24). Tail-biting (Ma and Wolf 1986): the register starts with the message's last bits, so
no energy goes into a tail.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from guardrails.watermark.payload import MESSAGE_BITS

MEMORY = 8
RATE = 4
GENERATORS = (0o765, 0o671, 0o513, 0o473)
CODED_BITS = MESSAGE_BITS * RATE

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


def encode(message: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Code a message of n >= 8 bits into 4 n coded bits (uint8 0/1); the register starts with the last 8 bits."""
    circle = np.concatenate([message[-MEMORY:], message]).astype(np.int64)
    registers = np.lib.stride_tricks.sliding_window_view(circle, MEMORY + 1) @ (1 << np.arange(MEMORY, -1, -1))
    parities: NDArray[np.uint8] = np.bitwise_count(registers[:, None] & np.array(GENERATORS)) & 1
    return parities.reshape(-1)


def decode(soft: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The most likely message, nearly: Viterbi 1967, once and a half around the circle.

    The start state is unknown; after half a lap the survivors have forgotten it, and half a lap before the end they
    have merged. The lap between is read.

    Args:
        soft: float32 of shape (4 n,), positive where the coded bit looks like 0.

    Returns:
        uint8 0/1 of shape (n,).
    """
    # States 2 s and 2 s + 1 are entered from s and from s + 128, so halves are added and no gathering is needed.
    metrics = (soft.reshape(-1, RATE) @ _SIGNS).reshape(-1, 2, 2, _STATES // 2)
    bits, half = len(metrics), len(metrics) // 2
    best = np.zeros(_STATES, np.float32)
    by_newest_bit = best.reshape(-1, 2).T
    came_from_high = np.empty((2 * bits, 2, _STATES // 2), bool)
    for step in range(2 * bits):
        low = best[: _STATES // 2] + metrics[step % bits, 0]
        high = best[_STATES // 2 :] + metrics[step % bits, 1]
        np.greater(high, low, out=came_from_high[step])
        np.maximum(low, high, out=by_newest_bit)
    path = _trace_back(came_from_high, int(best.argmax()))
    return np.roll(path[half : half + bits], half)


def _trace_back(came_from_high: NDArray[np.bool_], state: int) -> NDArray[np.uint8]:
    """Follow the survivor that ends in `state` to the start: one bit for each step."""
    bits = np.empty(len(came_from_high), np.uint8)
    for step in range(len(bits) - 1, -1, -1):
        bits[step] = state & 1
        state = state >> 1 | int(came_from_high[step, state & 1, state >> 1]) << (MEMORY - 1)
    return bits
