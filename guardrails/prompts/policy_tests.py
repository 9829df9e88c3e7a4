"""A pack checked with the real matcher: what `guardrails policy check` runs."""

from __future__ import annotations

import datetime

from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.policy.linting import LintReport, lint_policy
from guardrails.policy.model import Policy
from guardrails.prompts.guard import PromptGuard


def run_policy_tests(policy: Policy) -> LintReport:
    """Run the embedded tests and examples of a policy and look for terms and rules that do nothing."""
    guard = PromptGuard(policy)

    def decide(prompt: str, *, negative_prompt: str = "", on: datetime.date, jurisdiction: str = "") -> PromptDecision:
        request = PromptRequest(prompt=prompt, negative_prompt=negative_prompt, jurisdiction=jurisdiction)
        return guard.decide(request, on=on)

    return lint_policy(policy, decide)
