from __future__ import annotations

import pytest

from guardrails.domain.rights import Terms, terms_of
from guardrails.errors import PolicyError
from guardrails.policy.loading import parse_policy

RULE = """\
similarity_rules:
  - id: SIM-1
    category: copyright
    action: {action}
    state: {state}
    reservation: any
    when_unavailable: flag
    message: seen
    {more}
"""


def load(pack: str, action: str = "block", state: str = "confirmed", more: str = ""):
    rule = RULE.format(action=action, state=state, more=more)
    return parse_policy(pack.replace("similarity_rules: []\n", rule).encode(), source="p.yaml").similarity_rules[0]


@pytest.mark.parametrize("state", ["strict", "confirmed", "review", "candidate"])
def test_a_rule_names_the_least_sure_match_that_it_acts_on(pack, state):
    assert load(pack, state=state).state == state


def test_a_rule_credits_and_does_not_draw_again_unless_it_says_so(pack):
    rule = load(pack)
    assert (rule.credit, rule.redraw, rule.licences) == (True, 0, ())
    rule = load(pack, more="licences: [share-alike, CC-BY-4.0]\n    credit: false\n    redraw: 3")
    assert (rule.credit, rule.redraw, rule.licences) == (False, 3, ("share-alike", "CC-BY-4.0"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"more": "licences: [CC-BYE]"}, "the licence `CC-BYE` is not known"),
        ({"more": "redraw: 99"}, "99 is out of range"),
        ({"more": "redraw: 2", "action": "flag"}, "without an action that holds back"),
        ({"more": "credit: false", "action": "allow"}, "credits nobody"),
        ({"state": "certain"}, "`certain` is not known"),
    ],
)
def test_rules_that_would_do_nothing_or_without_end_are_refused(pack, words, message):
    with pytest.raises(PolicyError, match=message):
        load(pack, **words)


@pytest.mark.parametrize(
    ("licence", "terms"),
    [
        ("CC0-1.0", Terms.PUBLIC_DOMAIN),
        ("MIT", Terms.PERMISSIVE),
        ("Apache-2.0", Terms.PERMISSIVE),
        ("CC-BY-4.0", Terms.ATTRIBUTION),
        ("CC-BY-SA-3.0", Terms.SHARE_ALIKE),
        ("GPL-3.0-or-later", Terms.SHARE_ALIKE),
        ("CC-BY-NC-SA-4.0", Terms.RESTRICTED),
        ("CC-BY-ND-4.0", Terms.RESTRICTED),
        ("", Terms.UNKNOWN),
        ("free", Terms.UNKNOWN),
        ("mit", Terms.UNKNOWN),
    ],
)
def test_terms_of_licences(licence, terms):
    assert terms_of(licence) is terms
