"""Ordinary English words: what is one is not taken for a misspelt or scrambled term."""

from __future__ import annotations

import functools
import gzip

from guardrails.resources import policies_path


@functools.cache
def _words() -> tuple[frozenset[str], frozenset[str]]:
    """The most common words, and all words."""
    text = gzip.decompress(policies_path("words", "english.txt.gz").read_bytes()).decode("ascii")
    common, _, rest = text.partition("\n\n")
    frequent = frozenset(common.split("\n"))
    return frequent, frequent.union(rest.split("\n"))


@functools.cache
def first_names() -> frozenset[str]:
    """Words that many people have as a first name, whatever else they mean."""
    lines = policies_path("words", "first-names.txt").read_text(encoding="ascii").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def is_word(word: str) -> bool:
    """Whether a lower-case word is an ordinary English one."""
    return len(word) == 1 or word in _words()[1]


def is_common_word(word: str) -> bool:
    """Whether a lower-case word is among the 5,000 most frequent English ones."""
    return word in _words()[0]


@functools.cache
def rare_words() -> tuple[str, ...]:
    """English words that are not among the 5,000 most frequent ones, sorted."""
    common, every = _words()
    return tuple(sorted(every - common))
