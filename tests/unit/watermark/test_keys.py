from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from guardrails.errors import KeyMaterialError
from guardrails.watermark.carrier import BINS, DATA_DIMENSIONS
from guardrails.watermark.coding import CODED_BITS
from guardrails.watermark.keys import Keyring


def fingerprint(keyring: Keyring) -> str:
    """Hash of everything that a release must not change, free of the last bits of floating point."""
    digest = hashlib.sha256()
    keys = keyring.keys(0)
    for carrier in keys.pool.carriers:
        degrees = np.rint(np.degrees(np.angle(carrier.phasors)) * 100).astype("<i4")
        for part in (carrier.pilot, carrier.data, carrier.bit_of, carrier.signs):
            digest.update(part.astype("<i4").tobytes())
        digest.update(degrees.tobytes())
    digest.update(keys.check_key + keys.choice_key)
    return digest.hexdigest()


def test_the_derivation_is_frozen(keyring: Keyring) -> None:
    """A change here makes every mark in the world unreadable."""
    assert fingerprint(keyring) == "d2b2905810a076d831cf9009e0357b7dc31b3d422e3a41cb172a8651fdbf167b"
    assert keyring.keys(0).pilot_of("0123456789abcdef") == 4


def test_a_carrier_uses_each_bin_once_and_each_coded_bit_three_or_four_times(keyring: Keyring) -> None:
    for carrier in keyring.keys(3).pool.carriers[:8]:
        assert sorted([*carrier.pilot, *carrier.data]) == list(range(BINS))
        uses = np.bincount(carrier.bit_of, minlength=CODED_BITS)
        assert uses.sum() == DATA_DIMENSIONS
        assert set(uses) == {3, 4}


def test_epochs_and_pilots_are_unrelated(keyring: Keyring) -> None:
    first, second = keyring.keys(0), keyring.keys(1)
    assert first.check_key != second.check_key
    bands = [np.zeros(BINS, complex) for _ in range(3)]
    for band, carrier in zip(
        bands, (first.pool.carriers[0], first.pool.carriers[1], second.pool.carriers[0]), strict=True
    ):
        band[carrier.pilot] = carrier.phasors
    for one, other in ((0, 1), (0, 2)):
        assert abs(np.vdot(bands[one], bands[other])) < 35  # about 7 expected of 193 unit phasors


def test_ids_spread_over_the_pool(keyring: Keyring) -> None:
    keys = keyring.keys(0)
    assert len({keys.pilot_of(f"{n:016x}") for n in range(1000)}) == 64


def test_a_key_is_created_once_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = Keyring.load_or_create(folder)
    file = folder / "watermark.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_bytes()) == 32
    assert fingerprint(Keyring.load_or_create(folder)) == fingerprint(made)
    assert sorted(path.name for path in folder.iterdir()) == ["watermark.key"]
    assert file.read_bytes().hex() not in repr(made)


def test_the_epoch_file_moves_the_epoch_and_old_ones_stay_readable(tmp_path: Path) -> None:
    assert Keyring.load_or_create(tmp_path).epochs == (0,)
    (tmp_path / "watermark.epoch").write_text("5\n")
    ring = Keyring.load_or_create(tmp_path)
    assert (ring.current_epoch, ring.epochs) == (5, (5, 4, 3, 2))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_the_wrong_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "watermark.key").write_bytes(b"x" * size)
    with pytest.raises(KeyMaterialError, match="32 bytes") as caught:
        Keyring.load_or_create(tmp_path)
    assert caught.value.hint


def test_an_unreadable_key_is_an_error_and_not_a_new_key(tmp_path: Path) -> None:
    (tmp_path / "watermark.key").mkdir()
    with pytest.raises(KeyMaterialError, match="cannot read"):
        Keyring.load_or_create(tmp_path)


@pytest.mark.parametrize("text", ["", "new", "-1", "64"])
def test_a_bad_epoch_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "watermark.epoch").write_text(text)
    with pytest.raises(KeyMaterialError):
        Keyring.load_or_create(tmp_path)
