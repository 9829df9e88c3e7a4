"""The playground decides as the service does: for the tenant `local`, with its pack and its jurisdiction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from guardrails.domain.requests import PromptRequest
from guardrails.pipeline import Guard
from service.access.tenants import LOCAL
from service.api.context import Context
from service.app import create_app
from service.pages.policies import _recent
from service.pages.site import cookie_name
from service.settings import Settings

# Blocked in ZZ by the second pack, a person by name to the first.
PROMPT = "a caricature of Xi Jinping as a bear"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context.open(Settings(home=tmp_path, policies=("example-jurisdiction",)))


@pytest.fixture
def ask(context: Context) -> Iterator[Callable[..., Any]]:
    """Sends a form to the playground."""
    context.persons.add("anna", "a long password", ("playground",))
    token = context.persons.sign_in("anna", "a long password", 60)
    assert token is not None
    csrf = context.secrets.mac("csrf", token)
    with TestClient(create_app(context.settings, context), cookies={cookie_name(context): token}) as client:

        def post(act: str, **fields: str) -> Any:
            return client.post(f"/playground/{act}", data={"csrf": csrf, "prompt": PROMPT, **fields})

        yield post


def test_what_it_explains_is_what_would_be_decided(context: Context, ask: Callable[..., Any]) -> None:
    assert ask("explain", policy="example-jurisdiction").json()["action"] == "block"
    context.tenants.add(LOCAL.id, jurisdiction="DE")
    assert ask("explain", policy="example-jurisdiction").json()["action"] == "flag"
    context.tenants.change(LOCAL.id, jurisdiction="ZZ", policy="example-jurisdiction")
    assert ask("explain", policy="default").json()["action"] == "block"


def test_a_pack_that_is_not_here_is_said(ask: Callable[..., Any]) -> None:
    assert "no such policy" in ask("explain", policy="elsewhere").json()["error"]


def test_a_suspended_tenant_draws_nothing(context: Context, ask: Callable[..., Any]) -> None:
    context.tenants.add(LOCAL.id, suspended=True)
    answer = ask("generate")
    assert (answer.status_code, answer.json()) == (403, {"error": "this tenant is suspended"})
    assert context.table.of_tenant(LOCAL.id) == []


def test_packs_are_compared_on_all_that_was_asked(home: Path, guard_in: Callable[..., Guard]) -> None:
    """The negative prompt was decided too."""
    context = Context.open(Settings(home=home))
    guard_in(home).generate_all(PromptRequest(prompt="a red apple", negative_prompt="underage", seed=1))
    assert [asked.negative_prompt for asked in _recent(context)] == ["underage"]
