"""Terms with one wrong letter, or with letters masked by signs: guesses, which may only flag.

Only words that are no English words and no part of a find are looked at, alone and with their neighbours, and one
edit (a letter replaced, missing, doubled or put in, two letters swapped) must turn them into a term. The term's own
trie prunes the positions that are tried: what stands before the edit must be the beginning of a term.
"""

from __future__ import annotations

import bisect
import datetime
import itertools
from collections.abc import Iterator, Sequence

from guardrails.policy.model import PromptRule
from guardrails.policy.vocabulary import is_common_word, is_word
from guardrails.prompts.matching import WILDCARD, Hit, Role, Scan, TermIndex

_SHORTEST_WORD = 2
_SHORTEST_TERM = 6
_SHORTEST_MASKED = 4
# A guess may only flag, so a prompt of nothing but unknown words need not be searched to its end.
_MOST_WORDS = 24
_MOST_WINDOWS = 10
_MASKS = frozenset("*#•●■✱✻_?-")
_LONGEST_MASK = 3
_LONGEST_WINDOW = 4
_SHORTEST_RARE = 4
_MOST_READ = 400


def unknown_words(scan: Scan, hits: Sequence[Hit]) -> list[int]:
    """Numbers of the first words that are neither English nor part of a find."""
    ranges = sorted({(hit.start, hit.end) for hit in hits if hit.use.role is Role.TERM})
    starts = [start for start, _ in ranges]
    furthest = list(itertools.accumulate((end for _, end in ranges), max, initial=0))
    unknown: list[int] = []
    for number, word in enumerate(scan.pieces):
        if len(word) < _SHORTEST_WORD or is_word(word) or word.isdecimal():
            continue
        start, end = scan.original(number, number)
        if end > furthest[bisect.bisect_right(starts, start)]:
            unknown.append(number)
            if len(unknown) == _MOST_WORDS:
                break
    return unknown


def misspelt(
    index: TermIndex, rules: Sequence[PromptRule], scan: Scan, unknown: Sequence[int], day: datetime.date
) -> list[Hit]:
    """The terms that unknown words come one edit near to.

    A known word is looked at too beside an unknown one or one that is written like a name, as in "Jon Hughes".
    """
    hits: dict[tuple[int, int, int], Hit] = {}
    known = _beside_names(scan, unknown)
    windows = itertools.chain(
        ((first, number, last, False) for number in unknown for first, last in _windows(index, scan, number)),
        (
            (first, number, last, True)
            for number in known
            for first, last in _windows(index, scan, number)
            if first < last
        ),
    )
    for first, number, last, names_only in itertools.islice(windows, _MOST_WINDOWS):
        _collect(hits, index, rules, scan, (first, number, last), day, names_only=names_only)
    return list(hits.values())


def _windows(index: TermIndex, scan: Scan, number: int) -> Iterator[tuple[int, int]]:
    """Runs of words around one, of which what stands before it is the beginning of a term."""
    for first in range(number, max(-1, number - _LONGEST_WINDOW), -1):
        if first < number and not _is_phrase(scan, first + 1):
            return
        before = scan.letters[scan.offsets[first] : scan.offsets[number]]
        if before and index.longest_prefix(before) < len(before):
            continue
        for last in range(number, min(len(scan.pieces), first + _LONGEST_WINDOW)):
            if last > number and not (_is_phrase(scan, last) and _may_follow(index, scan, last)):
                break
            yield first, last


def _may_follow(index: TermIndex, scan: Scan, number: int) -> bool:
    """Whether a word is likely inside of a term: no common word, a word of a term, or written like a name."""
    word = scan.pieces[number]
    return not is_common_word(word) or word in index.inner_words or _is_name(scan, number)


def _beside_names(scan: Scan, unknown: Sequence[int]) -> list[int]:
    """Numbers of known words beside words that are no English ones or are written like names."""
    taken = set(unknown)
    found: list[int] = []
    has_names = not scan.prompt[1:].islower()
    for number, word in enumerate(scan.pieces[:_MOST_READ]):
        if (
            len(word) < _SHORTEST_RARE
            or not word.isalpha()
            or (is_word(word) and not (has_names and _is_name(scan, number)))
        ):
            continue
        for beside in (number - 1, number + 1):
            if 0 <= beside < len(scan.pieces) and beside not in taken and len(scan.pieces[beside]) >= _SHORTEST_WORD:
                taken.add(beside)
                found.append(beside)
    return found[:_MOST_WORDS]


def _is_name(scan: Scan, number: int) -> bool:
    """Whether a word is written with a capital although it does not begin the prompt."""
    return number > 0 and scan.prompt[scan.original(number, number)[0]].isupper()


def _collect(
    hits: dict[tuple[int, int, int], Hit],
    index: TermIndex,
    rules: Sequence[PromptRule],
    scan: Scan,
    window: tuple[int, int, int],
    day: datetime.date,
    *,
    names_only: bool,
) -> None:
    """Add the terms that words [first, last] become by one edit inside the middle one."""
    first, number, last = window
    base = scan.offsets[first]
    letters = scan.letters[base : scan.offsets[last + 1]]
    if len(letters) < _SHORTEST_TERM - 1:
        return
    lengths = [len(piece) for piece in scan.pieces[first : last + 1]]
    for corrected in index.corrections(letters, scan.offsets[number] - base, scan.offsets[number + 1] - base):
        if len(corrected) < _SHORTEST_TERM or corrected == letters:
            continue
        for hit in _hits(index, rules, scan, corrected, (first, last), lengths, number - first, day):
            if hit.use.is_name or not names_only:
                hits.setdefault((hit.use.rule, hit.start, hit.end), hit)


def masked(index: TermIndex, rules: Sequence[PromptRule], scan: Scan, day: datetime.date) -> list[Hit]:
    """The terms behind words with masked letters: ``w*rd``."""
    found: list[Hit] = []
    if _MASKS.isdisjoint(scan.view.text):
        return found
    for number in range(1, len(scan.pieces)):
        gap = scan.gap(number)
        if not 0 < len(gap) <= _LONGEST_MASK or not _MASKS.issuperset(gap):
            continue
        pattern = scan.pieces[number - 1] + WILDCARD * len(gap) + scan.pieces[number]
        if len(pattern) < _SHORTEST_MASKED or len(pattern) < 3 * len(gap):
            continue
        for letters in index.completions(pattern):
            found += _hits(index, rules, scan, letters, (number - 1, number), [len(pattern)], 0, day)
    return found


def _is_phrase(scan: Scan, number: int) -> bool:
    """Whether nothing but a blank or a hyphen stands before a word."""
    gap = scan.gap(number)
    return gap == " " or gap == "-" or gap.isspace()


def _hits(
    index: TermIndex,
    rules: Sequence[PromptRule],
    scan: Scan,
    letters: str,
    words: tuple[int, int],
    lengths: Sequence[int],
    edited: int,
    day: datetime.date,
) -> Iterator[Hit]:
    """The uses of a written form whose words are as long as those found, but for the edited one."""
    grown = [*lengths]
    grown[edited] += len(letters) - sum(lengths)
    for key in index.keys_of(letters, day):
        if key.breaks != tuple(sum(grown[: n + 1]) for n in range(len(grown) - 1)):
            continue
        start, end = scan.original(*words)
        for use in key.uses:
            if use.role is Role.TERM and rules[use.rule].fuzzy:
                yield Hit(use, start, end, "spelling", certain=False)
