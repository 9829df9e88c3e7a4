"""A prompt seen through the disguises that people use, each view with the way back to the original code points.

Every view is one more reading of the same prompt; none replaces another. They are built in a chain, and a step that
changes nothing adds nothing:

1. plain: NFKC and case folding, character by character; invisible characters separate words.
2. stripped: HTML entities read, invisible characters and combining marks removed.
3. folded: letters of other scripts that look Latin become Latin.
4. syntax: weights and brackets of Stable Diffusion prompts removed, so that ``wo(rd:1.2)`` reads "word".
5. joined: letters that stand apart, ``w o r d`` or ``w.o.r.d``, are put together.
6. glued: marks inside a word, ``wo-rd``, are dropped.
7. leet: digits and signs that stand for letters are read as such; once with 1 as i and once as l.
8. squeezed: a letter three or more times in a row becomes one, and in another view two.

All steps are hand-written scanners and linear in the length of the prompt.
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from guardrails.prompts.confusables import LATIN_VARIANTS, LOOK_ALIKES

# One character class, no alternation and no nesting: linear on any text.
WORD = re.compile(r"[^\W_]+")
# Looks at three characters from each position: linear too.
_RUN = re.compile(r"([^\W_])\1\1")

_INVISIBLE = frozenset(
    chr(code)
    for low, high in (
        (0x00AD, 0x00AD),
        (0x034F, 0x034F),
        (0x061C, 0x061C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0),
        (0xE0000, 0xE0FFF),
    )
    for code in range(low, high + 1)
)
_LEET = dict(zip("4@3!05$789|", "aaeiosstbgi", strict=True))
_LEET_ONE_IS_I = _LEET | {"1": "i"}
_LEET_ONE_IS_L = _LEET | {"1": "l", "!": "l", "|": "l"}
_SYNTAX = frozenset("()[]{}<:\\")
_LONGEST_ENTITY = 32
_LONGEST_TAG = 200
_LONGEST_GAP = 3
_LONGEST_EXPANSION = 4
_FEWEST_LETTERS = 4
# Between two words these separate; inside a disguised word other marks are used.
_NEVER_GLUED = frozenset(',;:!?"()/&')


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One reading of a prompt.

    Attributes:
        name: which disguise was undone; goes into the evidence.
        starts, ends: character i of `text` stands for code points [starts[i], ends[i]) of the original.
    """

    name: str
    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """The original code points [start, end) behind characters [start, end) of this view; not for empty ranges."""
        return self.starts[start], self.ends[end - 1]


class _Draft:
    """A view in the making."""

    def __init__(self) -> None:
        self.chars: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []

    def add(self, text: str, start: int, end: int) -> None:
        """Append characters that all stand for the same original code points."""
        for char in text:
            self.chars.append(char)
            self.starts.append(start)
            self.ends.append(end)

    def copy(self, view: View, start: int, end: int) -> None:
        """Append characters [start, end) of another view."""
        self.chars.extend(view.text[start:end])
        self.starts.extend(view.starts[start:end])
        self.ends.extend(view.ends[start:end])

    def view(self, name: str) -> View:
        return View(name=name, text="".join(self.chars), starts=self.starts, ends=self.ends)


def views_of(prompt: str) -> tuple[View, ...]:
    """All views of a prompt that differ from each other; the plain one first."""
    views: dict[str, View] = {}
    for view in _chain(prompt):
        views.setdefault(view.text, view)
    return tuple(views.values())


def term_keys(term: str) -> frozenset[str]:
    """The forms in which a term can stand in the views: words with single blanks between them."""
    if term.isascii():
        return frozenset({" ".join(WORD.findall(term.lower()))})
    cased = _stripped(term)
    forms = (_plain(term), _case_folded(cased, "stripped"), _case_folded(_folded(cased), "folded"))
    return frozenset(" ".join(WORD.findall(form.text)) for form in forms) - {""}


def is_blank(prompt: str) -> bool:
    """True when nothing visible is left of a prompt."""
    return all(char.isspace() or char in _INVISIBLE for char in prompt)


def _chain(prompt: str) -> Iterator[View]:
    plain = _plain(prompt)
    yield plain
    if prompt.isascii() and "&" not in prompt:
        base = plain
    else:
        cased = _stripped(prompt)
        yield _case_folded(cased, "stripped")
        base = _case_folded(_folded(cased), "folded")
        yield base
    unmarked = _without_syntax(base)
    yield unmarked
    joined = _joined(unmarked)
    yield joined
    if joined is not unmarked:
        yield _joined(unmarked, after_article=True)
    glued = _glued(joined)
    yield glued
    leet_i = _leet(joined, _LEET_ONE_IS_I)
    leet_l = _leet(joined, _LEET_ONE_IS_L)
    yield leet_i
    yield leet_l
    for view in (glued, leet_i, leet_l):
        if _RUN.search(view.text):
            yield _squeezed(view, keep=1)
            yield _squeezed(view, keep=2)


def _plain(prompt: str) -> View:
    if prompt.isascii():
        return View(name="plain", text=prompt.lower(), starts=range(len(prompt)), ends=range(1, len(prompt) + 1))
    draft = _Draft()
    for index, char in enumerate(prompt):
        visible = " " if char in _INVISIBLE else _compatible("NFKC", char).casefold()
        draft.add(visible, index, index + 1)
    return draft.view("plain")


def _stripped(prompt: str) -> View:
    """Entities read, invisible characters and combining marks removed; the case is kept."""
    draft = _Draft()
    for text, start, end in _entities_read(prompt):
        for char in text:
            if char not in _INVISIBLE:
                draft.add("".join(c for c in _compatible("NFKD", char) if not _is_mark(c)), start, end)
    return draft.view("stripped")


def _compatible(form: Literal["NFKC", "NFKD"], char: str) -> str:
    """A character in its compatibility form, cut where one Arabic ligature would become a sentence."""
    return char if char.isascii() else unicodedata.normalize(form, char)[:_LONGEST_EXPANSION]


def _is_mark(char: str) -> bool:
    """Accents and enclosing circles; not the vowel signs of Indic scripts, which make other words."""
    return not char.isascii() and (unicodedata.combining(char) > 0 or unicodedata.category(char) == "Me")


def _entities_read(prompt: str) -> Iterator[tuple[str, int, int]]:
    """Characters with their original range; an HTML character reference gives what it stands for."""
    index = 0
    while index < len(prompt):
        end = index + 1
        text = prompt[index]
        if text == "&":
            while end < len(prompt) and end - index < _LONGEST_ENTITY and (prompt[end].isalnum() or prompt[end] == "#"):
                end += 1
            if end < len(prompt) and prompt[end] == ";":
                end += 1
            text = html.unescape(prompt[index:end])
            if text == prompt[index:end]:
                text, end = "&", index + 1
        yield text, index, end
        index = end


def _folded(cased: View) -> View:
    """Look-alikes read as Latin letters, in words that mix scripts or consist of look-alikes only."""
    if cased.text.isascii():
        return cased
    chars = [LATIN_VARIANTS.get(char, char) for char in cased.text]
    for start, end in _words(cased.text):
        word = chars[start:end]
        if any(char.isascii() and char.isalpha() for char in word) or all(char in LOOK_ALIKES for char in word):
            chars[start:end] = [LOOK_ALIKES.get(char, char)[0] for char in word]
    return View(name="folded", text="".join(chars), starts=cased.starts, ends=cased.ends)


def _case_folded(cased: View, name: str) -> View:
    draft = _Draft()
    for char, start, end in zip(cased.text, cased.starts, cased.ends, strict=True):
        draft.add(char.casefold(), start, end)
    return draft.view(name)


def _without_syntax(view: View) -> View:
    text = view.text
    if _SYNTAX.isdisjoint(text):
        return view
    draft = _Draft()
    index = 0
    while index < len(text):
        end = index + 1
        match text[index]:
            case "(" | ")" | "[" | "]" | "{" | "}" | "\\":
                pass
            case ":":
                end = _after_weight(text, index)
                if end == index:
                    end = index + 1
                    draft.copy(view, index, end)
            case "<" if (close := text.find(">", index, index + _LONGEST_TAG)) > 0:
                draft.add(" ", view.starts[index], view.ends[close])
                end = close + 1
            case _:
                draft.copy(view, index, end)
        index = end
    return draft.view("syntax")


def _after_weight(text: str, colon: int) -> int:
    """Where a weight such as ``:1.25`` or ``: -2`` ends; `colon` itself when there is none."""
    index = colon + 1
    while index < len(text) and index - colon < _LONGEST_GAP and text[index] == " ":
        index += 1
    if text[index : index + 1] == "-":
        index += 1
    first = index
    while index < len(text) and text[index] in "0123456789.":
        index += 1
    return index if text[first : first + 1].isdigit() else colon


def _joined(view: View, *, after_article: bool = False) -> View:
    """Single letters in a row become words; a gap with more blanks than the row's usual ones ends a word.

    Args:
        after_article: read the first letter of a row as the word "a" or "i" if it can be: ``a w o r d`` is "a word".
    """
    text = view.text
    draft = _Draft()
    copied = 0
    for row in _rows_of_letters(text):
        draft.copy(view, copied, row[0])
        for word in _words_of_row(row, text, after_article=after_article):
            for index in word:
                draft.copy(view, index, index + 1)
            draft.add(" ", view.starts[word[-1]], view.ends[word[-1]])
        copied = row[-1] + 1
    if not copied:
        return view
    draft.copy(view, copied, len(text))
    return draft.view("joined")


def _words_of_row(row: list[int], text: str, *, after_article: bool) -> Iterator[list[int]]:
    if after_article and text[row[0]] in "ai":
        yield row[:1]
        row = row[1:]
    blanks = [_blanks(text[before + 1 : index]) for before, index in itertools.pairwise(row)]
    usual = sorted(blanks)[(len(blanks) - 1) // 2]
    word = row[:1]
    for index, wide in zip(row[1:], blanks, strict=True):
        if wide > usual:
            yield word
            word = []
        word.append(index)
    yield word


def _rows_of_letters(text: str) -> Iterator[list[int]]:
    """Indexes of four or more one-letter words in a row with gaps of at most three characters."""
    row: list[int] = []
    for start, end in _words(text):
        if row and (end - start > 1 or start - row[-1] - 1 > _LONGEST_GAP):
            if len(row) >= _FEWEST_LETTERS:
                yield row
            row = []
        if end - start == 1:
            row.append(start)
    if len(row) >= _FEWEST_LETTERS:
        yield row


def _blanks(gap: str) -> int:
    return len(gap) - len("".join(gap.split()))


def _glued(view: View) -> View:
    """Marks between two characters of a word are dropped, unless they are marks that separate words."""
    text = view.text
    draft = _Draft()
    copied = 0
    last_end = -1
    for start, end in _words(text):
        gap = text[last_end:start] if last_end >= 0 else ""
        if gap and len(gap) <= _LONGEST_GAP and not _blanks(gap) and _NEVER_GLUED.isdisjoint(gap):
            draft.copy(view, copied, last_end)
            copied = start
        last_end = end
    if not copied:
        return view
    draft.copy(view, copied, len(text))
    return draft.view("glued")


def _leet(view: View, letters: dict[str, str]) -> View:
    """Digits and signs read as letters, in blank-separated pieces that also hold a letter."""
    if letters.keys().isdisjoint(view.text):
        return view
    chars = list(view.text)
    for start, end in _pieces(view.text):
        piece = view.text[start:end]
        if not letters.keys().isdisjoint(piece) and any(char.isalpha() for char in piece):
            last = start + len(piece.rstrip("!|.,;:?)")) - 1
            for index in range(start, last + 1):
                chars[index] = letters.get(chars[index], chars[index])
    return View(name="leet", text="".join(chars), starts=view.starts, ends=view.ends)


def _squeezed(view: View, *, keep: int) -> View:
    """Letters three or more times in a row reduced to `keep`; the kept ones stand for the whole run."""
    text = view.text
    draft = _Draft()
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and text[end] == text[start]:
            end += 1
        if end - start >= 3 and text[start].isalnum():
            draft.add(text[start] * keep, view.starts[start], view.ends[end - 1])
        else:
            draft.copy(view, start, end)
        start = end
    return draft.view("squeezed")


def _words(text: str) -> Iterable[tuple[int, int]]:
    return (found.span() for found in WORD.finditer(text))


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Ranges between white space."""
    start = 0
    for piece in text.split():
        start = text.index(piece, start)
        yield start, start + len(piece)
        start += len(piece)
