"""Joins what the prompt asked for with whose face the picture shows.

A policy can then tell a person who was asked for by name from one who appears without having been named, which is how
most deepfakes are made: by a description, or by a model that was taught the face.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from guardrails.domain.findings import Check, CheckStatus, Finding
from guardrails.screens.faces import EVERYBODY, NAME, NAMED, UNNAMED


def join_persons(checks: Iterable[Check], findings: Iterable[Finding]) -> tuple[Check, ...]:
    """The checks, with the scores `NAMED` and `UNNAMED` added to that of the faces."""
    named = set(named_persons(findings))
    return tuple(_joined(check, named) if check.component.name == NAME else check for check in checks)


def without_persons(check: Check) -> Check:
    """The check as somebody outside of the installation may see it: that an enrolled person was seen, not who."""
    return replace(check, evidence={}) if check.component.name == NAME else check


def named_persons(findings: Iterable[Finding]) -> Iterable[str]:
    """Ids of the registry entries that were found in the prompt; who is in the negative prompt was not asked for."""
    for finding in findings:
        for span in cast(list[Mapping[str, Any]], finding.evidence.get("spans") or ()):
            if span["field"] == "prompt" and "registry_id" in span:
                yield span["registry_id"]


def _joined(check: Check, named: set[str]) -> Check:
    if check.status is not CheckStatus.RAN:
        return check
    abstained: Mapping[str, str] = check.abstained
    if reason := check.abstained.get(EVERYBODY.id):
        abstained = {**abstained, NAMED: reason, UNNAMED: reason}
    if EVERYBODY.id not in check.scores:
        unsure = check.evidence.get(EVERYBODY.id, {})
        return replace(check, abstained=abstained, evidence={**check.evidence, NAMED: unsure, UNNAMED: unsure})
    seen = cast(list[Mapping[str, Any]], check.evidence.get(EVERYBODY.id, {}).get("persons", ()))
    scores = {NAMED: 0.0, UNNAMED: 0.0}
    evidence: dict[str, Any] = {NAMED: {"persons": []}, UNNAMED: {"persons": []}}
    for person in seen:
        concept = NAMED if person["person"] in named else UNNAMED
        scores[concept] = max(scores[concept], 1 - float(person["distance"]))
        evidence[concept]["persons"].append(person)
    return replace(
        check, scores={**check.scores, **scores}, abstained=abstained, evidence={**check.evidence, **evidence}
    )
