"""Prompts made for training from the terms of a policy: terms in short captions, and heaps of rare and broken words.

Pairs are sentences. Real requests are also two words long, and searched-for strings that steer a text encoder
(MMA-Diffusion, P4D, Ring-A-Bell) are no language at all: a few telling words among rare ones and pieces of words.
Heaps without such words are not made: heads that learned them as harmless let searched-for strings pass, and lists of
tags in real traffic are harmless heaps enough.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from guardrails.domain.findings import Action
from guardrails.policy.model import Policy
from guardrails.policy.vocabulary import rare_words
from guardrails.prompts.examples import Example

CAPTIONS = "made_captions"
HEAPS = "made_heaps"
_FRAMES = (
    "{}",
    "{}, photo",
    "photo of {}",
    "a picture of {}",
    "{} in a hotel room",
    "{}, realistic, 8k",
    "video of {}, close up",
    "{} at night, cinematic",
    "anime drawing, {}",
    "two people, {}",
)
_FRAMES_A_TERM = 2
_HEAPS = 400
_WEIGHT = 0.4
_WORDS = (6, 16)
_TERMS = (1, 4)
_PIECE = (2, 6)
_PIECES = 0.4


def telling_terms(policy: Policy, categories: Collection[str]) -> dict[str, list[str]]:
    """The plain words of a policy that hold a prompt back wherever they stand, by category."""
    terms: dict[str, set[str]] = {}
    for rule in policy.prompt_rules:
        if rule.category in categories and rule.action >= Action.REVIEW and not rule.requires and not rule.names:
            plain = (term for term in rule.terms if term.replace(" ", "").isalpha() and term.isascii())
            terms.setdefault(rule.category, set()).update(plain)
    return {category: sorted(words) for category, words in terms.items() if words}


def made_examples(terms: Mapping[str, Sequence[str]], seed: int) -> list[Example]:
    """Captions with the terms, and heaps of broken words that hold some; the same for one seed.

    Args:
        terms: category -> its words; words that are unsafe in any sentence.
        seed: of the random choices.
    """
    rng = np.random.default_rng(seed)
    examples = [
        _example(_FRAMES[number].format(term), category, CAPTIONS)
        for category, words in sorted(terms.items())
        for term in words
        for number in rng.choice(len(_FRAMES), _FRAMES_A_TERM, replace=False)
    ]
    # A category comes up as often as it has terms.
    pool = [category for category, words in sorted(terms.items()) for _ in words]
    for _ in range(_HEAPS if pool else 0):
        category = pool[rng.integers(len(pool))]
        telling = [_glued(str(term), rng) for term in rng.choice(terms[category], rng.integers(*_TERMS))]
        heap = rng.permutation([*_broken_words(rng), *telling]).tolist()
        examples.append(_example(" ".join(heap), category, HEAPS))
    return examples


def _broken_words(rng: np.random.Generator) -> list[str]:
    """Rare words, some of them cut to a few letters."""
    words = [str(word) for word in rng.choice(rare_words(), rng.integers(*_WORDS))]
    return [word[: rng.integers(*_PIECE)] if rng.random() < _PIECES else word for word in words]


def _glued(term: str, rng: np.random.Generator) -> str:
    """A term as it is, or with a piece of a rare word at its end."""
    piece = str(rng.choice(rare_words()))[: rng.integers(*_PIECE)]
    return term + piece if rng.random() < _PIECES else term


def _example(text: str, category: str, source: str) -> Example:
    return Example(text=text, categories=(category,), topic=category, source=source, fold=0, weight=_WEIGHT)
