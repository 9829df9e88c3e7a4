"""From a request to a job: what makes two requests equal, and what is left of one that is not taken in."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from guardrails.imaging import decoding
from guardrails.testing.doubles import draw_shapes
from service.access.tenants import LOCAL
from service.api.context import Caller, Context
from service.api.moderations import Moderator
from service.api.requests import GenerationRequest, ModerationRequest
from service.api.submission import new_job
from service.app import create_app
from service.jobs.model import prompt_request
from service.policies import split
from service.settings import Settings


@pytest.fixture
def context(tmp_path: Path) -> Context:
    settings = Settings(home=tmp_path, auth="none", policies=("example-jurisdiction",), wait_seconds=0.1)
    return Context.open(settings)


@pytest.fixture
def client(context: Context) -> Iterator[TestClient]:
    with TestClient(create_app(context.settings, context)) as client:
        yield client


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(draw_shapes(5)).save(file, "PNG")
    return file.getvalue()


def test_the_same_words_under_another_pack_are_another_request(client: TestClient) -> None:
    headers = {"idempotency-key": "k1", "prefer": "respond-async"}

    def ask(policy: str) -> Any:
        body = {"prompt": "a red apple", "guardrails": {"policy": policy}}
        return client.post("/v1/images/generations", json=body, headers=headers)

    assert ask("default").status_code == 202
    other = ask("example-jurisdiction")
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("policy", ["elsewhere", "default"])
def test_a_picture_stays_only_where_a_job_starts_from_it(client: TestClient, context: Context, policy: str) -> None:
    context.draining = policy == "default"
    data = {"prompt": "a red apple", "guardrails[policy]": policy}
    answer = client.post("/v1/images/edits", data=data, files={"image": ("a.png", png(), "image/png")})
    assert answer.status_code in (400, 503)
    assert list(context.settings.uploads.iterdir()) == []


@pytest.mark.parametrize(
    ("own", "asked", "held_against"),
    [
        ("", "", ""),
        ("ZZ", "", "ZZ"),
        ("", "DE", "DE"),
        ("ZZ", "ZZ", "ZZ"),
        ("US", "US-CA", "US-CA"),
        ("US-CA", "US", "US-CA"),
        # Two places at once: the rules of all of them.
        ("ZZ", "DE", ""),
        ("US-CA", "US-TX", ""),
    ],
)
def test_a_request_adds_the_rules_of_its_place_and_cannot_leave_its_tenants(
    context: Context, own: str, asked: str, held_against: str
) -> None:
    tenant = dataclasses.replace(LOCAL, jurisdiction=own)
    caller = Caller(tenant=tenant, key="none", scopes=frozenset())
    body = GenerationRequest.model_validate({"prompt": "a red apple", "guardrails": {"jurisdiction": asked}})
    assert new_job(context, caller, body, request_id="req_1").request["jurisdiction"] == held_against


@pytest.mark.parametrize(
    ("own", "options", "action"),
    [
        ("DE", {}, "flag"),
        ("DE", {"jurisdiction": "ZZ"}, "block"),
        ("ZZ", {"jurisdiction": "DE"}, "block"),
        ("", {"jurisdiction": "DE"}, "flag"),
        ("", {"jurisdiction": "DE", "policy": "default"}, "flag"),
        ("", {"policy": "default"}, "flag"),
        ("", {}, "block"),
    ],
)
def test_a_text_is_moderated_as_a_prompt_is_decided(
    context: Context, own: str, options: dict[str, str], action: str
) -> None:
    text = "a caricature of Xi Jinping as a bear"
    options = {"policy": "example-jurisdiction", **options}
    caller = Caller(tenant=dataclasses.replace(LOCAL, jurisdiction=own), key="none", scopes=frozenset())
    body = ModerationRequest.model_validate({"input": text, "guardrails": {"depth": "rules", **options}})
    (result,) = Moderator(context, caller, body).answer()["results"]
    assert result["guardrails"]["action"] == action
    asked = GenerationRequest.model_validate({"prompt": text, "guardrails": options})
    job = new_job(context, caller, asked, request_id="req_1")
    policy = context.policies.get(*split(job.policy))
    decision = context.prompt_guard(policy, words_only=True).decide(prompt_request(job.request))
    assert decision.action.name.lower() == action


def test_moderation_explains_in_the_language_that_is_asked_for(context: Context) -> None:
    caller = Caller(tenant=LOCAL, key="none", scopes=frozenset())
    options = {"depth": "rules", "language": "zh", "policy": "example-jurisdiction"}
    body = ModerationRequest.model_validate({"input": "习近平的漫画", "guardrails": options})
    (result,) = Moderator(context, caller, body).answer()["results"]
    messages = [finding["message"] for finding in result["guardrails"]["findings"]]
    assert any("在此司法管辖区" in message for message in messages)


def test_a_pack_that_a_bound_tenant_names_is_told_as_ignored(context: Context) -> None:
    body = GenerationRequest.model_validate({"prompt": "a red apple", "guardrails": {"policy": "example-jurisdiction"}})
    for own, ignored in (("", []), ("example-jurisdiction", []), ("default", ["guardrails.policy"])):
        caller = Caller(tenant=dataclasses.replace(LOCAL, policy=own), key="none", scopes=frozenset())
        assert new_job(context, caller, body, request_id="req_1").request["answer"]["ignored"] == ignored


@pytest.mark.parametrize("form", [True, False])
def test_what_an_edit_ignores_is_told_by_both_of_its_forms(client: TestClient, context: Context, form: bool) -> None:
    fields, headers = {"prompt": "a red apple", "input_fidelity": "high"}, {"prefer": "respond-async"}
    if form:
        files = {"image": ("a.png", png(), "image/png")}
        answer = client.post("/v1/images/edits", data=fields, files=files, headers=headers)
    else:
        url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
        answer = client.post("/v1/images/edits", json={**fields, "images": [{"image_url": url}]}, headers=headers)
    assert context.table.get(answer.json()["id"]).request["answer"]["ignored"] == ["input_fidelity"]


def test_an_option_of_a_form_that_is_text_stays_text(client: TestClient, context: Context) -> None:
    data = {"prompt": "1990", "guardrails[negative_prompt]": "1990", "guardrails[seed]": "7", "guardrails[steps]": "3"}
    headers = {"prefer": "respond-async"}
    files = {"image": ("a.png", png(), "image/png")}
    answer = client.post("/v1/images/edits", data=data, files=files, headers=headers)
    assert answer.status_code == 202
    request = context.table.get(answer.json()["id"]).request
    assert (request["prompt"], request["negative_prompt"], request["seed"], request["steps"]) == ("1990", "1990", 7, 3)


def test_a_picture_that_is_too_large_is_told_so_by_every_door(client: TestClient, monkeypatch: Any) -> None:
    small = dataclasses.replace(decoding.DEFAULT_LIMITS, max_pixels=100)
    monkeypatch.setattr(decoding.decode, "__defaults__", (small,))
    answer = client.post("/v1/images/edits", data={"prompt": "a"}, files={"image": ("a.png", png(), "image/png")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
