"""A decision is recorded with its reasons, and the same rules decide the same again."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable

import pytest

from guardrails.domain.requests import PromptRequest
from guardrails.errors import InputError
from guardrails.prompts import PromptGuard
from guardrails.prompts.records import decision_record, prompt_hmac, replay
from guardrails.resources import policies_path

DAY = datetime.date(2026, 10, 20)
KEY = bytes(range(32))
PROMPTS = [
    "a lighthouse at dawn", "photo of Joe Biden being arrested", "a n.u.d.e woman", "a castle by greg rutkowski",
    "a marble statue, nude", "ttip darb", "medical textbook, explicit nudity", "obraz kota na dachu przy domu",
    "guardrails test minor, guardrails test explicit", "p\u043ern (brad:1.2) pitt 4rr3sted",
]  # fmt: skip
HEADS_OF_STATE = [
    line
    for line in policies_path("lists", "heads-of-state.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
Build = Callable[..., PromptGuard]


def recorded(guard: PromptGuard, prompt: str, *, keep_text: bool, jurisdiction: str = "US") -> dict[str, object]:
    request = PromptRequest(prompt=prompt, jurisdiction=jurisdiction, negative_prompt="blurry, Donald Trump")
    record = decision_record(request, guard.decide(request, on=DAY), key=KEY, keep_text=keep_text)
    # As it comes back from a file.
    restored: dict[str, object] = json.loads(json.dumps(record))
    return restored


@pytest.mark.parametrize("prompt", PROMPTS)
def test_replaying_gives_the_same_decision(default_guard: PromptGuard, prompt: str) -> None:
    assert replay(recorded(default_guard, prompt, keep_text=True), default_guard, key=KEY) == []


def test_a_record_without_text_quotes_nothing_and_replays_beside_its_prompt(default_guard: PromptGuard) -> None:
    prompt = "in a Zanzibar café: photo of Joe Biden being arrested, by greg rutkowski"
    record = recorded(default_guard, prompt, keep_text=False)
    written = json.dumps(record, ensure_ascii=False)
    assert "Zanzibar" not in written
    assert "message" not in written
    request = PromptRequest(prompt=prompt, jurisdiction="US", negative_prompt="blurry, Donald Trump")
    assert replay(record, default_guard, key=KEY, request=request) == []
    with pytest.raises(InputError, match="does not hold the prompt"):
        replay(record, default_guard, key=KEY)


def test_a_record_explains_itself(default_guard: PromptGuard) -> None:
    record = recorded(default_guard, "press photo of Joe Biden, arr3sted, a nude marble statue", keep_text=True)
    assert record["decision"] == "block"
    assert record["deciding_rules"] == ["PUBLIC-01", "PUBLIC-03"]
    assert record["policy"]["digest"] == default_guard.decide(PromptRequest(prompt="x"), on=DAY).policy.digest
    assert set(record["timings"]) == {"match", "decide"}
    first = record["findings"][0]
    assert (first["rule"], first["category"], first["evidence"]["severity"]) == ("PUBLIC-01", "public_figures", 2)
    span = first["evidence"]["spans"][0]
    assert record["request"]["prompt"][span["start"] : span["end"]] == "Joe Biden"
    assert span["registry_id"] == "enwiki:Joe_Biden"
    assert first["detector"]["version"]
    assert {"SEXUAL-02", "PUBLIC-02"} <= {miss["rule"] for miss in record["near_misses"]}


@pytest.mark.parametrize("name", HEADS_OF_STATE)
def test_whoever_is_on_the_list_of_heads_of_state_is_known_by_the_registry_too(
    default_guard: PromptGuard, name: str
) -> None:
    (finding,) = default_guard.decide(PromptRequest(prompt=f"{name} eats soup")).findings
    assert [span["registry_id"].split(":")[0] for span in finding.evidence["spans"]] == ["enwiki"]


def test_the_day_and_the_place_of_the_record_count_and_not_those_of_the_replay(default_guard: PromptGuard) -> None:
    inside = recorded(default_guard, "photo of Joe Biden being arrested", keep_text=True)
    outside = recorded(default_guard, "photo of Joe Biden being arrested", keep_text=True, jurisdiction="DE")
    assert (inside["decision"], outside["decision"]) == ("block", "review")
    assert replay(inside, default_guard, key=KEY) == replay(outside, default_guard, key=KEY) == []


def test_a_changed_record_comes_out_differently(default_guard: PromptGuard) -> None:
    record = recorded(default_guard, "a nude woman", keep_text=True)
    record["decision"] = "allow"
    record["findings"] = []
    assert replay(record, default_guard, key=KEY) == ["decision", "findings"]


def test_what_cannot_be_replayed_is_refused(default_guard: PromptGuard, guard_with: Build) -> None:
    record = recorded(default_guard, "a nude woman", keep_text=True)
    with pytest.raises(InputError, match="made under"):
        replay(record, guard_with({"terms": ["foo"]}), key=KEY)
    with pytest.raises(InputError, match="another prompt"):
        replay(record, default_guard, key=bytes(32))
    with pytest.raises(InputError, match="another prompt"):
        replay(record, default_guard, key=KEY, request=PromptRequest(prompt="a nude man"))
    with pytest.raises(InputError, match="format"):
        replay({"format": "x"}, default_guard, key=KEY)


def test_the_digest_of_a_prompt_needs_the_key() -> None:
    one, two = PromptRequest(prompt="a"), PromptRequest(prompt="b")
    assert prompt_hmac(one, KEY) == prompt_hmac(one, KEY) != prompt_hmac(two, KEY)
    assert prompt_hmac(one, KEY) != prompt_hmac(one, bytes(32))
