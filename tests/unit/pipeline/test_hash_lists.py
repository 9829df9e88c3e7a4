"""A picture on a hash list: refused before anything else sees it, and nothing of it is kept."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guardrails import home as homes
from guardrails.domain.findings import Action, CheckStatus
from guardrails.domain.records import Refusal, Stage
from guardrails.domain.requests import PromptRequest
from guardrails.files import STAGED_PREFIX
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline import Approval, Guard, Original, Sealed
from guardrails.screens.protocol import Reading
from guardrails.similarity.banks import BankSettings, Role
from guardrails.similarity.hash_lists import RULE, HashLists
from guardrails.similarity.hashes import SYM256
from guardrails.similarity.ingest import Intake
from guardrails.similarity.sources import Item
from guardrails.similarity.store import Store
from guardrails.testing.banks import bank_of
from guardrails.testing.doubles import draw_shapes, fixed_screen

PROMPT = "seventeen quiet lanterns above a heron"
LISTED_SEED = 4


def write_list(home: Path, name: str, role: Role, seed: int, entry: str) -> Store:
    """A list with the hash of one drawing."""
    return bank_of(homes.hash_lists_folder(home) / name, role, {entry: draw_shapes(seed)})


@pytest.fixture
def listed(home: Path) -> Store:
    return write_list(home, "example-list", Role.SENSITIVE, LISTED_SEED, "entry-17")


class Watching:
    """A screen that remembers whether it saw anything."""

    def __init__(self) -> None:
        self.component = fixed_screen("open-nsfw", nsfw=0.01).component
        self.seen = 0

    def score(self, pixels: Any) -> Reading:
        self.seen += 1
        return Reading(scores={"nsfw": 0.99})


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_hit_is_refused_and_only_the_list_is_remembered(
    guard_in: Callable[..., Guard], home: Path, out: Path, listed: Store, facts: Callable[[], Any], left: Any
) -> None:
    screen = Watching()
    guard = guard_in(home, screens=[screen])
    outcome = guard.generate(PROMPT, seed=LISTED_SEED, out=out)
    assert isinstance(outcome, Refusal)
    assert (outcome.stage, outcome.evidence_file, screen.seen) == (Stage.SIMILARITY, "", 0)
    (finding,) = outcome.findings
    assert (finding.rule, finding.action) == (RULE, Action.BLOCK)
    assert finding.evidence == {"list": "example-list", "entry": "entry-17"}
    assert "false hits to be expected for one picture among 1 hashes" in finding.error_rate
    recorded = facts()
    assert [check["scores"] for check in recorded["checks"]] == [{"example-list": 1.0}]
    assert "generation" not in recorded
    assert guard.ledger.payload(outcome.id) == {
        "hash_list": {"list": "example-list", "entry": "entry-17"},
        "fault": "",
        "evidence_file": "",
    }
    assert left() == []
    assert not homes.evidence_folder(home).exists()
    kept = everything_in(home)
    assert PROMPT.encode() not in kept
    assert b"entry-17" in everything_in(homes.hash_lists_folder(home))


def test_neither_a_review_nor_another_seed_gets_round_it(
    guard_in: Callable[..., Guard], home: Path, listed: Store
) -> None:
    guard = guard_in(home)
    request = PromptRequest(prompt=PROMPT, seed=LISTED_SEED)
    (outcome,) = guard.generate_all(request, approval=Approval(review="r", rules=frozenset({RULE})))
    assert isinstance(outcome, Refusal)
    assert outcome.findings[0].action is Action.BLOCK
    # Without a seed of its own, a request is not drawn again either: one record, and that is all.
    before = len(guard.ledger)
    drawn = guard_in(home, generator=Always(LISTED_SEED)).generate_all(PromptRequest(prompt=PROMPT))
    assert [type(one) for one in drawn] == [Refusal]
    assert len(guard.ledger) == before + 1


class Always:
    """A generator with one picture."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def draw(self, request: PromptRequest, prompt: str, *, progress: Any = None) -> list[Any]:
        import dataclasses

        from guardrails.testing.doubles import ShapeGenerator

        return ShapeGenerator().draw(dataclasses.replace(request, seed=self._seed), prompt)


def test_other_pictures_pass_and_the_check_stands_in_their_record(
    guard_in: Callable[..., Guard], home: Path, listed: Store, facts: Callable[[], Any]
) -> None:
    sealed = guard_in(home).generate(PROMPT, seed=LISTED_SEED + 1)
    assert isinstance(sealed, Sealed)
    assert sealed.checks[0].component.name == "hash-lists"
    assert facts()["checks"][0]["scores"] == {"example-list": 0.0}


def test_without_lists_there_is_no_check(guard_in: Callable[..., Guard], home: Path) -> None:
    sealed = guard_in(home).generate(PROMPT, seed=LISTED_SEED)
    assert isinstance(sealed, Sealed)
    assert "hash-lists" not in {check.component.name for check in sealed.checks}


def test_a_new_list_and_a_harmless_picture_count_from_the_next_picture_on(
    guard_in: Callable[..., Guard], home: Path
) -> None:
    guard = guard_in(home)
    assert isinstance(guard.generate(PROMPT, seed=LISTED_SEED), Sealed)
    write_list(home, "example-list", Role.SENSITIVE, LISTED_SEED, "entry-17")
    assert isinstance(guard.generate(PROMPT, seed=LISTED_SEED), Refusal)
    write_list(home, "harmless", Role.NEGATIVE, LISTED_SEED, "our own logo")
    assert isinstance(guard.generate(PROMPT, seed=LISTED_SEED), Sealed)


def test_an_original_on_a_list_is_refused_before_its_history_is_read(
    guard_in: Callable[..., Guard], home: Path, listed: Store, facts: Callable[[], Any]
) -> None:
    file = io.BytesIO()
    mirrored = np.ascontiguousarray(draw_shapes(LISTED_SEED)[:, ::-1])
    Image.fromarray(mirrored).save(file, "PNG")
    guard = guard_in(home)
    request = PromptRequest(prompt=PROMPT, seed=1)
    (outcome,) = guard.generate_all(request, original=Original.read(file.getvalue()))
    assert isinstance(outcome, Refusal)
    assert outcome.findings[0].rule == RULE
    assert "parent" not in facts()


def test_a_damaged_list_or_one_of_another_role_releases_nothing(
    guard_in: Callable[..., Guard], home: Path, listed: Store
) -> None:
    (listed.folder / "CURRENT").write_text("{}")
    outcome = guard_in(home).generate(PROMPT, seed=1)
    assert isinstance(outcome, Refusal)
    assert outcome.fault.startswith("index_damaged")
    listed.folder.rename(home / "away")
    write_list(home, "works", Role.WORKS, 2, "a work")
    outcome = guard_in(home).generate(PROMPT, seed=1)
    assert isinstance(outcome, Refusal)
    assert "no list of hashes" in outcome.fault


def test_a_picture_without_detail_was_not_checked_and_that_is_said(
    guard_in: Callable[..., Guard], home: Path, listed: Store
) -> None:
    answer = guard_in(home)._screening._hash_lists.look(np.full((90, 90, 3), 255, np.uint8))
    assert answer is not None
    assert (answer.check.status, answer.finding) == (CheckStatus.UNAVAILABLE, None)


def test_a_list_that_is_changed_replaced_or_being_made_counts_from_the_next_picture_on(
    home: Path, listed: Store, tmp_path: Path
) -> None:
    folder, pixels = homes.hash_lists_folder(home), draw_shapes(LISTED_SEED)
    lists = HashLists(folder)

    def found() -> Any:
        answer = lists.look(pixels)
        assert answer is not None
        return answer.finding and answer.finding.evidence["list"]

    assert found() == "example-list"
    (folder / f"{STAGED_PREFIX}list").mkdir()
    assert found() == "example-list"
    settings = BankSettings.from_json(listed.settings)
    listed.configure(replace(settings, name="renamed").to_json())
    assert found() == "renamed"
    listed.configure(replace(settings, role=Role.NEGATIVE).to_json())
    assert found() is None
    # Another list of another hash under the same name.
    other = Store.create(tmp_path / "other", SYM256, BankSettings.default("other", Role.SENSITIVE, SYM256).to_json())
    intake = Intake(other)
    intake.add([intake.hash(Item("entry-18", encode(pixels, ImageFormat.PNG), {}))])
    shutil.rmtree(listed.folder)
    (tmp_path / "other").rename(listed.folder)
    assert found() == "other"
