"""The decision on a prompt: every rule speaks for itself, and the strictest one wins."""

from __future__ import annotations

import bisect
import itertools
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from guardrails.domain.findings import Action, Component, Finding, Span, strongest
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.errors import PromptError
from guardrails.policy.model import Policy, PromptRule
from guardrails.prompts.matching import Hit, Role, TermIndex
from guardrails.prompts.views import is_blank, views_of

DETECTOR = "prompt-terms"
DETECTOR_VERSION = "1"
# A prompt that repeats one word a thousand times must not make a finding of a thousand lines.
_MOST_SPANS = 50
_MOST_WORDINGS = 5
_LONGEST_WORDING = 60
_ALLOWED_CONTROLS = frozenset("\t\n\r")


@dataclass(frozen=True, slots=True)
class _Spoken:
    """What one rule found in one field: its terms, and the cues that it required."""

    hits: tuple[Hit, ...]
    cues: tuple[Hit, ...]


class PromptGuard:
    """Decides prompts under one policy. Immutable after construction and safe to share between threads."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rules = policy.prompt_rules
        self._index = TermIndex(self._rules)
        self._detector = Component(name=DETECTOR, version=DETECTOR_VERSION, digest=policy.digest)

    def decide(self, request: PromptRequest) -> PromptDecision:
        """What the policy says about a request, with one finding for each rule that speaks.

        The negative prompt is matched only by rules with `negative_prompt`: "nudity, gore" there is a good sign.

        Raises:
            PromptError: a prompt is not text, is blank, is longer than the policy's limit, or holds control
                characters or lone surrogates.
        """
        started = time.perf_counter()
        texts = {
            "prompt": _checked(request.prompt, "prompt", self._policy.prompt_limit),
            "negative_prompt": _checked(request.negative_prompt, "negative_prompt", self._policy.prompt_limit),
        }
        if is_blank(request.prompt):
            raise PromptError("the prompt is empty", hint="describe the picture that you want")
        spoken = {field: self._speaking(text, field) for field, text in texts.items()}
        findings = tuple(
            self._finding(
                self._rules[number],
                {field: rules[number] for field, rules in spoken.items() if number in rules},
                texts,
            )
            for number in sorted(set().union(*spoken.values()))
        )
        action = strongest(findings)
        # Nothing is drawn from a blocked prompt, so it is left as it was asked.
        prompt = request.prompt if action is Action.BLOCK else self._rewritten(request.prompt, spoken["prompt"])
        return PromptDecision(
            action=action,
            policy=self._policy.ref,
            findings=findings,
            prompt=prompt,
            rewritten=prompt != request.prompt,
            milliseconds=(time.perf_counter() - started) * 1000,
        )

    def _speaking(self, text: str, field: str) -> dict[int, _Spoken]:
        """The rules that speak about one field, by their index."""
        by_rule: dict[int, list[Hit]] = {}
        for hit in self._index.find(views_of(text)) if text else ():
            by_rule.setdefault(hit.use.rule, []).append(hit)
        spoken: dict[int, _Spoken] = {}
        for number, hits in by_rule.items():
            rule = self._rules[number]
            if (field == "prompt" or rule.negative_prompt) and (found := _apply(rule, hits)):
                spoken[number] = found
        return spoken

    def _finding(self, rule: PromptRule, spoken: dict[str, _Spoken], texts: dict[str, str]) -> Finding:
        hits = [(field, hit) for field, found in spoken.items() for hit in found.hits]
        words = [texts[field][hit.start : hit.end] for field, hit in hits]
        field, first = hits[0]
        evidence: dict[str, object] = {
            "term": first.use.term,
            "view": first.view,
            "hits": len(hits),
            "spans": [
                {"field": field, "start": hit.start, "end": hit.end, "term": hit.use.term, "view": hit.view}
                for field, hit in hits[:_MOST_SPANS]
            ],
        }
        cues = [cue.use.term for found in spoken.values() for cue in found.cues]
        if cues:
            evidence["cues"] = sorted(set(cues))
        if rule.action is Action.REWRITE:
            ranges = _merged(spoken["prompt"].hits)
            evidence["rewrites"] = [{"from": texts["prompt"][a:b], "to": rule.rewrite} for a, b in ranges[:_MOST_SPANS]]
        return Finding(
            rule=rule.id,
            category=rule.category,
            action=rule.action,
            message=rule.message.replace("{words}", _quoted(words)),
            detector=self._detector,
            span=Span(start=first.start, end=first.end, field=field),
            evidence=evidence,
        )

    def _rewritten(self, prompt: str, spoken: dict[int, _Spoken]) -> str:
        """The prompt with the words of every rewrite rule replaced."""
        edits = [
            (start, end, self._rules[number].rewrite)
            for number, found in spoken.items()
            if self._rules[number].action is Action.REWRITE
            for start, end in _merged(found.hits)
        ]
        pieces: list[str] = []
        done = 0
        for start, end, text in sorted(edits):
            # Where two rules replace overlapping words, both replacements stand side by side.
            pieces += [prompt[done:start], text] if start >= done else [", ", text]
            done = max(done, end)
        return "".join([*pieces, prompt[done:]])


def _apply(rule: PromptRule, hits: Sequence[Hit]) -> _Spoken | None:
    """Whether a rule speaks, given every hit of its own words in one field."""
    terms = _unmasked(hits)
    cues = [hit for hit in hits if hit.use.role is Role.CUE]
    if not terms or {cue.use.group for cue in cues} != set(range(len(rule.requires))):
        return None
    excused = any(hit.use.role is Role.EXCEPTION for hit in hits)
    if excused and rule.severity <= rule.unless_severity:
        return None
    return _Spoken(tuple(sorted(terms, key=lambda hit: (hit.start, -hit.end))), tuple(cues))


def _unmasked(hits: Sequence[Hit]) -> list[Hit]:
    """The terms that do not lie inside a benign phrase of the rule."""
    phrases = sorted((hit.start, hit.end) for hit in hits if hit.use.role is Role.BENIGN_PHRASE)
    starts = [start for start, _ in phrases]
    # furthest[i]: where the longest-reaching of the first i phrases ends; one look-up per term keeps this n log n.
    furthest = list(itertools.accumulate((end for _, end in phrases), max, initial=0))
    return [
        hit for hit in hits if hit.use.role is Role.TERM and hit.end > furthest[bisect.bisect_right(starts, hit.start)]
    ]


def _merged(hits: Iterable[Hit]) -> list[tuple[int, int]]:
    """Ranges that cover the hits; overlapping ones become one."""
    ranges: list[tuple[int, int]] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, hit.end)):
        if ranges and hit.start < ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], hit.end))
        else:
            ranges.append((hit.start, hit.end))
    return ranges


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
