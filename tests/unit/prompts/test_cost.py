"""Linear on the worst input, quick on the usual one, and light to import."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time

import pytest

from guardrails.domain.requests import PromptRequest
from guardrails.policy import default_policy
from guardrails.prompts import PromptGuard

ADVERSARIAL = {
    "one letter": "a", "letters apart": "a b ", "brackets": "(", "open tags": "<", "weights": ":1", "blanks": ": ",
    "entities": "&#110;", "ampersands": "&a", "term": "porn ", "masked term": "naked cake ", "both": "naked cake nude ",
    "leet": "p0rn! ", "zero-width": "n\u200bude ", "ligature": "\ufdfa", "dots": "p.", "hyphens": "ab-",
    "everything": "d0n4ld trump 1 aaa (x:1) n-u-d-e &#110;é ", "prefix": "in the style of ",
}  # fmt: skip


@pytest.fixture(scope="module")
def roomy_guard() -> PromptGuard:
    return PromptGuard(dataclasses.replace(default_policy(), prompt_limit=20_000), words_only=True)


def seconds(guard: PromptGuard, prompt: str) -> float:
    started = time.process_time()
    guard.decide(PromptRequest(prompt=prompt))
    return time.process_time() - started


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_twenty_thousand_characters_cost_less_than_a_second(roomy_guard: PromptGuard, name: str) -> None:
    piece = ADVERSARIAL[name]
    prompt = (piece * 20_000)[:20_000]
    # Measured at up to 0.2 s; a quadratic step would take many seconds.
    assert min(seconds(roomy_guard, prompt) for _ in range(2)) < 1.0


START = """
import json, sys, time
started = time.process_time()
import guardrails.prompts
from guardrails.policy import default_policy
guardrails.prompts.PromptGuard(default_policy(), words_only=True)
print(json.dumps([time.process_time() - started, sorted(sys.modules)]))
"""


def test_import_and_default_pack_are_quick_and_load_nothing_heavy() -> None:
    runs = [
        json.loads(subprocess.run([sys.executable, "-P", "-c", START], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    loaded = {name.partition(".")[0] for name in runs[0][1]}
    assert loaded.isdisjoint({"torch", "scipy", "pydantic", "numpy", "transformers", "diffusers", "onnxruntime", "PIL"})
    # 0.2 s of processor time measured on a busy core, with 20,000 names; the bound leaves room for a busier one.
    assert min(elapsed for elapsed, _ in runs) < 0.45
