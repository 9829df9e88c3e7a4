"""What is allowed: YAML documents -> typed Policy. Knows nothing of how prompts are matched."""

from __future__ import annotations

from guardrails.policy.loading import default_policy, load_policy, parse_policy
from guardrails.policy.model import (
    Policy,
    PolicyTest,
    PromptRule,
    ScreenRule,
    SimilarityRule,
    WatermarkRule,
)

__all__ = [
    "Policy",
    "PolicyTest",
    "PromptRule",
    "ScreenRule",
    "SimilarityRule",
    "WatermarkRule",
    "default_policy",
    "load_policy",
    "parse_policy",
]
