"""A pack checked with the real matcher: what `guardrails policy check` runs."""

from __future__ import annotations

import datetime

from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.policy.linting import LintReport, lint_policy
from guardrails.policy.model import Policy
from guardrails.prompts.guard import PromptGuard


def run_policy_tests(policy: Policy) -> LintReport:
    """Run the embedded tests and examples of a policy and look for terms and rules that do nothing.

    They are promises of the word rules, so the semantic stage is left out: a check takes no model and no seconds.
    """
    guard = PromptGuard(policy, words_only=True)

    def decide(prompt: str, *, negative_prompt: str = "", on: datetime.date, jurisdiction: str = "") -> PromptDecision:
        request = PromptRequest(prompt=prompt, negative_prompt=negative_prompt, jurisdiction=jurisdiction)
        return guard.decide(request, on=on)

    return lint_policy(policy, decide)
