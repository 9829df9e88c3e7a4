"""Every category of ours has its row, and what the rows name exists in the other schemes."""

from __future__ import annotations

from guardrails.policy import default_policy, load_policy
from guardrails.policy.taxonomy import SCHEMES, load_taxonomy

OPENAI = {
    "sexual",
    "sexual/minors",
    "hate",
    "hate/threatening",
    "harassment",
    "harassment/threatening",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "violence",
    "violence/graphic",
    "illicit",
    "illicit/violent",
}
MLCOMMONS = {
    "vcr",
    "src",
    "cse",
    "ssh",
    "iwp",
    "ipv",
    "dfm",
    "ncr",
    "hte",
    "prv",
    "spc_ele",
    "spc_fin",
    "spc_hlt",
    "spc_lgl",
    "sxc_prn",
}
OVERT = {
    "privacy_individual",
    "privacy_public",
    "copyright_violations",
    "self_harm",
    "sexual_content",
    "illegal_activities",
    "unethical_unsafe_action",
    "discrimination",
    "violence",
}


def test_every_category_of_the_shipped_packs_is_in_the_table() -> None:
    for policy in (default_policy(), load_policy("example-jurisdiction")):
        rules = (*policy.prompt_rules, *policy.screen_rules, *policy.similarity_rules)
        assert {rule.category for rule in rules} <= load_taxonomy().keys()


def test_the_rows_name_what_exists() -> None:
    table = load_taxonomy()
    for category in table.values():
        assert set(category.openai) <= OPENAI
        assert set(category.mlcommons) <= MLCOMMONS
        assert set(category.overt) <= OVERT
        assert all(name.startswith("STATEMENT_CATEGORY_") for name in category.dsa)


def test_every_category_of_the_benchmark_is_reached() -> None:
    assert {name for category in load_taxonomy().values() for name in category.overt} == OVERT


def test_the_schemes_are_columns() -> None:
    assert all(isinstance(getattr(load_taxonomy()["sexual"], scheme), tuple) for scheme in SCHEMES)
