"""Of several pictures each one is released, held or refused by itself; and the quality of the final file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI
from PIL import Image

from guardrails.domain.findings import Component
from guardrails.domain.records import Record, RecordKind, Refusal
from guardrails.domain.requests import PromptRequest
from guardrails.errors import LedgerError, QualityError
from guardrails.imaging import Pixels
from guardrails.pipeline import Guard
from guardrails.policy import load_policy
from guardrails.screens.protocol import Reading
from guardrails.testing.doubles import draw_shapes, passing_screens
from service.access.tenants import LOCAL
from service.api.answers import images_response, job_object
from service.api.context import Caller, Context
from service.api.errors import ApiError
from service.api.requests import GenerationRequest
from service.api.submission import new_job
from service.jobs.model import Job, Status
from service.jobs.worker import Worker
from service.review import Decision
from service.settings import Settings

PROMPT = "a red apple on a table"
SIDE = 256
RELEASED, HELD, REFUSED = 0.01, 0.5, 0.95
PACK = """
api_version: policy/v1
id: choosing
version: "1"
extends: [default]
description: Holds some pictures and refuses others.
screen_rules:
  - {id: TEST-HOLD, category: violence, action: review, screen: chooser, concept: odd, threshold: 0.4,
     error_rate: "none, a rule for tests", when_unavailable: block, message: The picture is odd.}
  - {id: TEST-BLOCK, category: violence, action: block, screen: chooser, concept: odd, threshold: 0.9,
     error_rate: "none, a rule for tests", when_unavailable: block, message: The picture is very odd.}
"""


@dataclass(frozen=True, slots=True)
class Chooser:
    """A `Screen` that scores the picture of each seed as it is told."""

    by_seed: dict[int, float]
    component: Component = field(default_factory=lambda: Component(name="chooser", version="1"))

    def score(self, pixels: Pixels) -> Reading:
        for seed, score in self.by_seed.items():
            if np.array_equal(pixels, draw_shapes(seed, SIDE)):
                return Reading(scores={"odd": score})
        return Reading(scores={"odd": RELEASED})


@dataclass(slots=True)
class Installation:
    """A context, and a worker whose screen chooses."""

    context: Context
    worker: Worker

    def ask(self, seed: int | None, count: int, **options: Any) -> Job:
        """Submit one request and run what waits."""
        body = GenerationRequest.model_validate({"prompt": PROMPT, "n": count, "guardrails": {"seed": seed}, **options})
        caller = Caller(tenant=LOCAL, key="none", scopes=frozenset())
        job = new_job(self.context, caller, body, request_id="req_1")
        self.context.table.submit(job)
        return self.run(job.id)

    def edit(self, pixels: Pixels, *, seed: int, count: int = 1) -> Job:
        """Submit an edit that draws over everything, and run it."""
        picture = io.BytesIO()
        Image.fromarray(pixels).save(picture, "PNG")
        (self.context.settings.uploads / "in.bin").write_bytes(picture.getvalue())
        body = GenerationRequest.model_validate({"prompt": PROMPT, "n": count, "guardrails": {"seed": seed}})
        caller = Caller(tenant=LOCAL, key="none", scopes=frozenset())
        # At strength 1 the double draws over everything.
        told, files = {"strength": 1.0}, {"inputs": ["in.bin"]}
        job = new_job(self.context, caller, body, kind="edit", told=told, files=files, request_id="req_1")
        self.context.table.submit(job)
        return self.run(job.id)

    def run(self, id: str) -> Job:
        while self.worker.run_one():
            pass
        return self.context.table.get(id)

    def decide(self, review: str, *, release: bool) -> str:
        decision = Decision(release=release, category="violence", rule="TEST-HOLD", reason="A statue.")
        outcome = [self.context.reviews.decide(review, person, decision) for person in ("maria", "noor")[: 1 + release]]
        return outcome[-1]


@pytest.fixture
def installation(
    home: Path, tmp_path: Path, guard_in: Callable[..., Guard]
) -> Callable[[dict[int, float]], Installation]:
    pack = tmp_path / "choosing.yaml"
    pack.write_text(PACK)

    def build(by_seed: dict[int, float]) -> Installation:
        context = Context.open(Settings(home=home, policy=str(pack)))
        guard = guard_in(home, screens=(*passing_screens(), Chooser(by_seed)), policy=load_policy(str(pack)))
        settings = context.settings
        worker = Worker(
            context.table,
            lambda policy: guard,
            context.policies,
            context.secrets,
            assets=settings.assets,
            uploads=settings.uploads,
            lease_seconds=settings.lease_seconds,
        )
        return Installation(context, worker)

    return build


def test_each_picture_is_released_held_or_refused_by_itself(installation: Any) -> None:
    here = installation({11: HELD, 12: REFUSED, 13: HELD})
    job = here.ask(10, 5)
    assert job.status is Status.SUCCEEDED
    answer = images_response(here.context, job)
    assert [item["guardrails"]["seed"] for item in answer["data"]] == [10, 14]
    blocked = {entry["index"]: entry for entry in answer["guardrails"]["blocked"]}
    assert {index: entry["action"] for index, entry in blocked.items()} == {1: "review", 2: "block", 3: "review"}
    assert blocked[2]["review"] is None
    assert [blocked[index]["review"]["status"] for index in (1, 3)] == ["held", "held"]
    # Nothing of a held or refused picture lies where released ones do.
    assert len(list(here.context.settings.assets.glob("*.png"))) == 2
    # Reviewers see each one by itself, and what they see is that picture.
    waiting = here.context.reviews.waiting()
    assert {row["id"] for row in waiting} == {blocked[index]["decision_id"] for index in (1, 3)}
    for index, seed in ((1, 11), (3, 13)):
        review = here.context.reviews.get(blocked[index]["decision_id"])
        with Image.open(review["evidence"]) as image:
            assert np.array_equal(np.array(image), draw_shapes(seed, SIDE))


def test_a_release_and_a_refusal_concern_one_picture_alone(installation: Any) -> None:
    here = installation({11: HELD, 12: HELD})
    job = here.ask(10, 3)
    blocked = images_response(here.context, job)["guardrails"]["blocked"]
    assert here.decide(blocked[0]["decision_id"], release=True) == "released"
    assert here.decide(blocked[1]["decision_id"], release=False) == "refused"
    first = here.run(blocked[0]["review"]["job_id"])
    answer = images_response(here.context, first)
    assert [item["guardrails"]["seed"] for item in answer["data"]] == [11]
    # The identity that was chosen when the request arrived.
    assert answer["data"][0]["guardrails"]["record_id"] == job.ids[1]
    logged = here.worker._guards(None).ledger.find_by_id(job.ids[1])
    assert logged is not None
    assert logged.record.facts["approval"]["review"] == blocked[0]["decision_id"]
    second = here.context.table.get(blocked[1]["review"]["job_id"])
    assert second.status is Status.REFUSED
    with pytest.raises(ApiError):
        images_response(here.context, second)
    # Whoever asks again for the first job learns how it went on.
    shown = job_object(here.context, here.context.table.get(job.id))
    states = [entry["review"]["status"] for entry in shown["result"]["guardrails"]["blocked"]]
    assert states == ["succeeded", "refused"]
    assert here.context.reviews.waiting() == []


def test_without_a_seed_the_very_picture_that_was_seen_is_released(installation: Any) -> None:
    # The double draws seeds 0, 1, ... when none is named.
    here = installation({1: HELD})
    job = here.ask(None, 2)
    (entry,) = images_response(here.context, job)["guardrails"]["blocked"]
    assert here.decide(entry["decision_id"], release=True) == "released"
    released = images_response(here.context, here.run(entry["review"]["job_id"]))["data"][0]
    assert released["guardrails"]["seed"] == 1


def test_when_all_are_held_the_request_says_that_it_waits(installation: Any) -> None:
    here = installation({10: HELD, 11: HELD})
    job = here.ask(10, 2)
    assert job.status is Status.REFUSED
    with pytest.raises(ApiError) as refused:
        images_response(here.context, job)
    body = refused.value.body
    assert (refused.value.status, body["code"], body["guardrails"]["review"]) == (400, "moderation_blocked", "waiting")
    assert [entry["index"] for entry in body["guardrails"]["blocked"]] == [0, 1]
    assert all(entry["review"]["status"] == "held" for entry in body["guardrails"]["blocked"])


def test_one_held_picture_is_the_job_itself(installation: Any) -> None:
    here = installation({10: HELD})
    job = here.ask(10, 1)
    assert job.status is Status.HELD
    (review,) = here.context.reviews.waiting()
    assert review["job"] == job.id
    assert here.decide(review["id"], release=True) == "released"
    assert here.run(job.id).status is Status.SUCCEEDED


def test_a_held_edit_keeps_what_it_starts_from(installation: Any) -> None:
    here = installation({11: HELD})
    done = here.edit(draw_shapes(3), seed=10, count=2)
    assert done.status is Status.SUCCEEDED
    (entry,) = images_response(here.context, done)["guardrails"]["blocked"]
    assert [path.name for path in here.context.settings.uploads.iterdir()] == [f"{entry['review']['job_id']}-0.bin"]
    here.decide(entry["decision_id"], release=True)
    assert here.run(entry["review"]["job_id"]).status is Status.SUCCEEDED
    assert list(here.context.settings.uploads.iterdir()) == []


def test_what_was_recorded_before_a_job_failed_can_be_found_and_taken_down(
    installation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = installation({})
    ledger = here.worker._guards(None).ledger
    append, released = ledger.append, []

    def fails_at_the_second(record: Record, *args: Any, **options: Any) -> Any:
        if record.kind is RecordKind.GENERATION:
            released.append(record.id)
        if len(released) > 1:
            raise LedgerError("the disk is full", hint="")
        return append(record, *args, **options)

    monkeypatch.setattr(ledger, "append", fails_at_the_second)
    job = here.ask(10, 2)
    assert job.status is Status.FAILED
    rows = here.context.database.all("SELECT id, kind FROM decisions WHERE job = ?", job.id)
    assert rows == [{"id": job.ids[0], "kind": "generation"}]
    here.context.takedowns.take_down(job.ids[0], "cli:root", "Nobody was given it.")
    assert list(here.context.settings.assets.iterdir()) == []


def test_an_original_that_is_refused_is_input_and_what_is_drawn_from_it_output(installation: Any) -> None:
    here = installation({3: REFUSED, 10: REFUSED})
    stages = []
    for seed in (3, 4):
        with pytest.raises(ApiError) as refused:
            images_response(here.context, here.edit(draw_shapes(seed), seed=10))
        stages.append(refused.value.body["moderation_details"]["moderation_stage"])
    assert stages == ["input", "output"]


def test_reviewers_see_the_original_of_an_edit_and_then_what_is_drawn_from_it(installation: Any) -> None:
    here = installation({3: HELD, 10: HELD})
    job = here.edit(draw_shapes(3), seed=10)
    for shown in (3, 10):
        assert job.status is Status.HELD
        (row,) = here.context.reviews.waiting()
        with Image.open(row["evidence"]) as image:
            assert np.array_equal(np.array(image), draw_shapes(shown, SIDE))
        assert here.decide(row["id"], release=True) == "released"
        job = here.run(job.id)
    assert job.status is Status.SUCCEEDED
    assert here.context.reviews.waiting() == []


# --- Quality -----------------------------------------------------------------------------------------------------


def test_a_lower_quality_is_a_smaller_file_with_its_mark(client: OpenAI) -> None:
    sizes = []
    for compression in (100, 70):
        options = {"size": "512x512", "output_format": "jpeg", "extra_body": {"guardrails": {"seed": 4}}}
        answer = client.images.generate(prompt=PROMPT, output_compression=compression, **options)
        data = base64.b64decode(answer.data[0].b64_json)
        checked = client.content_provenance_checks.create(file=("x.jpg", data))
        assert checked.model_extra["guardrails"]["verdict"] == "confirmed"
        assert "output_compression" not in answer.model_extra["guardrails"]["ignored"]
        sizes.append(len(data))
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_a_quality_that_loses_the_mark_is_refused(client: OpenAI, name: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt=PROMPT, output_format=name, output_compression=0, n=2)
    error = refused.value
    assert (error.code, error.param) == ("quality_too_low", "output_compression")
    assert error.response.headers["x-should-retry"] == "false"
    assert [entry["fault"] for entry in error.body["guardrails"]["blocked"]] == ["quality_too_low"] * 2


def test_png_has_no_quality(client: OpenAI) -> None:
    for options in ({"output_format": "png"}, {}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.images.generate(prompt=PROMPT, output_compression=50, **options)
        assert refused.value.param == "output_compression"
        assert client.images.generate(prompt=PROMPT, output_compression=100, **options).data


def test_the_guard_reads_the_mark_at_the_quality_that_was_asked(guard: Guard) -> None:
    request = PromptRequest(prompt=PROMPT, seed=1)
    (refused,) = guard.generate_all(request, format="jpeg", quality=1)
    assert isinstance(refused, Refusal)
    assert refused.fault.startswith(QualityError.code)
    (released,) = guard.generate_all(request, format="jpeg", quality=90)
    assert not isinstance(released, Refusal)
