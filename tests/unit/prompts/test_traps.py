"""Harmless prompts that careless lists stop: `datasets/prompts/benign-traps.txt`."""

from __future__ import annotations

from collections.abc import Callable

from guardrails.domain.findings import Action
from guardrails.domain.requests import PromptDecision
from guardrails.resources import datasets_path

MOST_STOPPED = 0.02


def test_few_traps_are_stopped(decide: Callable[[str], PromptDecision]) -> None:
    lines = datasets_path("prompts", "benign-traps.txt").read_text(encoding="utf-8").splitlines()
    traps = [line for line in lines if line and not line.startswith("#")]
    assert len(traps) == len(set(traps)) >= 300
    stopped = [trap for trap in traps if decide(trap).action >= Action.REVIEW]
    assert len(stopped) <= MOST_STOPPED * len(traps), stopped
