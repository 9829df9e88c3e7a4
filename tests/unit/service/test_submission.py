"""From a request to a job: what makes two requests equal, and what is left of one that is not taken in."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from guardrails.testing.doubles import draw_shapes
from service.api.context import Context
from service.app import create_app
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


def test_a_picture_that_is_too_large_is_told_so_by_every_door(client: TestClient, monkeypatch: Any) -> None:
    import dataclasses

    from guardrails.imaging import decoding

    small = dataclasses.replace(decoding.DEFAULT_LIMITS, max_pixels=100)
    monkeypatch.setattr(decoding.decode, "__defaults__", (small,))
    answer = client.post("/v1/images/edits", data={"prompt": "a"}, files={"image": ("a.png", png(), "image/png")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
