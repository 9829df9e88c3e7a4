"""What a prompt means: the semantic rules of a policy applied to one reading of the prompt.

Word lists are precise and see little; this stage is for careful wording. It yields findings like every other rule: the
score, the threshold with what was counted at it, and the nearest labelled examples. Where it cannot run it says
"unavailable", and the policy says what follows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guardrails.domain.findings import Action, CheckStatus, Component, Finding, Span
from guardrails.encoders.protocol import TextEncoder
from guardrails.errors import DatasetUnavailable, EmbeddingError, ModelUnavailable, UnavailableError
from guardrails.policy.semantics import GARBLED, EndpointSection, SemanticRule, Semantics
from guardrails.prompts.garbling import is_garbled
from guardrails.prompts.heads import Assessment, PromptHeads, load_heads
from guardrails.prompts.identities import neutral
from guardrails.prompts.moderation import ModerationEndpoint, endpoint_from_environment
from guardrails.prompts.views import GAP, WORD, View
from guardrails.resources import datasets_path

DETECTOR = "prompt-heads"
DETECTOR_VERSION = "1"
ENDPOINT = "moderation-endpoint"
# A long prompt is read in overlapping pieces, so that harmless words cannot water down the others.
WINDOW = 400
_STEP = 300
_SEARCH = 40
_NEIGHBOURS = 2
# The heads learned from descriptions. Of single common words they take one in five for unsafe ("anything", "test"), so
# one or two short words are left to the lists.
_SHORTEST_READ = 20
_FEWEST_WORDS = 3
_BLANK = " \t\r\n" + GAP
_READABLE = ("plain", "escapes", "folded", "syntax")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptModel:
    """An encoder and the heads that were fitted on its vectors."""

    encoder: TextEncoder
    heads: PromptHeads

    def assess(self, text: str) -> tuple[Assessment, tuple[int, int]]:
        """The worst assessment of any piece of a text, and where that piece is: characters [start, end).

        Raises:
            ModelUnavailable: the heads belong to another encoder.
            EmbeddingError: a number is not finite.
        """
        pieces = windows(text)
        vectors = self.encoder.embed([neutral(text[start:end]) for start, end in pieces])
        assessments = self.heads.assess(vectors, self.encoder.id)
        worst = max(range(len(pieces)), key=lambda number: assessments[number].score)
        return assessments[worst], pieces[worst]


class PromptSemantics:
    """The semantic stage under one policy. Loads its model at the first prompt; safe to share between threads.

    Args:
        section: of the policy.
        model: instead of the one that the section names, for tests and other encoders.
        endpoint: the moderation service; by default the one that the environment names, if any.
    """

    def __init__(
        self,
        section: Semantics,
        *,
        model: PromptModel | None = None,
        endpoint: ModerationEndpoint | None = None,
    ) -> None:
        self._section = section
        self._model = model
        self._endpoint = endpoint or endpoint_from_environment()
        self._detector = Component(name=DETECTOR, version=DETECTOR_VERSION, digest=section.digest)
        self._rules: dict[str, list[SemanticRule]] = {}
        for rule in sorted(section.rules, key=lambda rule: -rule.action):
            self._rules.setdefault(rule.category, []).append(rule)

    def findings(self, views: Sequence[View]) -> tuple[Finding, ...]:
        """What the section says about a prompt that is not blank, given the views of it."""
        view = _readable(views)
        found = [self._by_heads(view)]
        if self._section.endpoint is not None:
            found.extend(self._by_endpoint(view.text, self._section.endpoint))
        return tuple(finding for finding in found if finding is not None)

    def _by_heads(self, view: View) -> Finding | None:
        if len(view.text) < _SHORTEST_READ and len(WORD.findall(view.text)) < _FEWEST_WORDS:
            return None
        try:
            model = self._model or load_prompt_model(self._section)
            assessment, piece = model.assess(view.text)
        except (UnavailableError, EmbeddingError) as error:
            return _unavailable(self._section.id, self._section.when_unavailable, self._detector, error)
        text = view.text[slice(*piece)]
        rules = self._rules.get(assessment.category, [])
        if is_garbled(text):
            rules = sorted([*rules, *self._rules.get(GARBLED, ())], key=lambda rule: -rule.action)
        for rule in rules:
            if assessment.score >= rule.threshold:
                start, end = view.original_span(*piece)
                return self._finding(rule, model, assessment, text, Span(start=start, end=end))
        return None

    def _finding(
        self, rule: SemanticRule, model: PromptModel, assessment: Assessment, piece: str, span: Span
    ) -> Finding:
        (vector,) = model.encoder.embed([neutral(piece)])
        likest = model.heads.nearest(vector, assessment.category, _NEIGHBOURS)
        harmless = model.heads.nearest(vector, "", 1)
        return Finding(
            rule=rule.id,
            category=rule.category,
            action=rule.action,
            message=rule.message,
            detector=self._detector,
            span=span,
            score=round(assessment.score, 4),
            threshold=rule.threshold,
            error_rate=rule.error_rate,
            evidence={
                "status": CheckStatus.RAN.value,
                "encoder": model.encoder.id,
                "shares": {name: round(share, 4) for name, share in assessment.shares.items() if share >= 0.01},
                "nearest": [{"text": near.text, "cosine": near.cosine} for near in likest],
                "nearest_harmless": [{"text": near.text, "cosine": near.cosine} for near in harmless],
            },
        )

    def _by_endpoint(self, text: str, section: EndpointSection) -> Iterator[Finding]:
        if self._endpoint is None:
            missing = ModelUnavailable("the operator has named no moderation service")
            yield _unavailable(section.id, section.when_unavailable, Component(name=ENDPOINT, version=""), missing)
            return
        detector = self._endpoint.component
        try:
            scores = self._endpoint.score(text)
        except UnavailableError as error:
            yield _unavailable(section.id, section.when_unavailable, detector, error)
            return
        for rule in section.rules:
            score = scores.get(rule.category)
            if score is None:
                unknown = ModelUnavailable(f"the moderation service gives no score for {rule.category!r}")
                yield _unavailable(section.id, section.when_unavailable, detector, unknown)
            elif score >= rule.threshold:
                yield Finding(
                    rule=rule.id,
                    category=rule.category,
                    action=rule.action,
                    message=rule.message,
                    detector=detector,
                    score=score,
                    threshold=rule.threshold,
                    error_rate=rule.error_rate,
                    evidence={"status": CheckStatus.RAN.value},
                )


_loaded: dict[str, PromptModel] = {}
_loading = threading.Lock()


def load_prompt_model(section: Semantics) -> PromptModel:
    """The encoder and the heads that a section names, or those that this process has loaded already.

    Raises:
        UnavailableError: the encoder or the heads are not here, or they are not those that the card was written for.
    """
    with _loading:
        if section.model not in _loaded:
            _loaded[section.model] = _load(section)
        return _loaded[section.model]


def _load(section: Semantics) -> PromptModel:
    from guardrails.encoders.minilm import load_minilm

    folder = datasets_path("prompts", section.model)
    heads = load_heads(folder / "heads.npz")
    if heads.digest != section.digest:
        raise DatasetUnavailable(
            f"the prompt heads {section.model} are not those of their card",
            hint="train the heads again, so that the thresholds belong to them",
        )
    return PromptModel(encoder=load_minilm(folder / "adapter.npz" if section.adapter_digest else None), heads=heads)


def _readable(views: Sequence[View]) -> View:
    """The reading of a prompt that an encoder gets.

    It is the last one in which words still stand as a writer would write them: invisible characters, look-alike
    letters and weights are gone, but letters that stand apart are not guessed together.
    """
    readable = [view for view in views if view.name in _READABLE and view.text.strip(_BLANK)]
    if not readable:
        return _unread(views[0])
    view = readable[-1]
    if GAP not in view.text:
        return view
    kept = [place for place, char in enumerate(view.text) if char != GAP]
    text = "".join(view.text[place] for place in kept)
    return View(name="joined", text=text, parent=view, spread=lambda: (kept, [place + 1 for place in kept]))


def _unread(view: View) -> View:
    """The prompt as it was written, of which no view leaves anything."""
    return view if view.parent is None else _unread(view.parent)


def windows(text: str) -> list[tuple[int, int]]:
    """Where the overlapping pieces of a text are, at most 400 characters each, cut between words if there are any."""
    pieces: list[tuple[int, int]] = []
    start = end = 0
    while end < len(text):
        end = _cut(text, start + WINDOW)
        pieces.append((start, end))
        start = _cut(text, start + _STEP)
    return pieces


def _cut(text: str, latest: int) -> int:
    """The last blank in the forty characters before a position, or the position itself."""
    if latest >= len(text):
        return len(text)
    blank = text.rfind(" ", latest - _SEARCH, latest)
    return blank if blank > 0 else latest


def _unavailable(rule: str, action: Action, detector: Component, error: Exception) -> Finding:
    return Finding(
        rule=rule,
        category="semantics",
        action=action,
        message="What this prompt means could not be checked.",
        detector=detector,
        evidence={"status": CheckStatus.UNAVAILABLE.value, "reason": str(error)},
    )
