"""Thumbnails: small, beside the index, and none where nobody may hold the picture."""

from __future__ import annotations

import io
import sqlite3

import numpy as np
import pytest
from PIL import Image

from guardrails.errors import IndexFormatError, OptionError, StorageError
from guardrails.imaging.thumbnails import thumbnail
from guardrails.similarity.banks import BankSettings, Role
from guardrails.similarity.hashes import PDQ256
from guardrails.similarity.ingest import Intake, ingest
from guardrails.similarity.sources import Item
from guardrails.similarity.store import Store
from guardrails.similarity.thumbnails import FILE, Thumbnails


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(600, 300), (40, 900), (1, 1), (128, 128)])
@pytest.mark.parametrize("limit", [512, 1500, 4096])
def test_a_thumbnail_fits_and_keeps_its_proportions(size, limit):
    data = thumbnail(noise(*size), max_bytes=limit)
    assert len(data) <= limit
    image = Image.open(io.BytesIO(data))
    assert (image.format, max(image.size) <= 128) == ("WEBP", True)
    assert image.width == pytest.approx(size[1] * image.height / size[0], abs=2 + 0.1 * image.width)
    assert thumbnail(noise(*size), max_bytes=limit) == data


def test_what_cannot_fit_is_an_error():
    with pytest.raises(OptionError, match="no thumbnail fits"):
        thumbnail(noise(100, 100), max_bytes=20)
    with pytest.raises(OptionError, match="no picture fits into 100"):
        BankSettings(name="x", role=Role.WORKS, radius=1, box_radius=1, thumbnail_bytes=100)


def store_of(folder, role: Role, **changes) -> Store:
    settings = BankSettings.default("bank", role, PDQ256).to_json() | changes
    return Store.create(folder, PDQ256, settings)


def test_a_build_keeps_thumbnails_as_its_bank_says(work_on, tmp_path):
    item = Item("work 1", png(work_on(1)), {"licence": "MIT"})
    store = store_of(tmp_path / "works", Role.WORKS)
    ingest(store, [item])
    kept = Thumbnails(store.folder).get("work 1")
    assert kept is not None
    assert len(kept) <= 4096
    shown = np.asarray(Image.open(io.BytesIO(kept)).resize((256, 256)).convert("RGB"), float)
    assert np.abs(shown - work_on(1)).mean() < 12
    assert Thumbnails(store.folder).get("work 2") is None
    off = store_of(tmp_path / "off", Role.PROTECTED, thumbnail_bytes=0)
    ingest(off, [item])
    assert not (off.folder / FILE).exists()


def test_of_a_sensitive_bank_s_pictures_nothing_but_hashes_is_kept(work_on, tmp_path):
    store = store_of(tmp_path / "list", Role.SENSITIVE, thumbnail_bytes=4096)
    intake = Intake(store)
    hashed = intake.hash(Item("case 9", png(work_on(1)), {"caption": "a red house"}))
    assert (hashed.thumbnail, hashed.entry.facts) == (b"", {})
    intake.add([hashed])
    store.merge()
    assert not (store.folder / FILE).exists()
    everything = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert b"red house" not in everything
    assert b"RIFF" not in everything
    assert store.search(np.frombuffer(hashed.entry.rows[0][1], np.uint8)[None], 0).found[0].id == "case 9"


def test_damage_and_a_full_disk_are_our_own_errors(tmp_path):
    kept = Thumbnails(tmp_path)
    kept.put({})
    assert not (tmp_path / FILE).exists()
    kept.put({"a": b"1", "b": b"2"})
    kept.put({"a": b"3"})
    assert (kept.get("a"), kept.get("b")) == (b"3", b"2")
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(IndexFormatError, match="cannot read"):
        kept.get("a")
    with pytest.raises(StorageError, match="cannot write"):
        kept.put({"a": b"1"})
    kept.drop()
    assert kept.get("a") is None


def test_a_thumbnail_is_looked_for_while_the_file_is_made_or_dropped(tmp_path, monkeypatch):
    thumbnails = Thumbnails(tmp_path)
    # What another process's first connection leaves before its table is there.
    (tmp_path / FILE).touch()
    assert thumbnails.get("work 1") is None
    thumbnails.put({"work 1": b"webp"})
    assert thumbnails.get("work 1") == b"webp"
    connect = sqlite3.connect

    def dropped_before(*arguments, **options):
        thumbnails.drop()
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", dropped_before)
    assert thumbnails.get("work 1") is None
