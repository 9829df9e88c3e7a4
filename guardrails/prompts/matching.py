"""Finding the words of a policy in the views of a prompt: one Aho-Corasick automaton over everything.

Aho and Corasick, "Efficient string matching", CACM 18(6), 1975: time is linear in the text, whatever the number of
terms. What is searched is the letters of a view without anything between them, so ``brad pitt``, ``bradpitt``,
``b r a d p i t t`` and ``brad-pi.tt`` are one search. A find counts when it begins and ends with a word, and when what
stands between its words is what could stand there:

1. the words are the term's own: it is written plainly, and no sentence ends and, for names, no punctuation stands
   between them;
2. words of the term run together: counts from `_SHORTEST_JOINED` letters on;
3. a word is cut by marks without blanks, or into single letters: counts unless the cutting goes on around it;
4. a word is cut by a blank into pieces that are no words: a guess, which may only flag.
"""

from __future__ import annotations

import bisect
import datetime
import enum
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ahocorasick
import re2

from guardrails.policy import patterns
from guardrails.policy.model import PromptRule, RegistryRef
from guardrails.policy.registries import Registry, RegistryEntry, open_registry
from guardrails.policy.vocabulary import is_word
from guardrails.prompts.views import GAP, WORD, View, term_words

_WORDS_AND_GAPS = re.compile(f"({WORD.pattern})")
_SHORTEST_JOINED = 6
_SHORTEST_CUT = 3
_SHORTEST_SPLIT = 5
_LONGEST_GAP = 3
_MOST_CORRECTIONS = 8192
WILDCARD = "\x00"
# The number of a key, the number of its letters and whether it has open edges, in one integer.
_LENGTH_MASK = 0x3FF
_NUMBER_SHIFT = 11
_SENTENCE_END = frozenset(".!?;")
_TITLES = frozenset({"dr", "jr", "mr", "mrs", "ms", "sr", "st"})
# Hyphens, apostrophes, symbols and brackets may stand inside a name; other punctuation ends it.
_INSIDE_NAMES = frozenset("-'\u2010\u2011\u2019*\\()[]{}")
# Between two words these separate; inside a disguised word other marks are used.
_NEVER_CUTS = frozenset(',;:!?"/&')
_PATTERN_VIEWS = frozenset({"plain", "escapes", "folded", "syntax"})


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
        entry: the row of a registry, for names that come from one.
    """

    rule: int
    role: Role
    group: int
    term: str
    is_name: bool
    entry: RegistryEntry | None = None


class Hit(NamedTuple):
    """A term that was found. A tuple, because a hostile prompt makes tens of thousands of them.

    Attributes:
        start, end: original code points [start, end).
        view: what showed it: the name of a view, or "joined", "cut", "split" for how its words are written.
        certain: False for a guess, which may only flag.
    """

    use: Use
    start: int
    end: int
    view: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class _Key:
    """One written form in the automaton: its letters, and where its second and later words begin."""

    letters: str
    breaks: tuple[int, ...]
    uses: tuple[Use, ...]
    open_start: bool = False
    open_end: bool = False
    cased: bool = False


class Scan:
    """A view taken apart: its letters without gaps, and where its words begin and end in them."""

    def __init__(self, view: View) -> None:
        self.view = view
        # A gap, a word, a gap, ..., a gap.
        self._parts: list[str] = _WORDS_AND_GAPS.split(view.text)
        self.pieces = self._parts[1::2]
        self.letters = "".join(self.pieces)

    @functools.cached_property
    def prompt(self) -> str:
        """The prompt itself."""
        view = self.view
        while view.parent is not None:
            view = view.parent
        return view.text

    @functools.cached_property
    def offsets(self) -> list[int]:
        """Where each word begins in the letters, and at last where they end."""
        return list(itertools.accumulate(map(len, self.pieces), initial=0))

    @functools.cached_property
    def number_at(self) -> dict[int, int]:
        """The number of the word that begins at an offset; one more than the last at the end."""
        return {offset: number for number, offset in enumerate(self.offsets)}

    @functools.cached_property
    def words(self) -> list[tuple[int, int]]:
        """Where each word begins and ends in the view."""
        ends = list(itertools.accumulate(map(len, self._parts)))
        return list(zip(ends[::2], ends[1::2], strict=False))

    def gap(self, number: int) -> str:
        """What stands before a word."""
        return self._parts[2 * number] if number else " "

    def original(self, first: int, last: int) -> tuple[int, int]:
        """The original code points of words [first, last]."""
        return self.view.original_span(self.words[first][0], self.words[last][1])


class TermIndex:
    """All terms, cues, exceptions and benign phrases of a list of rules, and the names of their registries."""

    def __init__(self, rules: Sequence[PromptRule], registries: Sequence[RegistryRef] = ()) -> None:
        self._rules = rules
        self._automaton = ahocorasick.Automaton(ahocorasick.STORE_INTS)
        self._same: dict[int, list[int]] = {}
        self._keys: list[_Key] = []
        self._patterns = _Patterns()
        for use in itertools.chain.from_iterable(_uses_of(index, rule) for index, rule in enumerate(rules)):
            if use.term.startswith(patterns.PREFIX):
                self._patterns.add(use)
        for (letters, breaks, open_end), uses in _grouped(rules).items():
            is_open = open_end or _is_unspaced(letters[0]) or _is_unspaced(letters[-1])
            self._add(letters, len(self._keys), is_open=is_open)
            self._keys.append(
                _Key(
                    letters,
                    breaks,
                    tuple(uses),
                    open_start=_is_unspaced(letters[0]),
                    open_end=open_end or _is_unspaced(letters[-1]),
                )
            )
        self.inner_words = frozenset(
            key.letters[start:end]
            for key in self._keys
            for start, end in itertools.pairwise((*key.breaks, len(key.letters)))
        )
        """The second and later words of the policy's own terms."""
        self._registries: list[tuple[int, Registry, list[int]]] = []
        self._add_registries(registries)
        self.is_empty = not len(self._automaton)
        self._automaton.make_automaton()
        self._patterns.compile()
        self._key = functools.lru_cache(_MOST_CORRECTIONS)(self._read_key)
        self.corrections = functools.lru_cache(_MOST_CORRECTIONS)(self._corrections)
        """Written forms that differ from letters by one edit at a position in [begin, end); the last ones are kept."""

    def _add_registries(self, registries: Sequence[RegistryRef]) -> None:
        base = len(self._keys)
        for ref in registries:
            users = [
                n for n, rule in enumerate(self._rules) if rule.names_from and ref.name in rule.names_from.registries
            ]
            if not users:
                continue
            registry = open_registry(ref)
            for number, key in enumerate(registry.keys(), start=base):
                self._add(key.replace(" ", ""), number, is_open=False)
            self._registries.append((base, registry, users))
            base += len(registry)

    def _add(self, letters: str, number: int, *, is_open: bool) -> None:
        """Put a key into the automaton, with what the first look at a find needs to know: length, and open edges."""
        present = self._automaton.get(letters, None)
        if present is None:
            present = number << _NUMBER_SHIFT | len(letters) << 1
            self._automaton.add_word(letters, present | is_open)
        else:
            self._automaton.add_word(letters, present | is_open)
            first = present >> _NUMBER_SHIFT
            self._same.setdefault(first, [first]).append(number)

    def find(self, scans: Sequence[Scan], prompt: str, day: datetime.date) -> list[Hit]:
        """Every use found in any view, once per original span; the first view that shows it is named."""
        hits: dict[tuple[int, int, int], list[Hit]] = {}
        for scan in scans:
            edges = set(itertools.accumulate(map(len, scan.pieces), initial=0))
            for last, value in self._automaton.iter(scan.letters) if not self.is_empty else ():
                # Most finds lie inside of words; this is all that is done about them.
                if not value & 1 and (last + 1 not in edges or last + 1 - (value >> 1 & _LENGTH_MASK) not in edges):
                    continue
                value >>= _NUMBER_SHIFT
                for number in self._same.get(value, (value,)):
                    key = self._key(number, day)
                    found = _place(key, last + 1, scan, prompt)
                    if found is None:
                        continue
                    first_word, last_word, view, certain, barriers = found
                    start, end = scan.original(first_word, last_word)
                    if (number, start, end) not in hits:
                        hits[number, start, end] = [
                            Hit(use, start, end, view, certain)
                            for use in key.uses
                            if not barriers[use.is_name] and (view != "joined" or use.role in _CONDEMNS)
                        ]
        found_hits = list(itertools.chain.from_iterable(hits.values()))
        found_hits += self._patterns.find(scan.view for scan in scans)
        return found_hits

    def completions(self, pattern: str) -> Iterator[str]:
        """Written forms that a pattern stands for, letters only; `WILDCARD` is any one letter."""
        found: Iterator[str] = self._automaton.keys(pattern, WILDCARD, ahocorasick.MATCH_EXACT_LENGTH)
        return found

    def longest_prefix(self, letters: str) -> int:
        """How many of these letters some written form begins with."""
        return int(self._automaton.longest_prefix(letters))

    def _corrections(self, letters: str, begin: int, end: int) -> tuple[str, ...]:
        holds = self._automaton.exists
        found: list[str] = []
        # What stands before an edit must be the beginning of a written form, so most positions need not be tried.
        for at in range(begin, min(end, self._automaton.longest_prefix(letters)) + 1):
            head, tail = letters[:at], letters[at:]
            # The first letter of a term stays: a wildcard there would try every term.
            if at:
                found += self.completions(head + WILDCARD + tail)
                if at < end:
                    found += self.completions(head + WILDCARD + tail[1:])
            if at < end and holds(head + tail[1:]):
                found.append(head + tail[1:])
            if at + 1 < end and holds(swapped := head + tail[1] + tail[0] + tail[2:]):
                found.append(swapped)
        return tuple(dict.fromkeys(found))

    def keys_of(self, letters: str, day: datetime.date) -> list[_Key]:
        """The terms behind a written form."""
        value = self._automaton.get(letters) >> _NUMBER_SHIFT
        return [self._key(number, day) for number in self._same.get(value, (value,))]

    def _read_key(self, number: int, day: datetime.date) -> _Key:
        if number < len(self._keys):
            return self._keys[number]
        base, registry, users = self._registries[
            bisect.bisect_right(self._registries, number, key=lambda item: item[0]) - 1
        ]
        entry = registry.entry(number - base)
        uses = tuple(
            Use(rule, Role.TERM, 0, entry.name, True, entry)
            for rule in users
            if (query := self._rules[rule].names_from) and entry.answers(query, day)
        )
        return _Key("".join(entry.key.split()), _breaks(entry.key.split()), uses, cased=entry.cased)


_CONDEMNS = frozenset({Role.TERM, Role.CUE})
_Found = tuple[int, int, str, bool, tuple[bool, bool]]
_NO_BARRIER = (False, False)


def _place(key: _Key, end: int, scan: Scan, prompt: str) -> _Found | None:
    """Where and how a written form stands in a scan: first and last word, view, certainty, barriers; None if not.

    The barriers say whether a sentence ends inside, and whether punctuation that ends a name stands inside.
    """
    start = end - len(key.letters)
    first, behind = scan.number_at.get(start), scan.number_at.get(end)
    if first is None:
        if not key.open_start:
            return None
        first = bisect.bisect_right(scan.offsets, start) - 1
    if behind is None:
        if not key.open_end:
            return None
        behind = bisect.bisect_left(scan.offsets, end)
    last = behind - 1
    if not scan.view.is_news(scan.words[first][0], scan.words[last][1]):
        return None
    if key.cased and not _is_titled(scan, first, last, prompt):
        return None
    view = scan.view
    if first == last:
        if key.breaks:
            return (first, last, "joined", view.certain, _NO_BARRIER) if _may_be_joined(key.letters) else None
        return first, last, view.name, view.certain, _NO_BARRIER
    breaks = tuple(offset - start for offset in scan.offsets[first + 1 : last + 1])
    if breaks == key.breaks:
        gaps = [scan.gap(number) for number in range(first + 1, last + 1) if not _is_abbreviated(scan, number)]
        barriers = any(map(_ends_sentence, gaps)), any(map(_ends_name, gaps))
        return first, last, view.name, view.certain, barriers
    return _disguised(key, first, last, breaks, scan)


def _disguised(key: _Key, first: int, last: int, breaks: tuple[int, ...], scan: Scan) -> _Found | None:
    """Steps 2 to 4 of the module text for a find whose words are not the term's own."""
    if len(key.letters) < _SHORTEST_CUT or key.open_start:
        return None
    inner = [number for number, offset in enumerate(breaks, start=first + 1) if offset not in key.breaks]
    if not inner:
        return (first, last, "joined", scan.view.certain, _NO_BARRIER) if _may_be_joined(key.letters) else None
    certain = scan.view.certain
    for number in inner:
        gap = scan.gap(number)
        if len(gap) > _LONGEST_GAP or not _NEVER_CUTS.isdisjoint(gap):
            return None
        if not any(map(str.isspace, gap)):
            continue
        pieces = scan.pieces[number - 1], scan.pieces[number]
        if len(pieces[0]) == len(pieces[1]) == 1:
            continue
        if len(key.letters) < _SHORTEST_SPLIT or all(map(is_word, pieces)) or key.breaks:
            return None
        certain = False
    if _goes_on(scan, first, inner[0], -1) or _goes_on(scan, last + 1, inner[-1], 0):
        return None
    return first, last, "cut" if certain else "split", certain, _NO_BARRIER


def _may_be_joined(letters: str) -> bool:
    """Whether words run together are no ordinary word by chance."""
    return len(letters) >= _SHORTEST_JOINED and not is_word(letters)


def _goes_on(scan: Scan, edge: int, inner: int, outside: int) -> bool:
    """Whether the cutting goes on beyond the edge of a find: then it is part of a longer disguised word.

    Args:
        edge: number of the word that the outer gap stands before.
        inner: number of a word that a cutting gap stands before.
        outside: -1 at the start of the find, 0 at its end.
    """
    if not 0 < edge < len(scan.pieces):
        return False
    neighbour = scan.pieces[edge + outside]
    if scan.gap(edge) != scan.gap(inner):
        return False
    if any(map(str.isspace, scan.gap(inner))):
        return len(neighbour) == 1 and neighbour not in "ai"
    return True


def _is_titled(scan: Scan, first: int, last: int, prompt: str) -> bool:
    """Whether each word begins with a capital in the original."""
    return all(prompt[scan.original(number, number)[0]].isupper() for number in range(first, last + 1))


def _is_abbreviated(scan: Scan, number: int) -> bool:
    """Whether before a word there is the full stop of an initial or a title: "J. J. Abrams", "St. Vincent"."""
    before = scan.pieces[number - 1]
    return scan.gap(number).strip() == "." and (len(before) == 1 or before in _TITLES)


def _ends_sentence(gap: str) -> bool:
    return gap != " " and not _SENTENCE_END.isdisjoint(gap) and any(map(str.isspace, gap))


def _ends_name(gap: str) -> bool:
    return gap != " " and any(
        char not in _INSIDE_NAMES and char != GAP and unicodedata.category(char)[0] == "P" for char in gap
    )


class _Patterns:
    """RE2 patterns, tried together first: most prompts match none."""

    def __init__(self) -> None:
        self._uses: dict[str, list[Use]] = {}
        self._compiled: list[tuple[re2._Regexp, list[Use]]] = []

    def add(self, use: Use) -> None:
        self._uses.setdefault(use.term.removeprefix(patterns.PREFIX), []).append(use)

    def compile(self) -> None:
        options = patterns.options(len(self._uses))
        self._set = re2.Set.SearchSet(options)
        for pattern, uses in self._uses.items():
            self._set.Add(pattern)
            self._compiled.append((re2.compile(pattern, options), uses))
        if self._compiled:
            self._set.Compile()

    def find(self, views: Iterator[View]) -> list[Hit]:
        """Every match in the views that only undo how characters are written."""
        hits: dict[tuple[Use, int, int], Hit] = {}
        for view in views if self._compiled else ():
            if view.name not in _PATTERN_VIEWS:
                continue
            for number in self._set.Match(view.text) or ():
                pattern, uses = self._compiled[number]
                for found in pattern.finditer(view.text):
                    if found.end() > found.start():
                        start, end = view.original_span(*found.span())
                        for use in uses:
                            hits.setdefault((use, start, end), Hit(use, start, end, view.name, view.certain))
        return list(hits.values())


def _grouped(rules: Sequence[PromptRule]) -> dict[tuple[str, tuple[int, ...], bool], list[Use]]:
    """The uses of every written form."""
    grouped: dict[tuple[str, tuple[int, ...], bool], list[Use]] = {}
    words_of: dict[str, tuple[str, ...]] = {}
    for index, rule in enumerate(rules):
        for use in _uses_of(index, rule):
            if use.term.startswith(patterns.PREFIX):
                continue
            words = words_of.get(use.term)
            if words is None:
                words = words_of[use.term] = term_words(use.term.removesuffix("*"))
            form = "".join(words), _breaks(words), use.term.endswith("*")
            grouped.setdefault(form, []).append(use)
    return grouped


def _breaks(words: Sequence[str]) -> tuple[int, ...]:
    return tuple(itertools.accumulate(map(len, words[:-1])))


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


def _is_unspaced(char: str) -> bool:
    """Chinese, Japanese and Thai write words without blanks."""
    return not char.isascii() and unicodedata.name(char, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI"))
