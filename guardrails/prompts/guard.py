"""The decision on a prompt: every rule speaks for itself, and the strictest one wins."""

from __future__ import annotations

import datetime
import functools
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardrails.domain.findings import Action, Component, Finding, Span, strongest
from guardrails.domain.requests import NearMiss, PromptDecision, PromptRequest
from guardrails.errors import PolicyError, PromptError
from guardrails.policy.model import Mode, Policy, PromptRule
from guardrails.policy.places import check_place
from guardrails.prompts.decoding import encoded_views, turned_views
from guardrails.prompts.evaluation import Silent, Spoken, apply_rule, is_active
from guardrails.prompts.languages import language_of
from guardrails.prompts.matching import Hit, Role, Scan, TermIndex
from guardrails.prompts.rewriting import Edit, edits_of, rewritten
from guardrails.prompts.spelling import masked, misspelt, unknown_words
from guardrails.prompts.views import is_blank, views_of

if TYPE_CHECKING:
    from guardrails.prompts.semantics import PromptSemantics

DETECTOR = "prompt-terms"
DETECTOR_VERSION = "2"
# A prompt that repeats one word a thousand times must not make a finding of a thousand lines.
_MOST_SPANS = 50
_MOST_WORDINGS = 5
_MOST_NEAR_MISSES = 20
_LONGEST_WORDING = 60
_MOST_SCOPES = 64
_SHORTEST_DECODED = 5
_ALLOWED_CONTROLS = frozenset("\t\n\r")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What matching found in the fields of a request.

    Attributes:
        spoken: by rule, then by field.
        silent: the rules that almost spoke, with the field they looked at.
        language: of the prompt, or "" when it does not show.
    """

    spoken: Mapping[int, Mapping[str, Spoken]]
    silent: Sequence[tuple[int, str, Silent]]
    language: str


class PromptGuard:
    """Decides prompts under one policy. Immutable after construction and safe to share between threads.

    Args:
        words_only: leave out the semantic stage, for checks of the word rules themselves; never for a real request.

    Raises:
        PolicyError: a registry of the policy cannot be read.
    """

    def __init__(self, policy: Policy, *, words_only: bool = False) -> None:
        self._policy = policy
        self._semantics = None if words_only else _semantics_of(policy)
        self._rules = policy.prompt_rules
        self._index = TermIndex(self._rules, policy.registries)
        self._detector = Component(name=DETECTOR, version=DETECTOR_VERSION, digest=policy.digest)
        self._active_rules = functools.lru_cache(_MOST_SCOPES)(self._rules_in_scope)

    def decide(self, request: PromptRequest, *, on: datetime.date | None = None) -> PromptDecision:
        """What the policy says about a request, with one finding for each rule that speaks.

        The negative prompt is matched only by rules with `negative_prompt`: "nudity, gore" there is a good sign.

        Args:
            on: the day of the decision; today in UTC when omitted.

        Raises:
            PromptError: a prompt is not text, is blank, is longer than the policy's limit, or holds control
                characters or lone surrogates.
            OptionError: the jurisdiction is no code of a place.
            PolicyError: no rule of the policy is in effect on that day and in the request's jurisdiction.
        """
        started = time.perf_counter()
        check_place(request.jurisdiction)
        day = on or datetime.datetime.now(datetime.UTC).date()
        active = self._active(day, request.jurisdiction)
        texts = {
            "prompt": _checked(request.prompt, "prompt", self._policy.prompt_limit),
            "negative_prompt": _checked(request.negative_prompt, "negative_prompt", self._policy.prompt_limit),
        }
        if is_blank(request.prompt):
            raise PromptError("the prompt is empty", hint="describe the picture that you want")
        reading = self._read(texts, day, active)
        matched = time.perf_counter()
        edits = self._edits(reading, request.prompt)
        found: list[tuple[PromptRule | None, Finding]] = [
            (self._rules[number], self._finding(self._rules[number], fields, texts, edits.get(number, ()), request))
            for number, fields in sorted(reading.spoken.items())
        ]
        found += self._language_findings(reading, request)
        if self._semantics is not None:
            found += [(None, finding) for finding in self._semantics.findings(views_of(request.prompt))]
        findings = tuple(finding for rule, finding in found if self._counts(rule))
        action = strongest(findings)
        # Nothing is drawn from a blocked prompt, so it is left as it was asked.
        changes = [edit for number, some in edits.items() if self._counts(self._rules[number]) for edit in some]
        prompt = request.prompt if action is Action.BLOCK else rewritten(request.prompt, changes)
        ended = time.perf_counter()
        return PromptDecision(
            action=action,
            policy=self._policy.ref,
            findings=findings,
            prompt=prompt,
            rewritten=prompt != request.prompt,
            shadow=tuple(finding for rule, finding in found if not self._counts(rule)),
            near_misses=self._near_misses(reading),
            on=day.isoformat(),
            jurisdiction=request.jurisdiction,
            milliseconds=(ended - started) * 1000,
            timings={"match": (matched - started) * 1000, "decide": (ended - matched) * 1000},
        )

    def _active(self, day: datetime.date, jurisdiction: str) -> frozenset[int]:
        """Numbers of the rules that are run.

        Raises:
            PolicyError: none is, although the policy has rules: it would allow everything.
        """
        active = self._active_rules(day, jurisdiction)
        if self._rules and not active:
            place = f" in {jurisdiction}" if jurisdiction else ""
            raise PolicyError(f"no rule of {self._policy.id} is in effect on {day}{place}", hint="load another version")
        return active

    def _rules_in_scope(self, day: datetime.date, jurisdiction: str) -> frozenset[int]:
        return frozenset(n for n, rule in enumerate(self._rules) if is_active(rule, self._policy, day, jurisdiction))

    @staticmethod
    def _counts(rule: PromptRule | None) -> bool:
        """Whether a rule's findings decide; those of a rule in shadow mode are only recorded."""
        return rule is None or rule.mode is Mode.ENFORCE

    def _read(self, texts: Mapping[str, str], day: datetime.date, active: frozenset[int]) -> _Reading:
        spoken: dict[int, dict[str, Spoken]] = {}
        silent: list[tuple[int, str, Silent]] = []
        language = ""
        for field, text in texts.items():
            if not text:
                continue
            hits, scan = self._hits(text, day)
            if field == "prompt" and self._policy.language_rule is not None:
                language = language_of(scan)
            by_rule: dict[int, list[Hit]] = {}
            for hit in hits:
                by_rule.setdefault(hit.use.rule, []).append(hit)
            for number, own in by_rule.items():
                rule = self._rules[number]
                if number not in active or not (field == "prompt" or rule.negative_prompt):
                    continue
                match apply_rule(rule, own):
                    case Spoken() as found:
                        spoken.setdefault(number, {})[field] = found
                    case Silent() as reason:
                        silent.append((number, field, reason))
        return _Reading(spoken, silent, language)

    def _hits(self, text: str, day: datetime.date) -> tuple[list[Hit], Scan]:
        """Every find in one text, guesses last, and the scan of its plain view."""
        views = views_of(text)
        scans = [Scan(view) for view in views]
        hits = self._index.find(scans, text, day)
        squeezed = (scan for scan in scans if scan.view.name == "squeezed")
        last = next(squeezed, None) or next(scan for scan in reversed(scans) if scan.view.name != "leet")
        if self._index.is_empty:
            return hits, scans[0]
        hits += masked(self._index, self._rules, last, day)
        unknown = unknown_words(last, hits)
        hits += misspelt(self._index, self._rules, last, unknown, day)
        hits += self._decoded(text, scans[0], last, unknown, day)
        return hits, scans[0]

    def _decoded(self, text: str, plain: Scan, last: Scan, unknown: Sequence[int], day: datetime.date) -> list[Hit]:
        """What other readings show, where the prompt holds words that make no sense as they stand."""
        views = list(encoded_views(text))
        places = [(0, len(text))] if views else [last.original(number, number) for number in unknown]
        if places:
            views += turned_views(plain.view)
        return [
            hit
            for hit in self._index.find([Scan(view) for view in views], text, day)
            if hit.use.role in (Role.TERM, Role.CUE)
            and hit.end - hit.start >= _SHORTEST_DECODED
            and any(hit.start < end and start < hit.end for start, end in places)
        ]

    def _edits(self, reading: _Reading, prompt: str) -> dict[int, list[Edit]]:
        """The changes of every rewrite rule that is sure of its words."""
        return {
            number: edits_of(self._rules[number], fields["prompt"].hits, prompt)
            for number, fields in reading.spoken.items()
            if self._rules[number].action is Action.REWRITE and "prompt" in fields and fields["prompt"].certain
        }

    def _finding(
        self,
        rule: PromptRule,
        spoken: Mapping[str, Spoken],
        texts: Mapping[str, str],
        edits: Sequence[Edit],
        request: PromptRequest,
    ) -> Finding:
        hits = [(field, hit) for field, found in spoken.items() for hit in found.hits]
        field, first = hits[0]
        certain = any(found.certain for found in spoken.values())
        words = [texts[field][hit.start : hit.end] for field, hit in hits[:_MOST_SPANS]]
        evidence: dict[str, object] = {
            "term": first.use.term,
            "view": first.view,
            "severity": rule.severity,
            "hits": len(hits),
            "spans": [_span_evidence(field, hit) for field, hit in hits[:_MOST_SPANS]],
        }
        cues = [cue.use.term for found in spoken.values() for cue in found.cues]
        if cues:
            evidence["cues"] = sorted(set(cues))
        if rule.action is Action.REWRITE:
            prompt = texts["prompt"]
            evidence["rewrites"] = [
                {"from": prompt[edit.start : edit.end], "to": edit.text, "start": edit.start, "end": edit.end}
                for edit in edits[:_MOST_SPANS]
            ]
        if not certain:
            evidence["certain"] = False
        message = rule.messages.get(request.language, rule.message)
        return Finding(
            rule=rule.id,
            category=rule.category,
            action=rule.action if certain else min(rule.action, Action.FLAG),
            message=message.replace("{words}", _quoted(words)),
            detector=self._detector,
            span=Span(start=first.start, end=first.end, field=field),
            evidence=evidence,
        )

    def _language_findings(self, reading: _Reading, request: PromptRequest) -> list[tuple[None, Finding]]:
        """A prompt in a language that the word lists do not hold must not pass as checked."""
        rule, language = self._policy.language_rule, reading.language
        if rule is None or not language or language in rule.supported:
            return []
        finding = Finding(
            rule=rule.id,
            category="unsupported_language",
            action=rule.action,
            message=rule.message.replace("{language}", language),
            detector=self._detector,
            span=Span(start=0, end=len(request.prompt)),
            evidence={"language": language, "spans": []},
        )
        return [(None, finding)]

    def _near_misses(self, reading: _Reading) -> tuple[NearMiss, ...]:
        return tuple(
            NearMiss(
                rule=self._rules[number].id,
                category=self._rules[number].category,
                action=self._rules[number].action,
                why=reason.why,
                span=Span(start=reason.hit.start, end=reason.hit.end, field=field),
            )
            for number, field, reason in sorted(reading.silent, key=lambda item: item[:2])[:_MOST_NEAR_MISSES]
        )


def _semantics_of(policy: Policy) -> PromptSemantics | None:
    """The semantic stage, imported only where a policy has one: it needs arrays, word rules do not."""
    if policy.semantics is None:
        return None
    from guardrails.prompts.semantics import PromptSemantics

    return PromptSemantics(policy.semantics)


def _span_evidence(field: str, hit: Hit) -> dict[str, object]:
    evidence: dict[str, object] = {
        "field": field, "start": hit.start, "end": hit.end, "term": hit.use.term, "view": hit.view
    }  # fmt: skip
    if hit.use.entry is not None:
        evidence["registry_id"] = hit.use.entry.id
    return evidence


def _quoted(words: Iterable[str]) -> str:
    """The first few distinct wordings, in the order in which they stand, each on one line."""
    distinct = list(dict.fromkeys(" ".join(word.split()) for word in words))
    shown = [word if len(word) <= _LONGEST_WORDING else word[: _LONGEST_WORDING - 1] + "…" for word in distinct]
    return ", ".join(f'"{word}"' for word in shown[:_MOST_WORDINGS]) + (" …" if len(shown) > _MOST_WORDINGS else "")


def _checked(text: object, field: str, limit: int) -> str:
    """A text that can be matched.

    Raises:
        PromptError: see `PromptGuard.decide`.
    """
    name = field.replace("_", " ")
    if not isinstance(text, str):
        raise PromptError(f"the {name} is {type(text).__name__}, not text", hint="give a string")
    if len(text) > limit:
        raise PromptError(
            f"the {name} has {len(text)} characters; this policy allows {limit}", hint="shorten it and ask again"
        )
    if text.isprintable():
        return text
    for index, char in enumerate(text):
        category = unicodedata.category(char)
        if category == "Cs" or (category == "Cc" and char not in _ALLOWED_CONTROLS):
            kind = "half of a surrogate pair" if category == "Cs" else "a control character"
            raise PromptError(f"the {name} holds {kind} (U+{ord(char):04X}) at {index}", hint="remove it and ask again")
    return text
