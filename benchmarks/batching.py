"""What drawing several requests in one call of the model gains, and what it changes in the pictures.

    python benchmarks/batching.py --jobs 8 --rounds 3

One worker runs the same jobs with every batch size in turn, round after round, through a whole guard (prompt policy,
watermark, signature, record; screens and index are doubles). Processor time, so that other work on the machine changes
little; the ratio compares sizes of the same round. Prints a table, or JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from guardrails.generation.protocol import Drawn
from guardrails.pipeline import Guard
from guardrails.pipeline.embedded import pocket_model, with_pocket_defaults
from guardrails.testing.doubles import FixedIndex, passing_screens
from service.access.secrets import Secrets
from service.jobs.model import Job, form_of
from service.jobs.table import JobTable
from service.jobs.worker import Worker
from service.policies import Policies, written
from service.settings import Settings
from service.stores import open_database

PROMPTS = ("a red apple", "a blue boat", "a green tree", "a yellow star", "a house", "a fish", "a cup", "a sun")


class Clocked:
    """A generator, the processor time that it took, and what it drew by seed."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.seconds = 0.0
        self.drawn: dict[int, np.ndarray] = {}

    def draw(self, *arguments: Any, **options: Any) -> list[Drawn]:
        before = time.process_time()
        drawn: list[Drawn] = self._generator.draw(*arguments, **options)
        return self._noted(before, [drawn])[0]

    def draw_together(self, *arguments: Any, **options: Any) -> list[list[Drawn]]:
        before = time.process_time()
        return self._noted(before, self._generator.draw_together(*arguments, **options))

    def _noted(self, before: float, made: list[list[Drawn]]) -> list[list[Drawn]]:
        self.seconds += time.process_time() - before
        self.drawn |= {drawn.facts.seed: drawn.pixels for one in made for drawn in one}
        return made


def run(jobs: int, steps: int, size: int, home: Path, generator: Clocked) -> tuple[float, float, list[np.ndarray]]:
    """Processor seconds of a worker, those of its model, and what it drew by job."""
    settings = Settings(home=home / uuid.uuid4().hex)
    settings.assets.mkdir(parents=True)
    table = JobTable(open_database(settings))
    guards: dict[str, Guard] = {}

    def guard(policy: Any) -> Guard:
        if policy.digest not in guards:
            parts: dict[str, Any] = {"screens": passing_screens(), "index": FixedIndex(), "home": settings.home}
            guards[policy.digest] = Guard(generator, policy=policy, **parts)
        return guards[policy.digest]

    policies = Policies(settings.policy_names)
    worker = Worker(
        table,
        guard,
        policies,
        Secrets.load_or_create(settings.folder),
        assets=settings.assets,
        uploads=settings.uploads,
        lease_seconds=600,
        batch_pictures=size,
    )
    guard(policies.get()).generate("a red apple", steps=1)
    for number in range(jobs):
        table.submit(_job(number, steps, written("default", policies.get())))
    generator.seconds, before = 0.0, time.process_time()
    while worker.run_one():
        pass
    spent = time.process_time() - before
    assert table.counts() == {"succeeded": jobs}
    return spent, generator.seconds, [generator.drawn[number] for number in range(jobs)]


def _job(number: int, steps: int, policy: str) -> Job:
    request = {"prompt": PROMPTS[number % len(PROMPTS)], "format": "png", "seed": number, "steps": steps, "count": 1}
    return Job(
        id=f"job_{number}",
        tenant="local",
        api_key="none",
        kind="generation",
        request=request,
        ids=(str(uuid.uuid4()),),
        policy=policy,
        created_at=time.time(),
        form=form_of("generation", request),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    from guardrails.generation.loading import load_generator

    loaded = load_generator(str(pocket_model()), device=asked.device, batch_size=max(asked.sizes))
    generator = Clocked(with_pocket_defaults(loaded))
    spent: dict[int, list[tuple[float, float]]] = {size: [] for size in asked.sizes}
    drawn: dict[int, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory(prefix="batching-") as folder:
        for number in range(asked.rounds):
            for size in asked.sizes:
                print(f"round {number + 1}, {size} in a call", file=sys.stderr)
                whole, model, drawn[size] = run(asked.jobs, asked.steps, size, Path(folder), generator)
                spent[size].append((whole / asked.jobs, model / asked.jobs))
    rows = [_row(size, spent, drawn, asked.sizes[0]) for size in asked.sizes]
    if asked.json:
        print(json.dumps({"jobs": asked.jobs, "rounds": asked.rounds, "steps": asked.steps, "rows": rows}))
        return 0
    print("| in one call | CPU ms a picture, whole | of the model | ratio, whole | of the model | values that differ |")
    print("|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['size']} | {row['whole']:.0f} | {row['model']:.0f} | {row['whole_ratio']:.2f}"
            f" | {row['model_ratio']:.2f} | {row['differing']:.2e}, at most {row['farthest']} |"
        )
    return 0


def _row(
    size: int, spent: dict[int, list[tuple[float, float]]], drawn: dict[int, list[np.ndarray]], first: int
) -> dict[str, float]:
    ratios = [(one[0] / other[0], one[1] / other[1]) for one, other in zip(spent[first], spent[size], strict=True)]
    off = [np.abs(one.astype(int) - other) for one, other in zip(drawn[first], drawn[size], strict=True)]
    return {
        "size": size,
        "whole": statistics.median(whole for whole, _ in spent[size]) * 1000,
        "model": statistics.median(model for _, model in spent[size]) * 1000,
        "whole_ratio": statistics.median(whole for whole, _ in ratios),
        "model_ratio": statistics.median(model for _, model in ratios),
        "differing": float(np.mean([(difference > 0).mean() for difference in off])),
        "farthest": int(max(difference.max() for difference in off)),
    }


if __name__ == "__main__":
    raise SystemExit(main())
