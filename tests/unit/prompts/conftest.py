"""The default pack, loaded once, and small packs made from one rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.policy import default_policy, parse_policy
from guardrails.prompts import PromptGuard

Decide = Callable[[str], PromptDecision]


@pytest.fixture(scope="session")
def default_guard() -> PromptGuard:
    return PromptGuard(default_policy(), words_only=True)


@pytest.fixture(scope="session")
def decide(default_guard: PromptGuard) -> Decide:
    return lambda prompt: default_guard.decide(PromptRequest(prompt=prompt))


@pytest.fixture(scope="session")
def guard_with() -> Callable[..., PromptGuard]:
    """A guard over rules given as mappings; what a rule leaves out is filled in."""

    def build(*rules: dict[str, Any], limit: int = 2000, **more: Any) -> PromptGuard:
        filled = [
            {"id": f"R-{n}", "category": "c", "action": "block", "severity": 3, "message": "found {words}"} | rule
            for n, rule in enumerate(rules, start=1)
        ]
        pack = {
            "api_version": "policy/v1", "id": "t", "version": "1", "description": "d", "prompt_limit": limit,
            "prompt_rules": filled, "watermark_rule": {"id": "W", "not_robust": "flag", "message": "m"},
        } | more  # fmt: skip
        # JSON is YAML too.
        return PromptGuard(parse_policy(json.dumps(pack).encode(), source="t.yaml"))

    return build
