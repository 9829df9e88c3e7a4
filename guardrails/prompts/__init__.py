"""Prompt + Policy -> PromptDecision: normalise into views, match, weigh context, decide."""

from __future__ import annotations

from guardrails.prompts.guard import PromptGuard
from guardrails.prompts.policy_tests import run_policy_tests

__all__ = ["PromptGuard", "run_policy_tests"]
