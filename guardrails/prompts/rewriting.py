"""Prompts with the words of rewrite rules replaced, and what was replaced by what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from guardrails.policy.model import PromptRule
from guardrails.prompts.matching import Hit

STYLE = "{style}"
# What leads to an artist's name and makes no sense without it. Looks at a few words before the name only.
_LEAD_IN = re.compile(
    r"(?:(?:digital |concept )?(?:art(?:work)?|painting|painted|illustration|illustrated|drawn|drawing|photo) )?"
    r"(?:(?:in |and )?(?:the )?styles? of |by (?:artist )?|inspired by |in the manner of )$",
    re.IGNORECASE,
)
_LEAD_OUT = re.compile(r"(?:['\u2019]s)?[ -](?:style|art style)\b", re.IGNORECASE)
_LONGEST_LEAD = 48


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement: code points [start, end) of the prompt become `text`."""

    start: int
    end: int
    text: str


def edits_of(rule: PromptRule, hits: Sequence[Hit], prompt: str) -> list[Edit]:
    """What a rewrite rule changes in a prompt, in order and without overlap."""
    edits: list[Edit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        start, end = hit.start, hit.end
        if STYLE in rule.rewrite:
            if lead := _LEAD_IN.search(prompt[max(0, start - _LONGEST_LEAD) : start]):
                start -= len(lead[0])
            if tail := _LEAD_OUT.match(prompt, end):
                end = tail.end()
        if edits and start < edits[-1].end:
            edits[-1] = Edit(edits[-1].start, max(end, edits[-1].end), edits[-1].text)
        else:
            edits.append(Edit(start, end, _replacement(rule, hit)))
    return edits


def rewritten(prompt: str, edits: Iterable[Edit]) -> str:
    """The prompt after the edits of every rule; where two overlap, both replacements stand side by side."""
    pieces: list[str] = []
    done = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end, edit.text)):
        pieces += [prompt[done : edit.start], edit.text] if edit.start >= done else [", ", edit.text]
        done = max(done, edit.end)
    return "".join([*pieces, prompt[done:]])


def _replacement(rule: PromptRule, hit: Hit) -> str:
    if hit.use.term in rule.rewrites:
        return rule.rewrites[hit.use.term]
    style = hit.use.entry.style if hit.use.entry else ""
    return " ".join(rule.rewrite.replace(STYLE, style).split())
