"""Workers that draw several jobs in one call: what one of them meets never touches another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from guardrails import home as homes
from guardrails.domain.records import RecordKind
from guardrails.domain.requests import PromptRequest
from guardrails.errors import GenerationError
from guardrails.generation.protocol import Drawn, Part, Progress
from guardrails.ledger import Ledger
from guardrails.pipeline import Guard
from guardrails.policy import Policy
from guardrails.testing.doubles import ShapeGenerator, draw_shapes
from service.access.secrets import Secrets
from service.jobs.model import Job, Status, form_of
from service.jobs.table import JobTable, LeaseLost
from service.jobs.worker import Worker
from service.policies import Policies, written
from service.settings import Settings
from service.stores import Database, open_database

REFUSED = "guardrails test minor guardrails test explicit"


class Noting(ShapeGenerator):
    """Notes the prompts of each call, and does what a test wants done in the middle of one."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def draw(self, request: PromptRequest, prompt: str, *, progress: Progress | None = None) -> list[Drawn]:
        self.calls.append([prompt])
        if "broken" in prompt:
            raise GenerationError("no memory", hint="")
        return super().draw(request, prompt, progress=progress)

    def draw_together(self, parts: Sequence[Part], *, progress: Progress | None = None) -> list[list[Drawn]]:
        self.calls.append([part.prompt for part in parts])
        self.meanwhile()
        if any("broken" in part.prompt for part in parts):
            raise GenerationError("no memory", hint="")
        return [ShapeGenerator().draw(part.request, part.prompt) for part in parts]


class Workplace:
    """A table, and workers on it that share one installation."""

    def __init__(self, home: Path, database: Database, generator: Any, guard_in: Callable[..., Guard]) -> None:
        self.settings = Settings(home=home)
        self.table = JobTable(database, lease_seconds=30, max_attempts=2)
        self.policies = Policies(self.settings.policy_names)
        self._guards: dict[str, Guard] = {}
        self._build = lambda policy: guard_in(home, generator, policy=policy)
        self.settings.assets.mkdir(parents=True, exist_ok=True)
        self.secrets = Secrets.load_or_create(self.settings.folder)

    def guard(self, policy: Policy) -> Guard:
        return self._guards.setdefault(policy.digest, self._build(policy))

    def worker(self, pictures: int = 8, seconds: float = 0.0) -> Worker:
        return Worker(
            self.table,
            self.guard,
            self.policies,
            self.secrets,
            assets=self.settings.assets,
            uploads=self.settings.uploads,
            lease_seconds=30,
            batch_pictures=pictures,
            batch_seconds=seconds,
        )

    def submit(self, prompt: str, *, count: int = 1, seed: int = 1, **fields: Any) -> Job:
        return self.table.submit(job(prompt, written("default", self.policies.get()), count, seed, **fields))[0]

    def end(self, job: Job) -> Job:
        return self.table.get(job.id)

    def files(self, job: Job) -> list[str]:
        return [id for id in job.ids if (self.settings.assets / f"{id}.png").exists()]

    def recorded(self, job: Job) -> int:
        ledger = self.guard(self.policies.get()).ledger
        return sum(ledger.find_by_id(id) is not None for id in job.ids)


def job(prompt: str, policy: str, count: int = 1, seed: int = 1, **fields: Any) -> Job:
    request = {"prompt": prompt, "format": "png", "seed": seed, "count": count, "width": 256, "height": 256, **fields}
    return Job(
        id=f"job_{uuid.uuid4().hex}",
        tenant="acme",
        api_key="key",
        kind="generation",
        request=request,
        ids=tuple(str(uuid.uuid4()) for _ in range(count)),
        policy=policy,
        created_at=time.time(),
        form=form_of("generation", request),
    )


@pytest.fixture
def generator() -> Noting:
    return Noting()


@pytest.fixture
def place(home: Path, database_address: str, generator: Noting, guard_in: Callable[..., Guard]) -> Iterator[Workplace]:
    database = open_database(Settings(home=home, database=database_address))
    yield Workplace(home, database, generator, guard_in)
    database.close()


def test_jobs_of_one_form_are_drawn_in_one_call_up_to_the_limit(place: Workplace, generator: Noting) -> None:
    jobs = [place.submit(f"apple {number}", seed=10 * number, count=1 + number % 2) for number in range(4)]
    other = place.submit("a wide apple", width=512)
    assert place.worker(pictures=5).run_one()
    assert generator.calls == [["apple 0", "apple 1", "apple 2"]]
    ends = [place.end(job) for job in jobs]
    assert [end.status.value for end in ends] == ["succeeded"] * 3 + ["queued"]
    for number, end in enumerate(ends[:3]):
        assert end.result is not None
        images = end.result["images"]
        assert [image["guardrails"]["seed"] for image in images] == [10 * number + one for one in range(len(end.ids))]
        assert place.files(end) == list(end.ids)
        assert place.recorded(end) == len(end.ids)
    while place.worker(pictures=5).run_one():
        pass
    assert [place.end(one).status for one in (jobs[3], other)] == [Status.SUCCEEDED] * 2
    assert generator.calls[1:] == [["apple 3"], ["a wide apple"]]


def test_a_seed_gives_the_same_picture_alone_and_with_others(place: Workplace, generator: Noting) -> None:
    guard = place.guard(place.policies.get())
    seen: dict[str, bytes] = {}
    embed = guard._sealing._mark.embed

    def note(pixels: Any, mark_id: str) -> Any:
        seen[mark_id] = pixels.tobytes()
        return embed(pixels, mark_id)

    guard._sealing._mark.embed = note  # type: ignore[method-assign]
    for pictures in (1, 8):
        for seed in (3, 4, 5):
            place.submit(f"apple {seed}", seed=seed)
        worker = place.worker(pictures=pictures)
        while worker.run_one():
            pass
    drawn = sorted(seen.values())
    assert drawn == sorted([draw_shapes(seed).tobytes() for seed in (3, 4, 5)] * 2)
    assert [len(call) for call in generator.calls] == [1, 1, 1, 3]


def test_a_worker_that_lost_its_job_learns_so_though_the_job_s_files_are_gone(place: Workplace) -> None:
    slow, upload = place.worker(), place.settings.uploads / "given-0.bin"
    upload.parent.mkdir(parents=True, exist_ok=True)
    upload.write_bytes(b"a picture")
    place.submit("an apple", count=2, inputs=[upload.name])
    lost = place.table.claim(slow.name)
    assert lost is not None
    with place.table._database.transaction() as transaction:
        transaction.run("UPDATE jobs SET lease_until = 0")
    other = place.table.claim("other")
    assert other is not None
    place.table.finish(other, Status.REFUSED, {"images": [], "blocked": [], "error": None})
    upload.unlink()
    held = [{"index": number, "action": "review", "fault": "", "rules": []} for number in range(2)]
    with pytest.raises(LeaseLost):
        slow._finish(lost, {"images": [], "blocked": held, "error": None}, time.time())
    assert list(upload.parent.iterdir()) == []


def test_a_refusal_ends_one_job_before_the_others_are_drawn(place: Workplace, generator: Noting) -> None:
    jobs = [place.submit(prompt) for prompt in ("a red apple", REFUSED, "a blue boat")]
    status: list[Status] = []
    generator.meanwhile = lambda: status.append(place.end(jobs[1]).status)
    place.worker().run_one()
    assert status == [Status.REFUSED]
    assert generator.calls == [["a red apple", "a blue boat"]]
    ends = [place.end(job) for job in jobs]
    assert [end.status.value for end in ends] == ["succeeded", "refused", "succeeded"]
    assert [place.recorded(end) for end in ends] == [1, 0, 1]


def test_a_drawing_that_fails_is_one_jobs_own(place: Workplace, generator: Noting) -> None:
    jobs = [place.submit(prompt) for prompt in ("a red apple", "a broken cup", "a blue boat")]
    place.worker().run_one()
    ends = [place.end(job) for job in jobs]
    assert [end.status.value for end in ends] == ["succeeded", "failed", "succeeded"]
    assert [place.files(end) != [] for end in ends] == [True, False, True]
    assert [len(call) for call in generator.calls] == [3, 1, 1, 1]


def test_a_cancelled_job_releases_nothing_and_stops_nobody(place: Workplace, generator: Noting) -> None:
    jobs = [place.submit(prompt) for prompt in ("a red apple", "a green cup", "a blue boat")]
    generator.meanwhile = lambda: place.table.cancel(jobs[1].id)
    place.worker().run_one()
    ends = [place.end(job) for job in jobs]
    assert [end.status.value for end in ends] == ["succeeded", "cancelled", "succeeded"]
    assert [place.recorded(end) for end in ends] == [1, 0, 1]
    assert place.files(ends[1]) == []


def test_a_job_that_another_worker_took_over_is_left_to_it(place: Workplace, generator: Noting) -> None:
    jobs = [place.submit(prompt) for prompt in ("a red apple", "a blue boat")]

    def lose() -> None:
        with place.table._database.transaction() as transaction:
            transaction.run("UPDATE jobs SET worker = 'another', attempts = 2 WHERE id = ?", jobs[0].id)

    generator.meanwhile = lose
    place.worker().run_one()
    ends = [place.end(job) for job in jobs]
    assert [(end.status.value, end.worker == "another") for end in ends] == [("running", True), ("succeeded", False)]
    assert place.recorded(jobs[0]) == 0


def test_an_end_that_cannot_be_written_keeps_nobody_elses(
    place: Workplace, generator: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guardrails.errors import StorageError

    jobs = [place.submit(prompt) for prompt in ("a red apple", "a blue boat")]
    finish = place.table.finish

    def fail(lease: Any, *arguments: Any) -> Job:
        if lease.job.id == jobs[0].id:
            raise StorageError("the disk is full", hint="")
        return finish(lease, *arguments)

    monkeypatch.setattr(place.table, "finish", fail)
    place.worker().run_one()
    assert [place.end(job).status.value for job in jobs] == ["running", "succeeded"]


def test_a_job_waits_a_little_for_others(place: Workplace, generator: Noting) -> None:
    first = place.submit("a red apple")
    timer = threading.Timer(0.3, lambda: place.submit("a blue boat"))
    timer.start()
    # It goes on as soon as there is no room for more.
    place.worker(pictures=2, seconds=120.0).run_one()
    timer.join()
    assert generator.calls == [["a red apple", "a blue boat"]]
    assert place.end(first).status is Status.SUCCEEDED


def test_a_stop_ends_the_waiting_and_finishes_what_was_claimed(place: Workplace, generator: Noting) -> None:
    jobs = [place.submit(prompt) for prompt in ("a red apple", "a blue boat")]
    stopping = threading.Event()
    threading.Timer(0.5, stopping.set).start()
    place.worker(pictures=3, seconds=240.0).run(stopping)
    assert generator.calls == [["a red apple", "a blue boat"]]
    assert [place.end(job).status for job in jobs] == [Status.SUCCEEDED] * 2


def test_what_was_tried_before_is_drawn_by_itself(place: Workplace, generator: Noting) -> None:
    jobs = [place.submit(prompt) for prompt in ("a red apple", "a blue boat", "a green cup")]
    with place.table._database.transaction() as transaction:
        transaction.run(
            "UPDATE jobs SET status = 'running', attempts = 1, lease_until = 0 WHERE id IN (?, ?)",
            jobs[0].id,
            jobs[1].id,
        )
    worker = place.worker()
    while worker.run_one():
        pass
    assert sorted(generator.calls) == [["a blue boat"], ["a green cup"], ["a red apple"]]
    assert [place.end(job).attempts for job in jobs] == [2, 2, 1]


# A worker whose model dies of one prompt, as a driver or a lack of memory would make it.
DYING = """
import os, signal, sys, time
from pathlib import Path
from guardrails.pipeline import Guard
from guardrails.testing.doubles import FixedIndex, ShapeGenerator, passing_screens
from service.access.secrets import Secrets
from service.jobs.table import JobTable, LeaseLost
from service.jobs.worker import Worker
from service.policies import Policies
from service.settings import Settings
from service.stores import open_database

class Mortal(ShapeGenerator):
    def draw(self, request, prompt, *, progress=None):
        if "boat" in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().draw(request, prompt, progress=progress)

settings = Settings.model_validate_json(sys.argv[1])
table = JobTable(open_database(settings), lease_seconds=settings.lease_seconds, max_attempts=2)
made = {}
def guards(policy):
    if policy.digest not in made:
        made[policy.digest] = Guard(Mortal(), policy=policy, screens=passing_screens(), index=FixedIndex(),
                                    home=settings.home)
    return made[policy.digest]
worker = Worker(table, guards, Policies(settings.policy_names), Secrets.load_or_create(settings.folder),
                assets=settings.assets, uploads=settings.uploads, lease_seconds=settings.lease_seconds,
                batch_pictures=8)
while any(table.counts().get(status) for status in ("queued", "running")):
    worker.run_one() or time.sleep(0.02)
"""


def test_the_job_that_kills_its_batch_is_found_and_the_others_are_made(home: Path, database_address: str) -> None:
    settings = Settings(home=home, database=database_address, lease_seconds=1.0)
    settings.assets.mkdir(parents=True)
    database = open_database(settings)
    table = JobTable(database, lease_seconds=1.0, max_attempts=2)
    policy = written("default", Policies(settings.policy_names).get())
    prompts = ("a red apple", "a blue boat", "a green cup", "a yellow star")
    jobs = [table.submit(job(prompt, policy, seed=number))[0] for number, prompt in enumerate(prompts)]
    deaths = 0
    for _ in range(6):
        done = subprocess.run(
            [sys.executable, "-c", DYING, settings.model_dump_json()],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        deaths += 1
    # Once with all of them, once by itself.
    assert deaths == 2
    ends = [table.get(one.id) for one in jobs]
    assert [end.status.value for end in ends] == ["succeeded", "quarantined", "succeeded", "succeeded"]
    assert [end.attempts for end in ends] == [2, 2, 2, 2]
    with Ledger.open(homes.ledger_folder(home), create=False) as ledger:
        size = ledger.fsck()
        records = [logged.record for index in range(size) if (logged := ledger.find_by_index(index)) is not None]
    made = sorted(record.id for record in records if record.kind is RecordKind.GENERATION)
    assert made == sorted(id for end in ends if end.status is Status.SUCCEEDED for id in end.ids)
    assert [record.facts["fault"] for record in records if record.kind is RecordKind.REFUSAL] == ["quarantined"]
    assert "boat" not in json.dumps([end.request for end in ends])
    database.close()
