"""Whether a rule speaks, given every hit of its own words in one field."""

from __future__ import annotations

import bisect
import datetime
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from guardrails.policy.model import Mode, Policy, PromptRule
from guardrails.policy.places import may_lie_in
from guardrails.prompts.matching import Hit, Role


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a rule that speaks found in one field.

    Attributes:
        hits: its terms, by place.
        cues: the cues that it required.
        certain: False when one of its groups, or all of its terms, are guesses.
    """

    hits: tuple[Hit, ...]
    cues: tuple[Hit, ...]
    certain: bool


@dataclass(frozen=True, slots=True)
class Silent:
    """What kept a rule silent although it found something.

    Attributes:
        hit: one of its terms.
    """

    why: str
    hit: Hit


def apply_rule(rule: PromptRule, hits: Sequence[Hit]) -> Spoken | Silent | None:
    """Evaluate one rule; None when none of its terms was found."""
    found = [hit for hit in hits if hit.use.role is Role.TERM]
    if not found:
        return None
    terms, phrase = _unmasked(found, [hit for hit in hits if hit.use.role is Role.BENIGN_PHRASE])
    if not terms:
        return Silent(f'inside the harmless phrase "{phrase}"', found[0])
    cues = [hit for hit in hits if hit.use.role is Role.CUE]
    heard = {cue.use.group for cue in cues}
    if len(heard) < len(rule.requires):
        missing = rule.requires[min(set(range(len(rule.requires))) - heard)]
        return Silent(f"needs one of: {', '.join(missing[:4])} …", terms[0])
    exceptions = [hit for hit in hits if hit.use.role is Role.EXCEPTION and hit.certain]
    if exceptions and rule.severity <= rule.unless_severity:
        return Silent(f'exception "{exceptions[0].use.term}"', terms[0])
    sure_groups = {cue.use.group for cue in cues if cue.certain}
    certain = any(hit.certain for hit in terms) and len(sure_groups) == len(rule.requires)
    if certain:
        terms = [hit for hit in terms if hit.certain]
    return Spoken(_outermost(terms), tuple(cues), certain)


def is_active(rule: PromptRule, policy: Policy, day: datetime.date, jurisdiction: str) -> bool:
    """Whether a rule is run for a request; a jurisdiction that is not known is every jurisdiction."""
    if rule.mode is Mode.OFF or not rule.effective.holds(day):
        return False
    if rule.jurisdictions and not any(may_lie_in(jurisdiction, one) for one in rule.jurisdictions):
        return False
    return not rule.window or any(
        window.period.holds(day) and (not window.jurisdiction or may_lie_in(jurisdiction, window.jurisdiction))
        for window in policy.windows[rule.window]
    )


def _outermost(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """Hits by place, without those that lie inside another one: a surname inside a full name says nothing more. Of two
    in the same place the one that a registry knows stays: a list does not say who it is."""
    kept: list[Hit] = []
    furthest = -1
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end, hit.use.entry is None)):
        if hit.end > furthest:
            kept.append(hit)
            furthest = hit.end
    return tuple(kept)


def _unmasked(terms: Sequence[Hit], phrases: Sequence[Hit]) -> tuple[list[Hit], str]:
    """The terms that do not lie inside a benign phrase of the rule, and a phrase that one lay in."""
    if not phrases:
        return list(terms), ""
    ranges = sorted((hit.start, hit.end) for hit in phrases)
    starts = [start for start, _ in ranges]
    # furthest[i]: where the longest-reaching of the first i phrases ends; one look-up per term keeps this n log n.
    furthest = list(itertools.accumulate((end for _, end in ranges), max, initial=0))
    kept = [hit for hit in terms if hit.end > furthest[bisect.bisect_right(starts, hit.start)]]
    return kept, phrases[0].use.term
