"""Terms of the default pack are found in the disguises that people use; nothing else is found there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guardrails.policy import default_policy
from guardrails.prompts.matching import Role, TermIndex
from guardrails.prompts.views import views_of

LEET = str.maketrans("aeiost", "431057")
CYRILLIC = str.maketrans("aceopxyiks", "асеорхуікѕ")
GREEK = str.maketrans("aeiknopuvxy", "αεικηορυνχγ")
FULL_WIDTH = {code: code + 0xFEE0 for code in range(33, 127)}
BOLD = {ord("a") + n: 0x1D41A + n for n in range(26)}


def per_word(join: Callable[[str], str]) -> Callable[[str], str]:
    return lambda term: " ".join(join(word) for word in term.split())


ATTACKS: dict[str, tuple[Callable[[str], str], float]] = {
    "as written": (str, 1.0),
    "upper case": (str.upper, 1.0),
    "leet": (lambda t: t.translate(LEET), 0.94),
    "zero-width": ("\u200b".join, 1.0),
    "soft hyphen": ("\u00ad".join, 1.0),
    "strike-through": (lambda t: "".join(c + "\u0336" for c in t), 1.0),
    "enclosing circles": (per_word(lambda w: "".join(c + "\u20dd" for c in w)), 1.0),
    "HTML entities": (per_word(lambda w: "".join(f"&#{ord(c)};" for c in w)), 1.0),
    "Cyrillic": (lambda t: t.translate(CYRILLIC), 0.99),
    "Greek": (lambda t: t.translate(GREEK), 0.99),
    "mathematical bold": (lambda t: t.translate(BOLD), 1.0),
    "full width": (lambda t: t.translate(FULL_WIDTH), 1.0),
    "spaced": (lambda t: "  ".join(" ".join(word) for word in t.split()), 0.99),
    "dotted": (per_word(".".join), 0.99),
    "hyphened": (per_word("-".join), 0.99),
    "emoji between": (per_word("🔥".join), 0.99),
    "repeated vowels": (lambda t: "".join(c * 4 if c in "aeiou" else c for c in t), 0.93),
    "without blanks": (lambda t: t.replace(" ", ""), 0.95),
    "weight inside": (lambda t: f"{t[: len(t) // 2]}({t[len(t) // 2 :]}:1.2)", 1.0),
    "underscores": (lambda t: t.replace(" ", "_"), 1.0),
}

POLICY = default_policy()
INDEX = TermIndex(POLICY.prompt_rules)
TERMS = sorted({term for rule in POLICY.prompt_rules for term in rule.terms if len(term) >= 4 and term.isascii()})
# What stands in for the term in the control prompt: a word that is in no list.
NEUTRAL = "porcelain teapot"


def found(text: str) -> set[str]:
    hits = INDEX.find(views_of(f"a picture with {text} near the harbour"))
    return {hit.use.term for hit in hits if hit.use.role is Role.TERM}


@pytest.mark.parametrize("name", ATTACKS)
def test_recall_of_disguised_terms(name: str) -> None:
    disguise, expected = ATTACKS[name]
    caught = sum(term in found(disguise(term)) for term in TERMS)
    assert caught / len(TERMS) >= expected
    assert found(disguise(NEUTRAL)) == set()
