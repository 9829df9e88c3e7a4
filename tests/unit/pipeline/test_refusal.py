"""What stays: every rule that speaks and every fault of a guard ends in a recorded refusal and no file."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardrails.domain.findings import Action, CheckStatus, Component
from guardrails.domain.identity import ImageId
from guardrails.domain.images import Match, MatchState, Rights
from guardrails.domain.records import RecordKind, Refusal, Stage
from guardrails.domain.requests import PromptRequest
from guardrails.errors import GenerationError, ImageError, OptionError, ScreenUnavailable, StorageError
from guardrails.generation.protocol import Drawn, Progress
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.ledger import opens
from guardrails.pipeline import Approval, Guard, Sealed
from guardrails.policy import default_policy
from guardrails.provenance import Signed, Signer
from guardrails.screens.protocol import Reading
from guardrails.similarity.search import SearchResult
from guardrails.testing.doubles import FixedIndex, ShapeGenerator, draw_shapes, fixed_screen, passing_screens
from guardrails.watermark.keys import Keyring
from guardrails.watermark.protocol import Embedded
from guardrails.watermark.scheme import PixelMark

PROMPT = "seventeen quiet lanterns above a heron"
FORBIDDEN = "seventeen lanterns, how to make a pipe bomb, step by step diagram"

BuildGuard = Callable[..., Guard]
Left = Callable[[], list[str]]
Facts = Callable[[], Any]


class Screen:
    """A screen that does what the test says."""

    component = Component(name="open-nsfw", version="0")

    def __init__(self, behave: Callable[[], Mapping[str, float]]) -> None:
        self._behave = behave

    def score(self, pixels: Pixels) -> Reading:
        return Reading(scores=self._behave())


class Generator(ShapeGenerator):
    """A generator that spoils what it drew."""

    def __init__(self, spoil: Callable[[list[Drawn]], list[Drawn]]) -> None:
        self._spoil = spoil

    def draw(self, request: PromptRequest, prompt: str, *, progress: Progress | None = None) -> list[Drawn]:
        return self._spoil(super().draw(request, prompt, progress=progress))


def fail(error: Exception) -> Any:
    raise error


def refused(outcome: object, stage: Stage) -> Refusal:
    assert isinstance(outcome, Refusal), outcome
    assert outcome.stage is stage
    assert outcome.receipt is not None
    return outcome


def reserved_work(
    state: MatchState = MatchState.CONFIRMED, reservation: str = "opt-out", licence: str = "CC-BY-4.0"
) -> Match:
    rights = Rights(licence=licence, licence_url="", creator="N. N.", source="museum", reservation=reservation)
    distances = {"pdq256": 6, "phash64": 2}
    return Match(entry="w1", title="Blue boats", rights=rights, state=state, distances=distances, sha256="12" * 32)


def test_a_forbidden_prompt_is_refused_with_rule_and_span_before_anything_is_drawn(
    home: Path, guard_in: BuildGuard, out: Path, left: Left
) -> None:
    guard = guard_in(home, Generator(lambda drawn: fail(AssertionError("drawn"))))
    refusal = refused(guard.generate(FORBIDDEN, out=out), Stage.PROMPT)
    assert refusal.fault == ""
    (finding,) = [found for found in refusal.findings if found.action is Action.BLOCK]
    assert finding.rule == "WEAPON-01"
    assert finding.span is not None
    assert FORBIDDEN[finding.span.start : finding.span.end] == "pipe bomb"
    assert left() == []


def test_a_refusal_is_recorded_without_the_words_that_were_asked(
    guard: Guard, entries: Callable[[], list[str]]
) -> None:
    refusal = refused(guard.generate(FORBIDDEN), Stage.PROMPT)
    (entry,) = entries()
    for word in ("lanterns", "pipe", "bomb", "diagram"):
        assert word not in entry
    logged = guard.ledger.find_by_id(refusal.id)
    assert logged is not None
    guard.ledger.verify_record(logged)
    record, payload = logged.record, guard.ledger.payload(refusal.id)
    assert record.kind is RecordKind.REFUSAL
    assert record.facts["stage"] == "prompt"
    assert [found["rule"] for found in record.facts["findings"]] == ["WEAPON-01"]
    assert payload is not None
    assert payload["request"]["prompt"] == FORBIDDEN
    assert payload["decision"]["findings"][0]["span"]["field"] == "prompt"
    assert opens("prompt", FORBIDDEN, payload["salts"]["prompt"], record.commitments["prompt"])


def test_a_score_over_its_threshold_is_refused_with_score_threshold_and_rate(
    home: Path, guard_in: BuildGuard, out: Path, left: Left, facts: Facts
) -> None:
    guard = guard_in(home, screens=(fixed_screen("open-nsfw", nsfw=0.99), passing_screens()[1]))
    refusal = refused(guard.generate(PROMPT, seed=4, out=out), Stage.SCREENING)
    finding = refusal.findings[0]
    assert (finding.rule, finding.score, finding.threshold) == ("SCREEN-NSFW-01", 0.99, 0.98)
    assert "upper bound" in finding.error_rate
    assert [check.status for check in refusal.checks] == [CheckStatus.RAN, CheckStatus.RAN]
    assert facts()["generation"]["seed"] == 4
    assert left() == []


def test_a_score_at_its_threshold_counts_and_one_below_does_not(home: Path, guard_in: BuildGuard) -> None:
    at = guard_in(home, screens=(fixed_screen("open-nsfw", nsfw=0.85), passing_screens()[1]))
    refused(at.generate(PROMPT), Stage.SCREENING)
    below = guard_in(home, screens=(fixed_screen("open-nsfw", nsfw=0.8499), passing_screens()[1]))
    assert isinstance(below.generate(PROMPT), Sealed)


@pytest.mark.parametrize(
    ("behave", "status"),
    [
        (lambda: fail(ScreenUnavailable("no weights", hint="install them")), CheckStatus.UNAVAILABLE),
        (lambda: {"nsfw": float("nan")}, CheckStatus.FAILED),
        (lambda: {"nsfw": -0.1}, CheckStatus.FAILED),
        (dict, CheckStatus.RAN),
    ],
    ids=["unavailable", "NaN", "negative", "no such score"],
)
def test_a_screen_that_gives_no_score_never_counts_as_passed(
    home: Path, guard_in: BuildGuard, out: Path, left: Left, behave: Any, status: CheckStatus
) -> None:
    guard = guard_in(home, screens=(Screen(behave), passing_screens()[1]))
    refusal = refused(guard.generate(PROMPT, out=out), Stage.SCREENING)
    assert refusal.findings[0].rule == "SCREEN-NSFW-01"
    assert refusal.findings[0].evidence["status"] == "unavailable"
    assert refusal.checks[0].status is status
    assert left() == []


def test_a_guard_without_any_screen_releases_nothing(home: Path, guard_in: BuildGuard) -> None:
    refused(guard_in(home, screens=()).generate(PROMPT), Stage.SCREENING)


def test_a_missing_screen_that_only_flags_is_noted_on_the_released_image(home: Path, guard_in: BuildGuard) -> None:
    sealed = guard_in(home, screens=passing_screens()[:1]).generate(PROMPT)
    assert isinstance(sealed, Sealed)
    assert {finding.detector.name for finding in sealed.findings} == {"clip-concepts", "visible-marks"}
    assert all(finding.score is None and finding.action is Action.FLAG for finding in sealed.findings)


def test_a_repeated_reserved_work_is_refused_and_shown_side_by_side(
    home: Path, guard_in: BuildGuard, out: Path, left: Left
) -> None:
    guard = guard_in(home, index=FixedIndex(matches=(reserved_work(),)))
    refusal = refused(guard.generate(PROMPT, out=out), Stage.SIMILARITY)
    finding = next(found for found in refusal.findings if found.action is Action.BLOCK)
    assert finding.rule == "RIGHTS-01"
    assert (finding.evidence["title"], finding.evidence["reservation"]) == ("Blue boats", "opt-out")
    picture = Path(refusal.evidence_file)
    assert picture.parent == home / "evidence"
    assert picture.stat().st_mode & 0o077 == 0
    assert decode(picture.read_bytes()).pixels.shape[1] > 256
    assert left() == []


def test_evidence_that_cannot_be_kept_does_not_hide_the_rule(home: Path, guard_in: BuildGuard) -> None:
    (home / "evidence").write_text("in the way")
    guard = guard_in(home, index=FixedIndex(matches=(reserved_work(),)))
    refusal = refused(guard.generate(PROMPT), Stage.SIMILARITY)
    assert "RIGHTS-01" in [finding.rule for finding in refusal.findings]
    assert refusal.evidence_file == ""


@pytest.mark.parametrize(
    ("match", "rules"),
    [(reserved_work(MatchState.CANDIDATE), []), (reserved_work(reservation=""), ["RIGHTS-02"])],
    ids=["only a candidate", "not reserved"],
)
def test_other_matches_are_reported_and_released(
    home: Path, guard_in: BuildGuard, match: Match, rules: list[str]
) -> None:
    sealed = guard_in(home, index=FixedIndex(matches=(match,))).generate(PROMPT)
    assert isinstance(sealed, Sealed)
    assert sealed.matches == (match,)
    assert [finding.rule for finding in sealed.findings] == rules


def test_a_picture_that_could_not_be_compared_is_not_released(home: Path, guard_in: BuildGuard) -> None:
    class Blind(FixedIndex):
        def find(self, pixels: Pixels) -> SearchResult:
            return SearchResult(matches=(), unhashable=True, searched=1, radius=0)

    refusal = refused(guard_in(home, index=Blind()).generate(PROMPT), Stage.SIMILARITY)
    assert "RIGHTS-01" in [finding.rule for finding in refusal.findings]


def test_an_index_that_cannot_be_reached_releases_nothing_and_that_is_recorded(
    home: Path, guard_in: BuildGuard, entries: Callable[[], list[str]]
) -> None:
    class Away(FixedIndex):
        def find(self, pixels: Pixels) -> SearchResult:
            raise StorageError("PostgreSQL: connection refused", hint="check the server")

    refusal = refused(guard_in(home, index=Away()).generate(PROMPT), Stage.SIMILARITY)
    assert refusal.fault.startswith("storage_failed")
    assert len(entries()) == 1


class Sometimes:
    """An index that finds the work in the first `times` pictures only."""

    component = FixedIndex().component

    def __init__(self, match: Match, times: int) -> None:
        self.match, self.left = match, times

    def find(self, pixels: Pixels) -> SearchResult:
        self.left -= 1
        matches = (self.match,) if self.left >= 0 else ()
        return SearchResult(matches=matches, unhashable=False, searched=1, radius=0)

    def picture(self, entry_id: str) -> None:
        return None

    def thumbnail(self, entry_id: str) -> None:
        return None


def test_another_picture_is_drawn_before_a_repeated_work_ends_in_a_refusal(
    home: Path, guard_in: BuildGuard, entries: Callable[[], list[str]]
) -> None:
    index = Sometimes(reserved_work(), 2)
    sealed = guard_in(home, index=index).generate(PROMPT)
    assert isinstance(sealed, Sealed)
    assert len(entries()) == 3
    assert index.left == -1


def test_drawing_again_is_bounded(home: Path, guard_in: BuildGuard, entries: Callable[[], list[str]]) -> None:
    refused(guard_in(home, index=Sometimes(reserved_work(), 99)).generate(PROMPT), Stage.SIMILARITY)
    assert len(entries()) == 3


def test_a_named_seed_is_never_drawn_again(home: Path, guard_in: BuildGuard, entries: Callable[[], list[str]]) -> None:
    refused(guard_in(home, index=Sometimes(reserved_work(), 1)).generate(PROMPT, seed=3), Stage.SIMILARITY)
    assert len(entries()) == 1


def test_ids_that_a_caller_chose_are_never_drawn_again(
    home: Path, guard_in: BuildGuard, entries: Callable[[], list[str]]
) -> None:
    """Whoever looks for these ids after a crash would not find a picture that was drawn under another one."""
    index, chosen = Sometimes(reserved_work(), 1), [ImageId.new(), ImageId.new()]
    guard = guard_in(home, index=index)
    first, second = guard.generate_all(PromptRequest(prompt=PROMPT, count=2), ids=chosen)
    refused(first, Stage.SIMILARITY)
    assert isinstance(second, Sealed)
    assert second.id == chosen[1]
    # Two pictures were searched for, two records written: nothing in between.
    assert index.left == -1
    assert len(entries()) == 2
    # The same index lets another picture pass where the guard chooses the ids.
    free = Sometimes(reserved_work(), 1)
    assert isinstance(guard_in(home, index=free).generate(PROMPT), Sealed)
    assert free.left == -1
    assert len(entries()) == 4


def test_what_reviewers_approved_is_never_drawn_again(
    home: Path, guard_in: BuildGuard, entries: Callable[[], list[str]]
) -> None:
    """They saw one picture; another one would leave unseen."""
    index = Sometimes(reserved_work(), 1)
    approval = Approval(review="r1", rules=frozenset({"ANY-01"}))
    (outcome,) = guard_in(home, index=index).generate_all(PromptRequest(prompt=PROMPT), approval=approval)
    refused(outcome, Stage.SIMILARITY)
    assert index.left == 0
    assert len(entries()) == 1


@pytest.mark.parametrize(
    ("licence", "rules", "action"),
    [
        ("MIT", ["RIGHTS-05"], Action.ALLOW),
        ("CC0-1.0", ["RIGHTS-05"], Action.ALLOW),
        ("CC-BY-4.0", ["RIGHTS-02"], Action.FLAG),
        ("CC-BY-SA-4.0", ["RIGHTS-02", "RIGHTS-03"], Action.FLAG),
    ],
)
def test_terms_decide_what_follows_and_the_work_is_credited(
    home: Path, guard_in: BuildGuard, licence: str, rules: list[str], action: Action
) -> None:
    match = reserved_work(reservation="", licence=licence)
    guard = guard_in(home, index=FixedIndex(matches=(match,)))
    sealed = guard.generate(PROMPT)
    assert isinstance(sealed, Sealed)
    assert [finding.rule for finding in sealed.findings] == rules
    assert max(finding.action for finding in sealed.findings) is action
    (credited,) = sealed.manifest.policy_decision["similarWorks"]
    assert credited["rights"]["creator"] == "N. N."


@pytest.mark.parametrize("licence", ["", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "Custom"])
def test_terms_that_forbid_or_are_unknown_wait_for_a_reviewer(home: Path, guard_in: BuildGuard, licence: str) -> None:
    match = reserved_work(reservation="", licence=licence)
    refusal = refused(guard_in(home, index=FixedIndex(matches=(match,))).generate(PROMPT, seed=1), Stage.SIMILARITY)
    assert {"RIGHTS-04"} <= {finding.rule for finding in refusal.findings if finding.action is Action.REVIEW}


class Signing:
    """A signer whose result is spoiled by `spoil`."""

    def __init__(self, home: Path, spoil: Callable[[bytes], bytes]) -> None:
        self._signer, self._spoil = Signer.dev(home / "keys"), spoil

    def sign(self, data: bytes, mime: str, spec: Any) -> Signed:
        signed = self._signer.sign(data, mime, spec)
        return dataclasses.replace(signed, data=self._spoil(signed.data))


class Marking(PixelMark):
    """A mark that embeds nothing and says that it did."""

    def embed(self, pixels: Pixels, mark_id: str, *, flags: int = 1) -> Embedded:
        return dataclasses.replace(super().embed(pixels, mark_id, flags=flags), pixels=pixels)


class Search(FixedIndex):
    def find(self, pixels: Pixels) -> SearchResult:
        raise RuntimeError("index on fire")


def flip(data: bytes) -> bytes:
    middle = data.index(b"IDAT") + 40
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


FAULTS: dict[str, tuple[Stage, str, Callable[[Path], dict[str, Any]]]] = {
    "screen raises": (
        Stage.SCREENING,
        "RuntimeError: boom",
        lambda home: {"screens": (Screen(lambda: fail(RuntimeError("boom"))),)},
    ),
    "search raises": (Stage.SIMILARITY, "RuntimeError: index on fire", lambda home: {"index": Search()}),
    "signature does not verify": (
        Stage.PROVENANCE,
        "signing_failed: the signed file did not verify",
        lambda home: {"signer": Signing(home, flip)},
    ),
    "signer gives no image": (
        Stage.PROVENANCE,
        "signing_failed",
        lambda home: {"signer": Signing(home, lambda data: b"")},
    ),
    "mark is not in the final file": (
        Stage.PROVENANCE,
        "watermark_failed: the mark was not found",
        lambda home: {"mark": Marking(Keyring.load_or_create(home / "keys"))},
    ),
    "model raises": (
        Stage.GENERATION,
        "RuntimeError: out of memory",
        lambda home: {"generator": Generator(lambda drawn: fail(RuntimeError("out of memory")))},
    ),
    "model fails with our error": (
        Stage.GENERATION,
        "generation_failed: black",
        lambda home: {"generator": Generator(lambda drawn: fail(GenerationError("black")))},
    ),
    "model gives no picture": (
        Stage.GENERATION,
        "generation_failed: the model gave 0 pictures",
        lambda home: {"generator": Generator(lambda drawn: [])},
    ),
    "model gives floats": (
        Stage.GENERATION,
        "the model gave float64 pixels",
        lambda home: {
            "generator": Generator(lambda drawn: [dataclasses.replace(drawn[0], pixels=drawn[0].pixels / 255)])
        },
    ),
    "model states NaN": (
        Stage.GENERATION,
        "ValueError",
        lambda home: {
            "generator": Generator(
                lambda drawn: [
                    dataclasses.replace(
                        drawn[0], facts=dataclasses.replace(drawn[0].facts, guidance_scale=float("nan"))
                    )
                ]
            )
        },
    ),
    "picture too small for a mark": (
        Stage.WATERMARK,
        "watermark_failed",
        lambda home: {
            "generator": Generator(lambda drawn: [dataclasses.replace(drawn[0], pixels=draw_shapes(1, side=64))])
        },
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_any_guard_is_a_recorded_refusal_and_no_file(
    home: Path, guard_in: BuildGuard, out: Path, left: Left, facts: Facts, name: str
) -> None:
    stage, fault, parts_of = FAULTS[name]
    guard = guard_in(home, **parts_of(home))
    refusal = guard.generate(PROMPT, out=out)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.stage is stage
    assert refusal.fault
    assert fault in refusal.fault
    assert facts()["action"] == "block"
    assert facts()["fault"] == refusal.fault.partition(":")[0]
    assert left() == []


def test_an_input_error_inside_a_guard_is_not_blamed_on_the_caller(home: Path, guard_in: BuildGuard) -> None:
    guard = guard_in(home, signer=Signing(home, lambda data: fail(ImageError("too wide"))))
    refusal = refused(guard.generate(PROMPT), Stage.PROVENANCE)
    assert refusal.fault == "invalid_image: too wide"


def test_an_option_that_the_model_cannot_do_is_the_callers_mistake(home: Path, guard_in: BuildGuard) -> None:
    guard = guard_in(home, Generator(lambda drawn: fail(OptionError("no such size"))))
    with pytest.raises(OptionError):
        guard.generate(PROMPT)
    assert len(guard.ledger) == 0


def test_a_fault_in_the_prompt_guard_is_a_refusal(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard._prompts, "_index", None)
    refusal = refused(guard.generate(PROMPT), Stage.PROMPT)
    assert refusal.fault.startswith("AttributeError")


def test_a_fault_that_quotes_the_prompt_stays_out_of_the_permanent_part(
    home: Path, guard_in: BuildGuard, entries: Callable[[], list[str]]
) -> None:
    guard = guard_in(home, Generator(lambda drawn: fail(RuntimeError(f"cannot tokenize {PROMPT!r}"))))
    refusal = refused(guard.generate(PROMPT), Stage.GENERATION)
    assert PROMPT in refusal.fault
    (entry,) = entries()
    assert "lanterns" not in entry
    assert json.loads(entry)["facts"]["fault"] == "RuntimeError"
    logged = guard.ledger.find_by_id(refusal.id)
    assert logged is not None
    payload = guard.ledger.payload(refusal.id)
    assert payload is not None
    assert PROMPT in payload["fault"]


def test_one_refused_picture_does_not_keep_the_others(home: Path, guard_in: BuildGuard, out: Path, left: Left) -> None:
    scores = iter([0.0, 0.99, 0.0])
    guard = guard_in(home, screens=(Screen(lambda: {"nsfw": next(scores)}), passing_screens()[1]))
    outcomes = guard.generate_all(PromptRequest(prompt=PROMPT, seed=1, count=3), out=out)
    assert [type(outcome) for outcome in outcomes] == [Sealed, Refusal, Sealed]
    assert left() == sorted(f"{outcome.id}.png" for outcome in outcomes if isinstance(outcome, Sealed))
    kinds = [guard.ledger.find_by_index(index) for index in range(3)]
    assert [logged and logged.record.kind for logged in kinds] == [
        RecordKind.GENERATION,
        RecordKind.REFUSAL,
        RecordKind.GENERATION,
    ]


def test_the_models_own_checker_refuses_only_the_picture_that_it_replaced(home: Path, guard_in: BuildGuard) -> None:
    def spoil(drawn: list[Drawn]) -> list[Drawn]:
        black = dataclasses.replace(drawn[0], pixels=np.zeros_like(drawn[0].pixels), own_checker_fired=True)
        return [black, *drawn[1:]]

    outcomes = guard_in(home, Generator(spoil)).generate_all(PromptRequest(prompt=PROMPT, count=2))
    refusal = refused(outcomes[0], Stage.GENERATION)
    assert "safety checker" in refusal.fault
    assert isinstance(outcomes[1], Sealed)


def test_a_mark_that_is_not_robust_follows_the_policy(home: Path, guard_in: BuildGuard) -> None:
    class Weak(PixelMark):
        def embed(self, pixels: Pixels, mark_id: str, *, flags: int = 1) -> Embedded:
            embedded = super().embed(pixels, mark_id, flags=flags)
            return dataclasses.replace(embedded, embedding=dataclasses.replace(embedded.embedding, robust=False))

    policy = default_policy()
    weak = Weak(Keyring.load_or_create(home / "keys"))
    sealed = guard_in(home, mark=weak, policy=policy).generate(PROMPT)
    assert isinstance(sealed, Sealed)
    assert [finding.rule for finding in sealed.findings] == ["MARK-01"]
    strict = dataclasses.replace(
        policy, watermark_rule=dataclasses.replace(policy.watermark_rule, not_robust=Action.REVIEW)
    )
    refusal = refused(guard_in(home, mark=weak, policy=strict).generate(PROMPT), Stage.WATERMARK)
    assert [finding.rule for finding in refusal.findings] == ["MARK-01"]


def full_disk(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_no_record_no_file_when_the_ledger_cannot_be_written(
    guard: Guard, out: Path, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("guardrails.ledger.log.stage", lambda *_, **__: fail(StorageError("cannot write: disk full")))
        with pytest.raises(StorageError):
            guard.generate(PROMPT, out=out)
        with pytest.raises(StorageError):
            guard.generate(FORBIDDEN, out=out)
    assert left() == []
    assert len(guard.ledger) == 0
    assert isinstance(guard.generate(PROMPT, out=out), Sealed)
    assert guard.ledger.fsck() == 1


def test_no_record_no_file_when_the_database_is_full(
    guard: Guard, out: Path, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.generate(PROMPT)
    connection = guard.ledger._store._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    # SQLite itself answers SQLITE_FULL from here on.
    connection.execute(f"PRAGMA max_page_count = {pages}")
    made = 0

    def generate_until_full() -> None:
        nonlocal made
        while made < 50:
            guard.generate(PROMPT, seed=made, out=out)
            made += 1

    with pytest.raises(StorageError):
        generate_until_full()
    assert len(left()) == made
    assert not [name for name in left() if name.startswith(".")]
    assert guard.ledger.fsck() == made + 1


def test_a_full_disk_for_the_image_itself_records_nothing(
    guard: Guard, out: Path, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.mkdir()
    real = guard._sealing.sign

    def sign_then_fill_the_disk(*arguments: Any) -> Any:
        signed = real(*arguments)
        monkeypatch.setattr("guardrails.files.os.fsync", full_disk)
        return signed

    monkeypatch.setattr(guard._sealing, "sign", sign_then_fill_the_disk)
    with pytest.raises(StorageError):
        guard.generate(PROMPT, out=out)
    assert left() == []
    assert len(guard.ledger) == 0
