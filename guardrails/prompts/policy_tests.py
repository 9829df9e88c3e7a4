"""A pack checked with the real matcher: what `guardrails policy check` runs."""

from __future__ import annotations

from guardrails.domain.requests import PromptRequest
from guardrails.policy.linting import LintReport, lint_policy
from guardrails.policy.model import Policy
from guardrails.prompts.guard import PromptGuard


def run_policy_tests(policy: Policy) -> LintReport:
    """Run the embedded tests and examples of a policy and look for terms that do nothing."""
    guard = PromptGuard(policy)
    return lint_policy(policy, lambda prompt: guard.decide(PromptRequest(prompt=prompt)))
