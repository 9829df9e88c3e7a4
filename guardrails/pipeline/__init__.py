"""The order of steps: a prompt goes in, a sealed image or a refusal comes out."""

from __future__ import annotations

from guardrails.pipeline.guard import Guard, Outcome
from guardrails.pipeline.stages import Sealed

__all__ = ["Guard", "Outcome", "Sealed"]
