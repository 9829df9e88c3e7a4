"""Finding the terms of a policy in the views of a prompt: one Aho-Corasick automaton over everything.

Aho and Corasick, "Efficient string matching", CACM 18(6), 1975: time is linear in the text, whatever the number of
terms. Views are reduced to words with single blanks, so that a term is found on word boundaries only; what stands
between the words is looked at again for the few hits.
"""

from __future__ import annotations

import bisect
import enum
import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ahocorasick

from guardrails.policy.model import PromptRule
from guardrails.prompts.views import WORD, View, term_keys

# A phrase written without blanks ("firstnamelastname") is added when it is too long to be an ordinary word by chance.
_SHORTEST_JOINED = 8
_SENTENCE_END = frozenset(".!?;")
# Hyphens, underscores, apostrophes and symbols may stand inside a name; other punctuation ends it.
_INSIDE_NAMES = frozenset("-_'\u2010\u2011\u2019*\\")


class Role(enum.Enum):
    """What a term is for in its rule."""

    TERM = "term"
    CUE = "cue"
    EXCEPTION = "exception"
    BENIGN_PHRASE = "benign_phrase"


@dataclass(frozen=True, slots=True)
class Use:
    """One term of one rule.

    Attributes:
        rule: index in the list of rules.
        group: index of the `requires` group for cues, else 0.
    """

    rule: int
    role: Role
    group: int
    term: str
    is_name: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """A term that was found: original code points [start, end), and the view that showed it."""

    use: Use
    start: int
    end: int
    view: str


class TermIndex:
    """All terms, cues, exceptions and benign phrases of a list of rules."""

    def __init__(self, rules: Sequence[PromptRule]) -> None:
        uses: dict[str, list[Use]] = {}
        for use in itertools.chain.from_iterable(_uses_of(index, rule) for index, rule in enumerate(rules)):
            for key in _keys(use):
                uses.setdefault(key, []).append(use)
        self._automaton = ahocorasick.Automaton()
        for key, users in uses.items():
            self._automaton.add_word(key, (len(key), tuple(users)))
        self._is_empty = not uses
        self._automaton.make_automaton()

    def find(self, views: Sequence[View]) -> list[Hit]:
        """Every use found in any view, once per original span; the first view that shows it is named."""
        if self._is_empty:
            return []
        hits: dict[tuple[Use, int, int], Hit] = {}
        for view in views:
            for hit in self._find_in(view):
                hits.setdefault((hit.use, hit.start, hit.end), hit)
        return list(hits.values())

    def _find_in(self, view: View) -> Iterator[Hit]:
        words = [found.span() for found in WORD.finditer(view.text)]
        text = f" {' '.join(view.text[start:end] for start, end in words)} "
        found = list(self._automaton.iter(text))
        if not found:
            return
        # Where each word starts in `text`; the words before it and a blank each come first.
        offsets = list(itertools.accumulate((end - start + 1 for start, end in words), initial=1))
        for last, (length, users) in found:
            key_start, key_end = last - length + 1, last + 1
            start, first_word = _to_view(key_start + (text[key_start] == " "), offsets, words)
            end, last_word = _to_view(key_end - 1 - (text[key_end - 1] == " "), offsets, words)
            gaps = [view.text[words[i][1] : words[i + 1][0]] for i in range(first_word, last_word)]
            original = view.original_span(start, end + 1)
            for use in users:
                if not any(_separates(gap, is_name=use.is_name) for gap in gaps):
                    yield Hit(use, *original, view.name)


def _to_view(position: int, offsets: Sequence[int], words: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The position in the view behind a position in the reduced text, and the number of its word."""
    number = bisect.bisect_right(offsets, position) - 1
    return words[number][0] + position - offsets[number], number


def _uses_of(index: int, rule: PromptRule) -> Iterator[Use]:
    for term in rule.terms:
        yield Use(index, Role.TERM, 0, term, rule.names)
    for group, cues in enumerate(rule.requires):
        for cue in cues:
            yield Use(index, Role.CUE, group, cue, False)
    for exception in rule.unless:
        yield Use(index, Role.EXCEPTION, 0, exception, False)
    for phrase in rule.benign_phrases:
        yield Use(index, Role.BENIGN_PHRASE, 0, phrase, False)


def _keys(use: Use) -> set[str]:
    """What to look for: the term's forms between blanks, and long phrases in joined form.

    Only terms and cues are looked for in joined form: a hidden word may condemn, never excuse.
    """
    keys = set()
    for form in term_keys(use.term):
        keys.add(_bounded(form))
        joined = form.replace(" ", "")
        if use.role in (Role.TERM, Role.CUE) and " " in form and len(joined) >= _SHORTEST_JOINED:
            keys.add(_bounded(joined))
    return keys


def _bounded(form: str) -> str:
    """A form with the blanks that its edges need; Chinese, Japanese and Thai write words without blanks."""
    before = "" if _is_unspaced(form[0]) else " "
    after = "" if _is_unspaced(form[-1]) else " "
    return before + form + after


def _is_unspaced(char: str) -> bool:
    return not char.isascii() and unicodedata.name(char, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI"))


def _separates(gap: str, *, is_name: bool) -> bool:
    """Whether what stands between two words keeps them from being one phrase, or one name."""
    if not is_name:
        return not _SENTENCE_END.isdisjoint(gap) and any(char.isspace() for char in gap)
    return any(unicodedata.category(char)[0] == "P" and char not in _INSIDE_NAMES for char in gap)
