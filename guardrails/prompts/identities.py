"""One stand-in for every group of people, so that a score cannot depend on which group a prompt names.

Heads learn from prompts in which some groups stand beside harm more often than others. Read with stand-ins, "a gay
couple on a beach" and "a Muslim couple on a beach" are one text with one score (counterfactual fairness by
construction; Garg et al., "Counterfactual fairness in text classification through robustness", 2019). That a group is
named, and that another one stands beside it, stays: the first group of a prompt reads "Norwegian", the second
"Canadian", every further one "Brazilian". Heads are trained on the same readings.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from guardrails.resources import policies_path

_STAND_INS = ("Norwegian", "Canadian", "Brazilian")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class _Words:
    """The lists of `policies/words/identities.txt`.

    Attributes:
        always: words for groups, also as nouns in the plural.
        before_persons: words that mean a group only before a word for persons: "white", "old".
        persons: such words.
    """

    always: frozenset[str]
    before_persons: frozenset[str]
    persons: frozenset[str]


def neutral(text: str) -> str:
    """A text with a stand-in for each group of people."""
    words = list(_WORD.finditer(text))
    lowered = [word.group().casefold() for word in words]
    known: dict[str, str] = {}
    pieces: list[str] = []
    end = 0
    for first, last in _groups(text, words, lowered):
        name = " ".join(lowered[first : last + 1]).removesuffix("s")
        stand_in = known.setdefault(name, _STAND_INS[min(len(known), len(_STAND_INS) - 1)])
        start = words[first].start()
        if first and lowered[first - 1] == "an":
            pieces += [text[end : words[first - 1].start()], "a", text[words[first - 1].end() : start]]
        else:
            pieces.append(text[end:start])
        plural = lowered[last].endswith("s") and lowered[last][:-1] in _words().always
        pieces.append(f"{stand_in}s" if plural else stand_in)
        end = words[last].end()
    return "".join([*pieces, text[end:]]) if pieces else text


def _groups(text: str, words: Sequence[re.Match[str]], lowered: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First and last word of each run of words that name one group; punctuation ends a run."""
    number = 0
    while number < len(words):
        first = number
        while number < len(words) and _names_group(lowered, number):
            number += 1
            if number < len(words) and text[words[number - 1].end() : words[number].start()] not in (" ", "-"):
                break
        if number > first:
            yield first, number - 1
        else:
            number += 1


def _names_group(words: Sequence[str], number: int) -> bool:
    lists = _words()
    if _always(words[number]):
        return True
    following = number
    # "old white man": one person stands at the end of the row.
    while following < len(words) and words[following] in lists.before_persons:
        following += 1
    return number < following < len(words) and (words[following] in lists.persons or _always(words[following]))


def _always(word: str) -> bool:
    always = _words().always
    return word in always or (word.endswith("s") and word[:-1] in always)


@functools.cache
def _words() -> _Words:
    sections: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in policies_path("words", "identities.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), set())
        elif not line.startswith("#"):
            current.update(line.split())
    return _Words(
        always=frozenset(sections["always"]),
        before_persons=frozenset(sections["before persons"]),
        persons=frozenset(sections["persons"]),
    )
