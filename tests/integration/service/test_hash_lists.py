"""A hit in a hash list, end to end: refused, recorded, put before reviewers without its picture, never released."""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from PIL import Image

from guardrails import home as homes
from guardrails.errors import OptionError
from guardrails.ledger import Ledger
from guardrails.similarity.banks import Role
from guardrails.testing.banks import bank_of
from guardrails.testing.doubles import draw_shapes
from service.api.context import Context
from service.review import Decision, Reviews
from service.settings import Settings
from service.stores import open_database
from service.testing import Running

PROMPT = "nineteen copper kettles beside a canal"
# No other test draws it.
SEED = 986_111
SEEDED = {"guardrails": {"seed": SEED}}


@pytest.fixture(scope="module")
def listed(service: Running) -> Iterator[str]:
    folder = homes.hash_lists_folder(service.home) / "example-list"
    bank_of(folder, Role.SENSITIVE, {"entry-17": draw_shapes(SEED)})
    yield folder.name
    # The service is shared with tests that expect no list.
    shutil.rmtree(folder)


@pytest.fixture
def reviews(service: Running) -> Reviews:
    return Context.open(Settings(home=service.home)).reviews


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(draw_shapes(SEED)).save(file, "PNG")
    return file.getvalue()


def refused(call: Any) -> Any:
    with pytest.raises(openai.BadRequestError) as error:
        call()
    return error.value


def files_with(home: Path, needle: bytes) -> list[str]:
    return [
        os.path.relpath(path, home)
        for path in home.rglob("*")
        if path.is_file() and not path.is_socket() and needle in path.read_bytes()
    ]


def test_a_hit_is_refused_recorded_and_routed_and_nothing_of_it_is_kept(
    service: Running, client: OpenAI, listed: str, reviews: Reviews
) -> None:
    assets = service.home / "service" / "assets"
    before = set(assets.iterdir())
    error = refused(lambda: client.images.generate(prompt=PROMPT, extra_body=SEEDED))
    assert error.code == "moderation_blocked"
    assert error.body["guardrails"]["categories"] == ["listed"]
    # Refused, not held: there is nothing to wait for.
    assert error.body["guardrails"]["review"] is None
    decision = error.body["guardrails"]["decision_id"]
    ledger = Ledger.open(homes.ledger_folder(service.home), create=False)
    logged = ledger.find_by_id(decision)
    assert logged is not None
    assert logged.record.facts["checks"][0]["scores"] == {listed: 1.0}
    review = reviews.get(decision)
    assert (review["status"], review["stage"]) == ("open", "hash list")
    assert (review["prompt"], review["evidence"]) == ("", "")
    # The queue held the prompt until the picture was drawn; SQLite's write-ahead log is overwritten in its own time.
    assert set(files_with(service.home, PROMPT.encode())) <= {"service/service.db-wal"}
    jobs = open_database(Settings(home=service.home)).all("SELECT request FROM jobs")
    assert [job for job in jobs if PROMPT in job["request"]] == []
    assert set(assets.iterdir()) == before
    evidence = homes.evidence_folder(service.home)
    assert not evidence.exists() or not any(evidence.iterdir())


def test_reviewers_close_it_and_cannot_release_it(client: OpenAI, listed: str, reviews: Reviews) -> None:
    error = refused(lambda: client.images.generate(prompt=f"{PROMPT} again", extra_body=SEEDED))
    id = error.body["guardrails"]["decision_id"]
    told = Decision(release=False, category="listed", rule="HASHLIST-01", reason="Told the list's owner.")
    with pytest.raises(OptionError, match="never released"):
        reviews.decide(id, "maria", Decision(release=True, category="", rule="", reason="It looks fine."))
    assert reviews.decide(id, "maria", told) == "refused"
    job: Any = client.get(f"/jobs/{error.body['guardrails']['job_id']}", cast_to=object)
    assert job["status"] == "refused"


def test_a_picture_that_is_given_is_looked_up_too(service: Running, client: OpenAI, listed: str) -> None:
    error = refused(lambda: client.images.edit(image=png(), prompt=PROMPT))
    assert error.body["guardrails"]["rules"] == ["HASHLIST-01"]
    assert not any((service.home / "service" / "uploads").iterdir())
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    (result,) = client.moderations.create(input=[{"type": "image_url", "image_url": {"url": url}}]).results
    assert result.flagged
    assert result.model_extra is not None
    assert result.categories.model_extra["listed"] is True
