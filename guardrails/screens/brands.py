"""Whether words that were read in a picture are a brand's mark. Pure text: no picture, no OCR.

A brand must be there as a whole: "Gettysburg" holds the letters of an agency and is a town. Misread letters are
forgiven in long words only, and never towards a word that the pack lists as easily mistaken. In a name of several words
each must be there by itself, joined or apart: "picture allowance" shares most letters with an agency, and is none. A
gap too many is forgiven, or misread letters, not both: "shutter lock" is two words. An English word is no misread name:
"masterful".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from guardrails.policy.vocabulary import is_word

# Up to this length one wrong letter makes another word: "alamo" is not "alamy".
EXACT_LENGTH = 8
LEAST_RATIO = 0.84
# Letters that a misread word may have too many or too few, and that may be cut off a name.
MOST_ASTRAY = 2
HINT_RATIO = 0.55
# Pieces of a name that is tiled over a picture: this many must be read before they count as one mark.
FRAGMENT_VOTES = 3
FRAGMENT_SHARE = 0.5
FRAGMENT_LENGTH = 5
# Letters that a long name must be repeated by before that makes it a tiled one.
LEAST_REPEATED = 3
MOST_JOINED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One line of text that was read, with its place in the picture.

    Attributes:
        confidence: of the reader, 0..1.
        box: left, top, right, bottom in pixels.
    """

    text: str
    confidence: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrandMatch:
    """A brand that was found.

    Attributes:
        ratio: likeness of the letters, 0..1 (Ratcliff and Obershelp), times the reader's confidence.
        votes: in how many places.
        box: of the best place.
    """

    brand: str
    read: str
    ratio: float
    votes: int
    box: tuple[int, int, int, int]


def letters(text: str) -> str:
    """Lower-case letters and digits alone."""
    return "".join(char for char in text.casefold() if char.isalnum())


def find_brands(words: Sequence[Word], brands: Iterable[str], mistaken: Iterable[str] = ()) -> list[BrandMatch]:
    """Brands among words, the surest first.

    Args:
        brands: as written, for example "getty images".
        mistaken: words that are not marks however like one they look.
    """
    harmless = tuple(letters(word) for word in mistaken)
    candidates = [pair for line in _joined_lines(words) for pair in _candidates(line)]
    found = []
    for brand in brands:
        parts = tuple(letters(part) for part in brand.split())
        name = "".join(parts)
        # Words of a short name are not put together from pieces: "a lamy pen".
        own = [one for one in candidates if one[2] <= len(parts) or len(name) > EXACT_LENGTH]
        whole = [
            (ratio * word.confidence, text, word.box)
            for text, word, tokens in own
            if (ratio := likeness(text, parts, harmless, forgiving=tokens <= len(parts))) > 0
        ]
        pieces = [(text, word) for text, word, _ in own if is_fragment(text, name) and text not in harmless]
        places = {word.box for _, word in pieces}
        if whole:
            ratio, text, box = max(whole)
            votes = len({place for _, _, place in whole})
        elif len(places) >= FRAGMENT_VOTES:
            text, word = max(pieces, key=lambda pair: len(pair[0]))
            ratio, votes, box = len(text) / len(name), len(places), word.box
        else:
            continue
        found.append(BrandMatch(brand=brand, read=text, ratio=round(ratio, 4), votes=votes, box=box))
    return sorted(found, key=lambda match: (-match.ratio, match.brand))


def hints(words: Sequence[Word], brands: Iterable[str]) -> list[Word]:
    """Words that are so much like a brand that their place is worth a second, closer look."""
    names = [letters(brand) for brand in brands]
    found = []
    for word in words:
        text = letters(word.text)
        if len(text) >= FRAGMENT_LENGTH and any(_ratio(text, name) >= HINT_RATIO for name in names):
            found.append(word)
    return found


def likeness(text: str, parts: Sequence[str], harmless: Sequence[str], *, forgiving: bool = True) -> float:
    """How much a candidate is a brand: 1 for the same letters, 0 when it is too little like it to count.

    Args:
        parts: the letters of each word of the brand.
        forgiving: whether letters may be misread or cut off at all, because there are no more gaps than in the brand.
    """
    name = "".join(parts)
    # "colour box" is harmless, "colourbox" is not.
    if text in harmless and not (text == name and forgiving):
        return 0.0
    if text == name or is_run(text, name):
        return 1.0
    if not forgiving or not (_reads_as(text, parts) or _is_cut(text, name)):
        return 0.0
    ratio = _ratio(text, name)
    return 0.0 if any(_ratio(text, word) > ratio for word in harmless) else ratio


def _reads_as(text: str, parts: Sequence[str]) -> bool:
    """Whether a text falls into pieces that are the words of a brand, one by one."""
    first, *rest = parts
    if not rest:
        return _is_word(text, first)
    ends = range(max(1, len(first) - MOST_ASTRAY), len(first) + MOST_ASTRAY + 1)
    return any(_is_word(text[:end], first) and _reads_as(text[end:], rest) for end in ends)


def _is_cut(text: str, name: str) -> bool:
    """Whether a text is a long name whose last letters are covered or faded."""
    return len(name) > EXACT_LENGTH and 0 < len(name) - len(text) <= MOST_ASTRAY and name.startswith(text)


def _is_word(text: str, word: str) -> bool:
    """Whether a text is a word, letters misread in a long one aside."""
    if len(word) <= EXACT_LENGTH or abs(len(text) - len(word)) > MOST_ASTRAY:
        return text == word
    return text == word or (_ratio(text, word) >= LEAST_RATIO and not is_word(text))


def _ratio(text: str, name: str) -> float:
    return difflib.SequenceMatcher(None, text, name, autojunk=False).ratio()


def is_run(text: str, name: str) -> bool:
    """Whether a text is a brand that is written over and over without a gap, from any letter on. The last letters of a
    long name may be covered by the next one's first."""
    if len(name) <= EXACT_LENGTH:
        return len(text) >= 2 * len(name) and _repeats(text, name)
    covered = [name[: len(name) - letters] for letters in range(MOST_ASTRAY + 1)]
    return any(len(text) >= len(period) + LEAST_REPEATED and _repeats(text, period) for period in covered)


def _repeats(text: str, period: str) -> bool:
    return text in period * (len(text) // len(period) + 2)


def is_fragment(text: str, name: str) -> bool:
    """Whether a candidate is a large piece of a brand."""
    long_enough = len(text) >= max(FRAGMENT_LENGTH, FRAGMENT_SHARE * len(name))
    return long_enough and text != name and text in name


def _candidates(line: Sequence[Word]) -> Iterable[tuple[str, Word, int]]:
    """Tokens of one line, alone and joined with their neighbours, and how many were joined."""
    tokens = [(letters(token), word) for word in line for token in word.text.split()]
    tokens = [(token, word) for token, word in tokens if token]
    for start in range(len(tokens)):
        for end in range(start + 1, min(start + MOST_JOINED, len(tokens)) + 1):
            yield "".join(token for token, _ in tokens[start:end]), tokens[start][1], end - start


def _joined_lines(words: Sequence[Word]) -> Iterable[list[Word]]:
    """Words that stand beside each other, from left to right."""
    rest = sorted(words, key=lambda word: (word.box[0], word.box[1]))
    while rest:
        line = [rest.pop(0)]
        for word in list(rest):
            if _follows(line[-1], word):
                line.append(word)
                rest.remove(word)
        yield line


def _follows(left: Word, right: Word) -> bool:
    height = max(left.box[3] - left.box[1], right.box[3] - right.box[1])
    middle = abs((left.box[1] + left.box[3]) - (right.box[1] + right.box[3])) / 2
    return middle < height / 2 and -height / 2 < right.box[0] - left.box[2] < height
