"""Screens over a file from anywhere: every way in which it can be shown, and the worst of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from guardrails.domain.findings import Action, Check, CheckStatus, Finding, strongest
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import Decoded, decode
from guardrails.policy.model import ScreenRule
from guardrails.screens.judge import judge
from guardrails.screens.persons import join_persons
from guardrails.screens.protocol import Screen
from guardrails.screens.run import run_screens

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """What the screens say about one file.

    Attributes:
        showings: the pictures that it shows, by the way in which it is shown; see `shown_as`.
        agreement: by category, the rules that spoke and those that were asked and stayed silent.
    """

    showings: Mapping[str, Pixels]
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    agreement: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]

    @property
    def pixels(self) -> Pixels:
        """As most software shows it."""
        return next(iter(self.showings.values()))

    @property
    def action(self) -> Action:
        return strongest(self.findings)


def scan(data: bytes, screens: Sequence[Screen], rules: Sequence[ScreenRule], prompted: Sequence[Finding] = ()) -> Scan:
    """Decode a file and run the screens over it.

    Args:
        prompted: findings of the prompt that it is said to be made from; without any, nobody was named.

    Raises:
        ImageError: it is no still picture that can be decoded whole.
    """
    decoded = decode(data)
    checks = look(decoded, screens, prompted)
    findings = judge(checks, rules)
    return Scan(showings=shown_as(decoded), checks=checks, findings=findings, agreement=agreement(findings, rules))


def look(decoded: Decoded, screens: Sequence[Screen], prompted: Sequence[Finding] = ()) -> tuple[Check, ...]:
    """One check a screen over a decoded file, with the persons of picture and prompt joined; see `scan`."""
    showings = shown_as(decoded)
    runs = {way: join_persons(run_screens(screens, pixels), prompted) for way, pixels in showings.items()}
    return worst(runs.values() if len(runs) == 1 else [_told(checks, way) for way, checks in runs.items()])


def shown_as(decoded: Decoded) -> dict[str, Pixels]:
    """The pictures that one file shows: on white, on black, and where software drops the transparency."""
    if decoded.alpha is None or decoded.beneath is None or decoded.alpha.min() == 255:
        return {"on white": decoded.pixels}
    share = decoded.alpha[..., np.newaxis].astype(np.uint16)
    on_black = ((decoded.beneath * share + 127) // 255).astype(np.uint8)
    return {"on white": decoded.pixels, "on black": on_black, "without its transparency": decoded.beneath}


def _told(checks: Sequence[Check], way: str) -> list[Check]:
    """The checks with the way in which the file was shown beside all that explains a score."""
    return [
        replace(check, evidence={concept: {**said, "shown": way} for concept, said in check.evidence.items()})
        for check in checks
    ]


def worst(runs: Iterable[Sequence[Check]]) -> tuple[Check, ...]:
    """One check a screen out of several runs of the same screens: the highest score of each concept, and every
    abstention, so that silence is "not known" where any run abstained. A run that did not succeed is not known."""
    return tuple(_worst_of(checks) for checks in zip(*runs, strict=True))


def _worst_of(checks: Sequence[Check]) -> Check:
    failed = next((check for check in checks if check.status is not CheckStatus.RAN), None)
    total = sum(check.milliseconds for check in checks)
    if failed is not None:
        return replace(failed, milliseconds=total)
    leading = {
        concept: max(checks, key=lambda check: check.scores.get(concept, -1.0))
        for check in checks
        for concept in check.scores
    }
    return replace(
        checks[0],
        scores={concept: check.scores[concept] for concept, check in leading.items()},
        evidence={
            **_merge(checks, lambda check: {c: check.evidence[c] for c in check.abstained if c in check.evidence}),
            **{c: check.evidence[c] for c, check in leading.items() if c in check.evidence},
        },
        abstained=_merge(checks, lambda check: check.abstained),
        ceilings={c: min(check.ceilings.get(c, 1.0) for check in checks) for check in checks for c in check.ceilings},
        milliseconds=total,
    )


def _merge(checks: Sequence[Check], part: Callable[[Check], Mapping[str, _Value]]) -> dict[str, _Value]:
    return {key: value for check in checks for key, value in part(check).items()}


def agreement(
    findings: Sequence[Finding], rules: Sequence[ScreenRule]
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """By category that any rule spoke in: "screen concept" of the rules that spoke, and of those that stayed silent.
    What could not be checked is neither."""
    spoke = {finding.rule for finding in findings if finding.score is not None}
    unknown = {finding.rule for finding in findings} - spoke
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for category in sorted({rule.category for rule in rules if rule.id in spoke}):
        own = [rule for rule in rules if rule.category == category]
        raised = {f"{rule.screen} {rule.concept}" for rule in own if rule.id in spoke}
        silent = {f"{rule.screen} {rule.concept}" for rule in own if rule.id not in unknown} - raised
        found[category] = (tuple(sorted(raised)), tuple(sorted(silent)))
    return found
