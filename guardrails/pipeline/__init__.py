"""The order of steps: a prompt goes in, a sealed image or a refusal comes out."""

from __future__ import annotations

from guardrails.pipeline.approval import Approval
from guardrails.pipeline.guard import Guard, Outcome
from guardrails.pipeline.original import Original
from guardrails.pipeline.stages import Order, Sealed, Step
from guardrails.pipeline.together import draw_together

__all__ = ["Approval", "Guard", "Order", "Original", "Outcome", "Sealed", "Step", "draw_together"]
