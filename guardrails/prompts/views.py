"""A prompt seen through the disguises that people use, each view with the way back to the original code points.

Every view is one more reading of the same prompt; none replaces another. They are built in a chain, and a step that
changes nothing adds nothing:

1. plain: compatibility forms, no accents, case folded, character by character; invisible characters become gaps.
2. escapes: HTML entities, percent and backslash escapes and tag characters read.
3. folded: letters of other scripts that look like Latin ones become Latin; a second reading takes their sound.
4. syntax: weights, brackets and tags of Stable Diffusion prompts removed, so that ``wo(rd:1.2)`` reads "word".
5. leet: digits and signs that stand for letters are read as such; once with 1 as i and once as l.
6. squeezed: a letter three or more times in a row becomes one, two, or what makes an English word.

Letters that stand apart (``w o r d``, ``w.o.r.d``) and words run together need no view: matching compares letters
and looks at the gaps afterwards.

A view is text and an edit of its parent; the way back is worked out for the few hits only. All steps are linear in
the length of the prompt.
"""

from __future__ import annotations

import bisect
import enum
import functools
import html
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from guardrails.policy.vocabulary import is_common_word, is_word
from guardrails.prompts.confusables import LATIN_VARIANTS, LOOK_ALIKES

# One character class each, no nesting: linear on any text. The ranges are vowel signs of Indic scripts, Thai and
# Burmese, which Python does not count as letters.
_LETTERS = r"\w\u0900-\u0DFF\u0E31-\u0E4E\u1000-\u109F"
WORD = re.compile(f"[{_LETTERS}]+")
_PIECE = re.compile(r"\S+")
_MEASURE = re.compile(r"[\d.,x/:+-]+(?:[a-z]|mm|cm|px|fps|mp|st|nd|rd|th)?\W*")
_RUN = re.compile(r"([^\W\d_])\1\1+")
_ESCAPE = re.compile(
    r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});?|%[0-9a-f]{2}|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}"
    r"|[\U000E0020-\U000E007E]",
    re.IGNORECASE,
)
_SYNTAX = re.compile(r"<[^<>]{1,200}>|:\s{0,3}-?\d{1,6}(?:\.\d{1,6})?|[()\[\]{}\\]")
_NEEDS_SYNTAX = re.compile(r"<[^<>]{1,200}>|:\s{0,3}-?\d")

GAP = "\u200b"
_INVISIBLE = frozenset(
    chr(code)
    for low, high in (
        (0x00AD, 0x00AD),
        (0x034F, 0x034F),
        (0x061C, 0x061C),
        (0x0640, 0x0640),
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
_LEET = {ord(sign): letter for sign, letter in zip("4@3€!05$7+89|2", "aaeeiossttbgiz", strict=True)}
_LEET_ONE_IS_I = _LEET | {ord("1"): "i"}
_LEET_ONE_IS_L = _LEET | {ord("1"): "l", ord("!"): "l", ord("|"): "l", ord("6"): "g", ord("9"): "g"}
_LEET_SIGNS = frozenset(chr(code) for code in _LEET_ONE_IS_L)
# How letters sound that look like another one: a disguise may use either.
_SOUND_ALIKES = LOOK_ALIKES | dict(
    zip(
        "вВнНрРсСуУхХгГпПзЗлЛбБдДиИяЯэЭфФφΦυρσςημνωΩχγβΛλΔδΣθΘζ",
        "vVnNrRsSuUhHgGpPzZlLbBdDiIrReEfFfFursshmnoOhgbLlDdSoOz",
        strict=True,
    )
)
_LONGEST_EXPANSION = 4
_MOST_FOLDED = 20_000
_FEWEST_IN_ROW = 3
_MOST_RUNS = 4


@dataclass(slots=True, kw_only=True, eq=False)
class View:
    """One reading of a prompt.

    Attributes:
        name: which disguise was undone; goes into the evidence.
        text: what is matched.
        parent: the view this one was made from; None for the prompt itself.
        spread: gives, for each character of `text`, where it starts and ends in the parent; None means the same place.
        certain: False when the reading is a guess: what it shows may only flag.
        changed: ranges of `text` that differ from the parent in more than case, sorted; None when that is not known.
            What lies outside of them was there to see in the parent.
    """

    name: str
    text: str
    parent: View | None = None
    spread: Callable[[], tuple[list[int], list[int]]] | None = None
    certain: bool = True
    changed: Sequence[tuple[int, int]] | None = None
    _places: tuple[list[int], list[int]] | None = field(default=None, init=False)
    _moved: View | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        # The nearest view on the way back whose characters stand in another place than its parent's.
        self._moved = self if self.spread is not None else self.parent and self.parent._moved

    def is_news(self, start: int, end: int) -> bool:
        """Whether characters [start, end) could not be seen in the parent."""
        if self.changed is None:
            return True
        after = bisect.bisect_right(self.changed, (end, end))
        return after > 0 and self.changed[after - 1][1] >= start

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """The original code points [start, end) behind characters [start, end) of this view; not for empty ranges."""
        view = self._moved
        while view is not None and view.spread is not None:
            if view._places is None:
                view._places = view.spread()
            starts, ends = view._places
            # A reversed view runs backwards, so both ends are looked at.
            start, end = min(starts[start], starts[end - 1]), max(ends[start], ends[end - 1])
            view = view.parent and view.parent._moved
        return start, end


def views_of(prompt: str) -> tuple[View, ...]:
    """The views of a prompt that differ from each other; the plain one first."""
    if prompt.isascii() and _LEET_SIGNS.isdisjoint(prompt) and not _NEEDS_CHAIN.search(prompt):
        return (_folded_case(View(name="plain", text=prompt)),)
    views: dict[str, View] = {}
    for view in _chain(View(name="plain", text=prompt)):
        views.setdefault(view.text, view)
    return tuple(views.values())


_NEEDS_CHAIN = re.compile(rf"[<:&%\\]|{_RUN.pattern}")


def term_words(term: str) -> tuple[str, ...]:
    """A term as it stands in the plain view: its words."""
    return tuple(WORD.findall(_folded_case(View(name="plain", text=term)).text))


def is_blank(prompt: str) -> bool:
    """True when nothing visible is left of a prompt."""
    return all(char.isspace() or char in _INVISIBLE for char in prompt)


def edited(parent: View, name: str, edits: Iterable[tuple[int, int, str]], *, certain: bool = True) -> View:
    """A view in which ranges of the parent are replaced.

    Args:
        edits: (start, end, replacement), sorted and without overlap; a replacement stands for its whole range.
    """
    edits = list(edits)
    pieces: list[str] = []
    changed: list[tuple[int, int]] = []
    done = shift = 0
    for start, end, text in edits:
        pieces += (parent.text[done:start], text)
        changed.append((start + shift, start + shift + len(text)))
        shift += len(text) - (end - start)
        done = end
    pieces.append(parent.text[done:])

    def spread() -> tuple[list[int], list[int]]:
        starts: list[int] = []
        ends: list[int] = []
        done = 0
        for start, end, text in [*edits, (len(parent.text), len(parent.text), "")]:
            starts += [*range(done, start), *[start] * len(text)]
            ends += [*range(done + 1, start + 1), *[end] * len(text)]
            done = end
        return starts, ends

    return View(
        name=name,
        text="".join(pieces),
        parent=parent,
        spread=spread,
        certain=certain and parent.certain,
        changed=changed,
    )


def _chain(raw: View) -> Iterator[View]:
    best = _folded_case(raw)
    yield best
    cased = _unescaped(raw)
    if cased is not raw:
        yield (best := _folded_case(cased))
    if not cased.text.isascii():
        for table in (_SOUND_ALIKES, LOOK_ALIKES):
            look = _look_alikes_read(cased, table)
            if look is not cased:
                yield (best := _folded_case(look))
    if _NEEDS_SYNTAX.search(best.text):
        yield (best := edited(best, "syntax", ((*found.span(), "") for found in _SYNTAX.finditer(best.text))))
    leet = list(_leet(best))
    yield from leet
    yield from _squeezed(leet[0] if leet else best)


class _Folding(dict[int, str]):
    """Code point -> what it is in the plain view; filled as characters come up."""

    def __missing__(self, code: int) -> str:
        folded = _folded_char(chr(code))
        if len(self) < _MOST_FOLDED:
            self[code] = folded
        return folded


def _folded_char(char: str) -> str:
    if char in _INVISIBLE:
        return GAP
    if char == "_":
        return " "
    parts = unicodedata.normalize("NFKD", char.casefold())[:_LONGEST_EXPANSION].casefold()
    return "".join(LATIN_VARIANTS.get(part, part) for part in parts if not _is_mark(part))


def _is_mark(char: str) -> bool:
    """Accents and enclosing circles; not the vowel signs of Indic scripts, which make other words."""
    return not char.isascii() and (unicodedata.combining(char) > 0 or unicodedata.category(char) == "Me")


_FOLDING = _Folding()


def _folded_case(cased: View) -> View:
    text = cased.text
    if text.isascii():
        return View(name=cased.name, text=text.lower().replace("_", " "), parent=cased, changed=cased.changed)
    if all(len(_FOLDING[ord(char)]) == 1 for char in set(text)):
        return View(name=cased.name, text=text.translate(_FOLDING), parent=cased, changed=cased.changed)

    def spread() -> tuple[list[int], list[int]]:
        starts = [index for index, char in enumerate(text) for _ in _FOLDING[ord(char)]]
        return starts, [start + 1 for start in starts]

    return View(name=cased.name, text=text.translate(_FOLDING), parent=cased, spread=spread)


def _unescaped(raw: View) -> View:
    if raw.text.isascii() and not any(sign in raw.text for sign in "&%\\"):
        return raw
    edits = [(*found.span(), _escape_read(found[0])) for found in _ESCAPE.finditer(raw.text)]
    return edited(raw, "escapes", edits) if edits else raw


def _escape_read(escape: str) -> str:
    if escape[0] == "&":
        return html.unescape(escape)[:_LONGEST_EXPANSION]
    if len(escape) == 1:
        return chr(ord(escape) - 0xE0000)
    char = chr(int(escape.lstrip("%\\uxUX"), 16))
    return char if char.isprintable() else " "


def _look_alikes_read(cased: View, table: dict[str, str]) -> View:
    """Look-alikes read as Latin letters, in pieces that mix scripts or hold look-alikes only; the length stays."""
    pieces: list[str] = []
    changed: list[tuple[int, int]] = []
    read = functools.cache(lambda piece: _piece_read(piece, table))
    done = 0
    for found in _PIECE.finditer(cased.text):
        piece = found[0]
        if not piece.isascii() and (latin := read(piece)) != piece:
            start, end = found.span()
            pieces += (cased.text[done:start], latin)
            changed.append((start, end))
            done = end
    if not changed:
        return cased
    return View(name="folded", text="".join((*pieces, cased.text[done:])), parent=cased, changed=changed)


def _piece_read(piece: str, table: Mapping[str, str]) -> str:
    letters = [char for char in piece if char.isalpha() and char not in LATIN_VARIANTS]
    if any(char.isascii() for char in letters) or all(char in LOOK_ALIKES for char in letters):
        return "".join(table.get(char, char) for char in piece)
    return piece


def _leet(view: View) -> Iterator[View]:
    """Digits and signs read as letters: once with 1 as i, once as l."""
    changed = [] if _LEET_SIGNS.isdisjoint(view.text) else list(_leet_places(view.text))
    for letters in (_LEET_ONE_IS_I, _LEET_ONE_IS_L) if changed else ():
        parts: list[str] = []
        done = 0
        for start, end in changed:
            parts += (view.text[done:start], view.text[start:end].translate(letters))
            done = end
        text = "".join((*parts, view.text[done:]))
        yield View(name="leet", text=text, parent=view, certain=view.certain, changed=changed)


def _leet_places(text: str) -> Iterator[tuple[int, int]]:
    """Pieces that are written with signs for letters: they hold a letter or stand in a row of single characters.

    "8k" and "35mm" are what they are, and so are numbers, unless the piece beside them is written in this way.
    """
    pieces = [found.span() for found in _PIECE.finditer(text)]
    kind_of = functools.cache(_leet_kind)
    kinds = [kind_of(text[start:end]) for start, end in pieces]
    for number, (start, end) in enumerate(pieces):
        if kinds[number] is _Leet.NO or not (
            kinds[number] is _Leet.YES or _Leet.YES in kinds[max(0, number - 1) : number + 2] or _in_row(pieces, number)
        ):
            continue
        end = start + len(text[start:end].rstrip("!|.,;:?)+"))
        if end > start:
            yield start, end


class _Leet(enum.Enum):
    """Whether a piece is written with signs for letters; MAYBE is a number or a measure."""

    NO = 0
    MAYBE = 1
    YES = 2


def _leet_kind(piece: str) -> _Leet:
    if _LEET_SIGNS.isdisjoint(piece):
        return _Leet.NO
    if len(piece) == 1 or _MEASURE.fullmatch(piece) or not any(map(str.isalpha, piece)):
        return _Leet.MAYBE
    return _Leet.YES


def _in_row(pieces: Sequence[tuple[int, int]], number: int) -> bool:
    """Whether a piece is a single character between, or beside two, single characters."""
    single = [end - start == 1 for start, end in pieces[max(0, number - 2) : number + 3]]
    return pieces[number][1] - pieces[number][0] == 1 and sum(single) >= _FEWEST_IN_ROW


def _squeezed(view: View) -> Iterator[View]:
    """Letters three or more times in a row as one, as two, and as what makes an English word."""
    runs = list(_RUN.finditer(view.text))
    if not runs:
        return
    for keep in (1, 2):
        yield edited(view, "squeezed", ((*run.span(), run[1] * keep) for run in runs))
    squeezed = functools.cache(_english_squeezed)
    edits = [(*found.span(), word) for found in WORD.finditer(view.text) if (word := squeezed(found[0]))]
    if edits:
        yield edited(view, "squeezed", edits)


def _english_squeezed(word: str) -> str:
    """A word with its runs reduced to one or two letters so that it becomes an English word; "" when none does."""
    runs = _RUN.findall(word)
    if not 0 < len(runs) <= _MOST_RUNS:
        return ""
    candidates = [_with_runs(word, counts) for counts in itertools.product((1, 2), repeat=len(runs))]
    common = next(filter(is_common_word, candidates), "")
    return common or next(filter(is_word, candidates), "")


def _with_runs(word: str, counts: Sequence[int]) -> str:
    """A word with its runs reduced to so many letters each."""
    keep = iter(counts)
    return _RUN.sub(lambda run: run[1] * next(keep), word)
