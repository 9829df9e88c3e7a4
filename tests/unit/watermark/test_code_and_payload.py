from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.errors import WatermarkError
from guardrails.watermark.coding import CODED_BITS, decode, encode
from guardrails.watermark.payload import MESSAGE_BITS, Payload

KEY = b"k" * 32


def send(message: np.ndarray) -> np.ndarray:
    return 1 - 2 * encode(message).astype(np.float32)


@given(st.integers(0, 2**64 - 1), st.integers(0, 63), st.integers(0, 63))
@settings(max_examples=50)
def test_a_payload_comes_back_from_its_bits(number: int, epoch: int, flags: int) -> None:
    payload = Payload(mark_id=f"{number:016x}", epoch=epoch, flags=flags)
    bits = payload.to_bits(KEY)
    assert bits.shape == (MESSAGE_BITS,)
    assert Payload.from_bits(bits, KEY, epoch) == payload
    assert Payload.from_bits(bits, KEY, (epoch + 1) % 64) is None


def test_every_single_wrong_bit_fails_the_check() -> None:
    bits = Payload(mark_id="0123456789abcdef", epoch=5).to_bits(KEY)
    for position in range(MESSAGE_BITS):
        wrong = bits.copy()
        wrong[position] ^= 1
        assert Payload.from_bits(wrong, KEY, 5) is None


def test_a_foreign_key_fails_the_check() -> None:
    bits = Payload(mark_id="0123456789abcdef", epoch=5).to_bits(KEY)
    accepted = sum(Payload.from_bits(bits, bytes([n]) * 32, 5) is not None for n in range(107, 207))
    assert accepted == 1  # 107 is "k", the right key


@pytest.mark.parametrize("field", [{"mark_id": "0123"}, {"mark_id": "0123456789ABCDEF"}, {"epoch": 64}, {"flags": 64}])
def test_a_field_that_does_not_fit_is_refused(field: dict[str, object]) -> None:
    with pytest.raises(WatermarkError):
        Payload(**({"mark_id": "0123456789abcdef", "epoch": 0} | field))  # type: ignore[arg-type]


def test_the_code_has_the_known_free_distance() -> None:
    """Larsen 1973: 24 for rate 1/4, constraint length 9."""
    lightest = CODED_BITS
    for number in range(1, 1 << 10):
        message = np.zeros(MESSAGE_BITS, np.uint8)
        message[40:50] = [number >> i & 1 for i in range(10)]
        lightest = min(lightest, int(encode(message).sum()))
    assert lightest == 24


def test_eleven_wrong_coded_bits_are_always_corrected() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        message = rng.integers(0, 2, MESSAGE_BITS).astype(np.uint8)
        soft = send(message)
        soft[rng.choice(CODED_BITS, 11, replace=False)] *= -1
        assert np.array_equal(decode(soft), message)


def test_soft_values_decode_through_noise_that_flips_a_fifth_of_the_bits() -> None:
    rng = np.random.default_rng(2)
    right = 0
    for _ in range(40):
        message = rng.integers(0, 2, MESSAGE_BITS).astype(np.uint8)
        soft = (send(message) + rng.normal(0, 1.2, CODED_BITS)).astype(np.float32)
        assert 0.12 < np.mean((soft < 0) != (send(message) < 0)) < 0.30
        right += np.array_equal(decode(soft), message)
    assert right >= 36


@pytest.mark.parametrize("bits", [16, 64, 86])
def test_any_length_is_coded_around_the_circle(bits: int) -> None:
    message = np.random.default_rng(bits).integers(0, 2, bits).astype(np.uint8)
    coded = encode(message)
    assert coded.shape == (4 * bits,)
    assert np.array_equal(encode(np.roll(message, 1)), np.roll(coded, 4))
    assert np.array_equal(decode(1 - 2 * coded.astype(np.float32)), message)
