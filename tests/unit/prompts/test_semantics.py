"""The semantic stage: findings with evidence, and "unavailable" that never passes for "checked"."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from guardrails.domain.findings import Action
from guardrails.domain.requests import PromptRequest
from guardrails.errors import ModelUnavailable
from guardrails.policy import default_policy
from guardrails.policy.semantics import EndpointSection, SemanticRule, Semantics
from guardrails.prompts import PromptGuard
from guardrails.prompts import semantics as stage
from guardrails.prompts.heads import PromptHeads, as_integers
from guardrails.prompts.semantics import WINDOW, PromptModel, PromptSemantics, windows
from guardrails.prompts.views import views_of


class WordEncoder:
    """Axis 0 counts the word "storm", axis 1 all others."""

    id = "words"
    dim = 2

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [[text.count("storm") + 1e-3, len(text.split()) - text.count("storm") + 1e-3] for text in texts]
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class AbsentEncoder(WordEncoder):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise ModelUnavailable("no weights here")


@pytest.fixture(scope="module")
def heads() -> PromptHeads:
    return PromptHeads(
        encoder="words",
        categories=("weather",),
        hidden_weight=np.eye(2, dtype=np.float32),
        hidden_bias=np.zeros(2, dtype=np.float32),
        output_weight=np.array([[2.0], [0.0]], dtype=np.float32),
        output_bias=np.array([-6.0], dtype=np.float32),
        example_vectors=as_integers(np.array([[1, 0], [0.5, 0.5], [0, 1]], dtype=np.float32)),
        example_texts=("storm", "storm at sea", "sea"),
        example_categories=("weather", "weather", ""),
    )


def rule(action: Action, threshold: float, *, category: str = "weather") -> SemanticRule:
    return SemanticRule(
        id=f"SEM-{action.name}", category=category, action=action, message="m", threshold=threshold, error_rate="1 of 9"
    )


def section(*rules: SemanticRule, endpoint: EndpointSection | None = None) -> Semantics:
    return Semantics(
        id="SEM-0", model="none", digest="d", adapter_digest="", when_unavailable=Action.REVIEW, rules=rules,
        endpoint=endpoint,
    )  # fmt: skip


BLOCK, REVIEW = rule(Action.BLOCK, 0.9), rule(Action.REVIEW, 0.2)


@pytest.fixture
def semantics(heads: PromptHeads) -> PromptSemantics:
    return PromptSemantics(section(REVIEW, BLOCK), model=PromptModel(encoder=WordEncoder(), heads=heads))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("storm storm storm", "SEM-BLOCK"), ("storm sea sea", "SEM-REVIEW"), ("calm sea today", None), ("storm", None)],
)
def test_the_strictest_rule_that_the_score_reaches_speaks(
    semantics: PromptSemantics, prompt: str, expected: str | None
) -> None:
    assert [finding.rule for finding in semantics.findings(views_of(prompt))] == ([expected] if expected else [])


def test_a_finding_explains_itself(semantics: PromptSemantics) -> None:
    (finding,) = semantics.findings(views_of("storm storm storm"))
    assert finding.score is not None
    assert finding.threshold is not None
    assert finding.score >= finding.threshold
    assert finding.error_rate == "1 of 9"
    assert finding.evidence["nearest"][0]["text"] == "storm"  # type: ignore[index,call-overload]
    assert finding.evidence["nearest_harmless"][0]["text"] == "sea"  # type: ignore[index,call-overload]
    assert finding.detector.digest == "d"
    # What was asked for stays out of the evidence; the span says where it is.
    assert (finding.span.start, finding.span.end) == (0, 17)  # type: ignore[union-attr]


def test_one_bad_piece_of_a_long_prompt_is_found_and_located(semantics: PromptSemantics) -> None:
    prompt = "sea " * 200 + "storm " * 60 + "sea " * 200
    (finding,) = semantics.findings(views_of(prompt))
    assert finding.rule == "SEM-BLOCK"
    assert finding.span is not None
    assert "storm" in prompt[finding.span.start : finding.span.end]
    assert finding.span.end - finding.span.start <= WINDOW


def test_a_heap_of_broken_words_is_held_from_a_lower_score_on(heads: PromptHeads) -> None:
    garbled = rule(Action.REVIEW, 0.05, category="garbled")
    semantics = PromptSemantics(section(BLOCK, garbled), model=PromptModel(encoder=WordEncoder(), heads=heads))
    heap = "qwzrt storm plgkh drontle vomentiary"
    plain = "a storm over the sea today"
    assert [finding.category for finding in semantics.findings(views_of(heap))] == ["garbled"]
    assert semantics.findings(views_of(plain)) == ()
    calm = "qwzrt plgkh drontle vomentiary skibble quell gnostic umbra isotope thistle"
    assert semantics.findings(views_of(calm)) == ()


def test_the_score_does_not_depend_on_the_group_that_is_named(heads: PromptHeads) -> None:
    class Lengths(WordEncoder):
        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            rows = np.array([[len(text), sum(map(ord, text))] for text in texts], dtype=np.float32)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    model = PromptModel(encoder=Lengths(), heads=heads)
    scores = {model.assess(f"a {group} family at breakfast")[0].score for group in ("Roma", "gay", "Jewish", "white")}
    assert len(scores) == 1


def test_an_encoder_that_is_not_there_is_recorded_and_the_policy_decides(heads: PromptHeads) -> None:
    semantics = PromptSemantics(section(BLOCK), model=PromptModel(encoder=AbsentEncoder(), heads=heads))
    (finding,) = semantics.findings(views_of("calm sea today"))
    assert (finding.rule, finding.action, finding.evidence["status"]) == ("SEM-0", Action.REVIEW, "unavailable")
    assert "no weights here" in str(finding.evidence["reason"])


def test_heads_of_another_encoder_are_unavailable_too(heads: PromptHeads) -> None:
    class Other(WordEncoder):
        id = "other"

    semantics = PromptSemantics(section(BLOCK), model=PromptModel(encoder=Other(), heads=heads))
    assert semantics.findings(views_of("storm at sea"))[0].evidence["status"] == "unavailable"


def test_a_category_without_a_rule_is_silent(heads: PromptHeads) -> None:
    only = section(rule(Action.BLOCK, 0.01, category="else"))
    assert (
        PromptSemantics(only, model=PromptModel(encoder=WordEncoder(), heads=heads)).findings(views_of("storm at sea"))
        == ()
    )


def test_disguises_are_undone_before_the_encoder_reads(semantics: PromptSemantics) -> None:
    assert [f.rule for f in semantics.findings(views_of("s\u200btor\u00adm storm storm"))] == ["SEM-BLOCK"]
    assert [f.rule for f in semantics.findings(views_of("(storm:1.3) storm storm"))] == ["SEM-BLOCK"]


@pytest.mark.parametrize("prompt", ["\u0301", "<lora:x:1>", "((()))", "\u200b.\u200b", "&#8203;", "\u3164a"])
def test_a_prompt_without_words_can_be_read_too(semantics: PromptSemantics, prompt: str) -> None:
    for finding in semantics.findings(views_of(prompt)):
        assert finding.span is not None
        assert 0 <= finding.span.start < finding.span.end <= len(prompt)


def test_an_endpoint_without_an_address_is_unavailable(heads: PromptHeads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUARDRAILS_MODERATION_URL", raising=False)
    endpoint = EndpointSection(id="MOD-0", when_unavailable=Action.BLOCK, rules=(rule(Action.BLOCK, 0.5),))
    semantics = PromptSemantics(
        section(BLOCK, endpoint=endpoint), model=PromptModel(encoder=WordEncoder(), heads=heads)
    )
    (finding,) = semantics.findings(views_of("calm sea"))
    assert (finding.rule, finding.action) == ("MOD-0", Action.BLOCK)


@given(st.text(alphabet="ab \u00e9", min_size=1, max_size=2500))
def test_windows_cover_a_text_and_overlap(text: str) -> None:
    pieces = windows(text)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == len(text)
    assert all(0 < end - start <= WINDOW for start, end in pieces)
    assert all(after[0] < before[1] for before, after in itertools.pairwise(pieces))


def test_the_default_pack_tells_careful_wording_from_its_twin() -> None:
    pytest.importorskip("onnxruntime")
    policy = default_policy()
    assert policy.semantics is not None
    try:
        stage.load_prompt_model(policy.semantics)
    except ModelUnavailable:
        pytest.skip("the weights carrier is not installed")
    guard = PromptGuard(policy)
    unsafe = "A detailed illustration of a man being beaten bloody by a mob while he begs for his life"
    twin = "A detailed illustration of a man being lifted up by a crowd while he laughs with joy"
    decision = guard.decide(PromptRequest(prompt=unsafe))
    assert decision.action >= Action.REVIEW
    assert any(finding.rule.startswith("SEM-") for finding in decision.findings)
    assert guard.decide(PromptRequest(prompt=twin)).action is Action.ALLOW


def test_the_stage_is_left_out_only_when_asked() -> None:
    policy = default_policy()
    assert PromptGuard(policy)._semantics is not None
    assert PromptGuard(policy, words_only=True)._semantics is None


def test_the_card_belongs_to_the_heads_in_the_checkout() -> None:
    """The thresholds were calibrated on these very files."""
    from guardrails.prompts.heads import load_heads
    from guardrails.resources import datasets_path

    card = json.loads(datasets_path("prompts", "minilm", "card.json").read_text(encoding="utf-8"))
    heads = load_heads(datasets_path("prompts", "minilm", "heads.npz"))
    assert heads.digest == card["heads_sha256"]
    assert heads.encoder == card["encoder"]
    assert set(card["categories"]) == set(heads.categories)
    assert heads.encoder.endswith(card["adapter_sha256"][:16])
