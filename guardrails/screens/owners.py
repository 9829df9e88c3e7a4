"""What the owner of a concept pack asks for, as rules, where a policy has none for a concept."""

from __future__ import annotations

from collections.abc import Iterable

from guardrails.policy.model import ScreenRule
from guardrails.screens import clip_concepts, faces, marks
from guardrails.screens.calibration import DEFAULT_RATE
from guardrails.screens.concepts import Concept, ConceptPack

# By kind the screen and its threshold, as the shipped policies have them, and what is known of its false positives.
_OCR = (marks.NAME, 0.8, "not counted for these words")
_FACE = (faces.NAME, 1 - faces.THRESHOLD, "not counted for these persons")
_VECTORS = (
    clip_concepts.NAME,
    1 - DEFAULT_RATE,
    f"stated false-positive rate {DEFAULT_RATE:.0%}; not counted for this concept",
)


def rules_of(packs: Iterable[ConceptPack], rules: Iterable[ScreenRule]) -> tuple[ScreenRule, ...]:
    """A rule for each concept of the packs about which none of the policy's `rules` speaks: with its own action, also
    where it is not known."""
    spoken = {(rule.screen, rule.concept) for rule in rules}
    made = (_rule(pack, concept) for pack in packs for concept in pack.concepts)
    return tuple(rule for rule in made if (rule.screen, rule.concept) not in spoken)


def _rule(pack: ConceptPack, concept: Concept) -> ScreenRule:
    screen, threshold, error_rate = {"ocr": _OCR, "face": _FACE}.get(concept.kind, _VECTORS)
    return ScreenRule(
        id=f"{pack.id}/{concept.id}",
        category=concept.category,
        action=concept.action,
        message=f"The picture may show what the concept pack {pack.id} calls {concept.id!r}.",
        screen=screen,
        concept=concept.id,
        threshold=threshold,
        error_rate=error_rate,
        when_unavailable=concept.action,
    )
