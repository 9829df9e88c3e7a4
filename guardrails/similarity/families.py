"""Work families: variants of one drawing by one hand, told by creator and name.

Skin tones, genders, directions, flags, clock times, moon phases and coloured shapes are one design each. A picture that
repeats one of them agrees with all of them; which one it came from is a matter of colour or of a few tiles.
"""

from __future__ import annotations

from guardrails.similarity.entries import Entry

_SKIN = frozenset({"light", "medium", "dark", "medium-light", "medium-dark", "skin", "tone"})
_PEOPLE = frozenset({"man", "woman", "person", "men", "women", "people", "boy", "girl", "child"})
_DIRECTIONS = frozenset({"facing", "right", "left", "upwards", "downwards"})
_COLOURS = frozenset(
    {"red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey", "gray", "pink"}
)
_SIZES = frozenset({"large", "small", "medium-small"})
_PHASES = frozenset({"waxing", "waning", "crescent", "gibbous", "first", "last", "quarter", "full", "new"})
_VARIANTS = _SKIN | _PEOPLE | _DIRECTIONS | _COLOURS | _SIZES | _PHASES
_HOURS = frozenset({"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"})
_SERIES = {"flag:": "flag", "keycap:": "keycap", "clock": "clock"}


def family_of(entry: Entry) -> tuple[str, str]:
    """The creator and what is left of the title when the words of variants are dropped.

    Two entries are of one family when these are equal.
    """
    words = entry.title.lower().replace(",", " ").replace("’", "'").split()  # noqa: RUF001
    return entry.rights.creator, _series(words) or " ".join(_without_variants(words))


def _series(words: list[str]) -> str:
    """The series of a title such as "flag: Malta", "two o'clock" or "two-thirty"; "" for others."""
    if not words:
        return ""
    hour = words[0].removesuffix("-thirty")
    if hour in _HOURS and (words[0].endswith("-thirty") or words[1:] == ["o'clock"]):
        return _SERIES["clock"]
    return _SERIES.get(words[0], "")


def _without_variants(words: list[str]) -> list[str]:
    kept = [word for word in words if word.strip(":") not in _VARIANTS]
    # A name made of such words alone, for example "white circle" without its noun, stays as it is.
    return [word.strip(":") for word in (kept or words)]
