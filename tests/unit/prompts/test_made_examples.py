"""Prompts made for training: telling words only where they belong."""

from __future__ import annotations

from guardrails.domain.findings import Action
from guardrails.policy import load_policy
from guardrails.prompts.garbling import is_garbled
from guardrails.prompts.made_examples import CAPTIONS, HEAPS, made_examples, telling_terms

TERMS = {"sexual": ["nude", "topless dancer"], "violence": ["gore"]}


def test_one_seed_makes_one_set() -> None:
    assert made_examples(TERMS, 3) == made_examples(TERMS, 3)
    assert made_examples(TERMS, 3) != made_examples(TERMS, 4)


def test_every_term_stands_in_a_caption_of_its_category() -> None:
    captions = [one for one in made_examples(TERMS, 0) if one.source == CAPTIONS]
    for category, words in TERMS.items():
        for word in words:
            assert any(word in one.text and one.categories == (category,) for one in captions)


def test_a_heap_holds_a_telling_word_among_broken_ones() -> None:
    heaps = [one for one in made_examples(TERMS, 0) if one.source == HEAPS]
    assert all(one.is_unsafe and any(word in one.text for word in TERMS[one.topic]) for one in heaps)
    # That is what the rule for broken words looks at.
    assert sum(is_garbled(one.text) for one in heaps) > 0.8 * len(heaps) > 0


def test_telling_terms_need_no_context() -> None:
    policy = load_policy("default")
    terms = telling_terms(policy, {"sexual", "violence"})
    assert set(terms) == {"sexual", "violence"}
    spoken = {term for rule in policy.prompt_rules if rule.action >= Action.REVIEW for term in rule.terms}
    assert {term for words in terms.values() for term in words} <= spoken
    assert all(term.isascii() and "*" not in term and ":" not in term for words in terms.values() for term in words)


def test_without_terms_nothing_is_made() -> None:
    assert made_examples({}, 0) == []
