"""Doors that anyone may use hold a tenant with a key to what its tenant is held to everywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fastapi import Request

from service.access.tenants import LOCAL, Tenant
from service.api.auth import admit
from service.api.context import Caller, Context
from service.api.errors import ApiError
from service.settings import Settings
from service.testing import run_apart


def ask(context: Context, tenant: Tenant) -> None:
    request = Request({"type": "http", "headers": [], "client": ("192.0.2.1", 1), "state": {}})
    caller = Caller(tenant=tenant, key="key", scopes=frozenset({"verify"}))
    run_apart(admit(request, context, caller, "verify", public=True))


def test_a_suspended_tenant_verifies_nothing(tmp_path: Path) -> None:
    context = Context.open(Settings(home=tmp_path))
    ask(context, LOCAL)
    with pytest.raises(ApiError) as refused:
        ask(context, dataclasses.replace(LOCAL, suspended=True))
    assert (refused.value.status, refused.value.body["code"]) == (403, "tenant_suspended")


def test_requests_per_minute_count_there_too(tmp_path: Path) -> None:
    context = Context.open(Settings(home=tmp_path))
    tenant = dataclasses.replace(LOCAL, requests_per_minute=1)
    ask(context, tenant)
    with pytest.raises(ApiError) as refused:
        ask(context, tenant)
    assert refused.value.status == 429
