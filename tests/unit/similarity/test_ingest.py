"""Collections of every kind into an index; nothing is dropped silently, and a stop costs nothing."""

from __future__ import annotations

import csv
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.rights import Permission, Signal, SignalKind
from guardrails.errors import OptionError
from guardrails.similarity import ingest as ingesting
from guardrails.similarity.fingerprints import Fingerprinter
from guardrails.similarity.hashes import SYM256
from guardrails.similarity.ingest import ingest
from guardrails.similarity.optouts import OptOut, append_opt_outs
from guardrails.similarity.sources import read_source
from guardrails.similarity.stated_rights import stated_rights
from guardrails.similarity.store import Store


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(work_on, tmp_path):
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    for seed in range(5):
        (root / "deep" / f"{seed}.png").write_bytes(png(work_on(seed)))
    (root / "plain.png").write_bytes(png(np.full((80, 80, 3), 255, np.uint8)))
    (root / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (root / "notes.txt").write_text("no picture, and not meant as one")
    return root


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "index", SYM256)


def find(store, pixels):
    codes = Fingerprinter(SYM256).fingerprint(pixels).queries()
    return [found.id for found in store.search(codes, 31).found]


def test_a_folder_becomes_an_index_and_what_cannot_be_read_is_listed(folder, store, work_on):
    report = ingest(store, read_source(folder))
    assert (report.added, report.known, report.unhashable) == (6, 0, 1)
    assert [(one.id, one.code) for one in report.unreadable] == [("broken.jpg", "invalid_image")]
    with (store.folder / "unreadable.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["broken.jpg"]
    assert find(store, work_on(3)) == ["deep/3.png"]
    assert find(store, np.ascontiguousarray(work_on(3)[:, ::-1])) == ["deep/3.png"]
    assert "plain.png" in store
    facts = store.search(Fingerprinter(SYM256).fingerprint(work_on(3)).queries(), 0).found[0].facts
    assert (facts["width"], facts["height"], facts["quality"]) == ("256", "256", "100")


def test_a_table_beside_the_pictures_says_whose_they_are(folder, store, work_on):
    (folder / "manifest.csv").write_text(
        "id,file,name,licence,creator,package,rights\n"
        "w1,deep/1.png,One,CC-BY-4.0,Ada,pkg@1,\n"
        "w2,deep/2.png,Two,MIT,Bob,pkg@1,opt-out\n"
        "w3,deep/3.png,Three,MIT,Cyd,pkg@1,\n"
    )
    signal = Signal(
        kind=SignalKind.CLAIM, permission=Permission.PROHIBITED, raw="opt-out", source="claim 7", read_at="2026-01-01"
    )
    append_opt_outs(folder / "opt-outs.jsonl", [OptOut(entry="w3", signal=signal, by="desk", reason="claim 7")])
    ingest(store, read_source(folder))

    def rights(seed):
        codes = Fingerprinter(SYM256).fingerprint(work_on(seed)).queries()
        return stated_rights(store.search(codes, 0).found[0].facts)

    assert (rights(1).licence, rights(1).creator, rights(1).source, rights(1).reservation) == (
        "CC-BY-4.0", "Ada", "pkg@1", "",
    )  # fmt: skip
    assert (rights(2).reservation, rights(3).reservation) == ("opt-out", "opt-out")
    assert rights(4).licence == ""
    (folder / "manifest.csv").write_bytes(b"id,\xff\n")
    with pytest.raises(OptionError, match="manifest"):
        list(read_source(folder))


def test_a_build_that_was_stopped_goes_on_and_gives_the_same_bytes(folder, store, tmp_path, monkeypatch):
    monkeypatch.setattr(ingesting, "_BATCH", 2)

    class Stopped(Exception):
        pass

    def stop(done):
        if done >= 4:
            raise Stopped

    with pytest.raises(Stopped):
        ingest(store, read_source(folder), stop)
    before = len(Store.open(store.folder))
    assert 0 < before < 6
    report = ingest(Store.open(store.folder), read_source(folder))
    assert (report.added, report.known) == (6 - before, before)
    straight = Store.create(tmp_path / "straight", SYM256)
    ingest(straight, read_source(folder))
    assert [part.segment.name for part in Store.open(store.folder).parts[:-1]] == [
        part.segment.name for part in straight.parts[:-1]
    ]


def test_webdataset_tars(store, work_on, tmp_path):
    path = tmp_path / "shard-000.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in [
            ("a/000.png", png(work_on(0))),
            ("a/000.json", json.dumps({"licence": "CC0-1.0", "tags": ["x"], "url": "https://example.org/0"}).encode()),
            ("a/000.txt", b"a caption"),
            ("001.json", b"no json"),
            ("001.png", png(work_on(1))),
            ("002.png", b"no picture"),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    report = ingest(store, read_source(tmp_path / "shard-000.tar"))
    assert (report.added, [one.id for one in report.unreadable]) == (2, ["shard-000/002"])
    (found,) = store.search(Fingerprinter(SYM256).fingerprint(work_on(0)).queries(), 0).found
    assert (found.id, found.facts["licence"], "tags" in found.facts) == ("shard-000/a/000", "CC0-1.0", False)
    # A folder of tars is one collection, and a cut tar is named.
    path.write_bytes(path.read_bytes()[:700])
    report = ingest(Store.create(tmp_path / "cut", SYM256), read_source(tmp_path))
    assert report.added == 0
    assert len(report.unreadable) == 1


def table_rows(work_on):
    rows = [{"id": f"w{seed}", "image": png(work_on(seed)), "licence": "CC0-1.0"} for seed in range(3)]
    return [*rows, {"id": "none", "image": None, "licence": ""}]


def test_parquet_tables_also_with_structs(store, work_on, tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = table_rows(work_on)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "plain.parquet")
    report = ingest(store, read_source(tmp_path / "plain.parquet"))
    assert (report.added, [one.id for one in report.unreadable]) == (3, ["none"])
    assert find(store, work_on(2)) == ["w2"]
    structs = [row | {"image": {"bytes": row["image"], "path": "x.png"}} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(structs), tmp_path / "structs.parquet")
    again = ingest(store, read_source(tmp_path / "structs.parquet"))
    assert (again.added, again.known) == (0, 3)


def test_lance_tables(store, work_on, tmp_path):
    import lance
    import pyarrow

    lance.write_dataset(pyarrow.Table.from_pylist(table_rows(work_on)), str(tmp_path / "works.lance"))
    report = ingest(store, read_source(tmp_path / "works.lance"))
    assert (report.added, len(report.unreadable)) == (3, 1)


def test_what_is_no_collection_is_refused(store, tmp_path):
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "x.parquet").write_text("x")
    (tmp_path / "x.lance").write_text("x")
    for name in ("x.txt", "nothing", "x.parquet", "x.lance"):
        with pytest.raises(OptionError, match=r"collection|cannot read"):
            ingest(store, read_source(tmp_path / name))


def test_a_table_without_pictures_is_refused(store, tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([{"id": "a", "caption": "b"}]), tmp_path / "x.parquet")
    with pytest.raises(OptionError, match="no column"):
        ingest(store, read_source(tmp_path / "x.parquet"))
