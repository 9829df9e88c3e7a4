"""What one picture cost in time, by stage: the guards' share stands beside the drawing's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from guardrails.domain.canonical import Json
from guardrails.domain.records import Stage

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Milliseconds of wall time of one picture.

    Attributes:
        stages: by `Stage` value. Pictures of one request share the decision about the prompt and the drawing equally;
            "screening" includes the search for similar works, and `Check.milliseconds` says what each screen took.
    """

    stages: Mapping[str, float]

    @property
    def guard(self) -> float:
        """Everything but the drawing."""
        return sum(self.stages.values()) - self.stages[Stage.GENERATION.value]

    @property
    def share(self) -> float:
        """The guards' part of the whole, 0..1."""
        total = sum(self.stages.values())
        return self.guard / total if total else 0.0

    def to_json(self) -> dict[str, Json]:
        """Stages, their sum without the drawing, and its share of the whole."""
        stages: dict[str, Json] = {stage: round(spent, 1) for stage, spent in self.stages.items()}
        return {"stages_ms": stages, "guard_ms": round(self.guard, 1), "guard_share": round(self.share, 4)}


class Clock:
    """Times the stages of one picture.

    Args:
        prompt, generation: milliseconds of what was done for several pictures at once, this one's share.
    """

    def __init__(self, *, prompt: float, generation: float) -> None:
        self._stages = {Stage.PROMPT.value: prompt, Stage.GENERATION.value: generation}

    def timed(self, stage: Stage, step: Callable[[], _Result]) -> Callable[[], _Result]:
        """The step, which adds its time to the stage when it is run."""

        def run() -> _Result:
            started = time.perf_counter()
            try:
                return step()
            finally:
                spent = (time.perf_counter() - started) * 1e3
                self._stages[stage.value] = self._stages.get(stage.value, 0.0) + spent

        return run

    def read(self) -> Timings:
        """The times so far."""
        return Timings(stages=dict(self._stages))
