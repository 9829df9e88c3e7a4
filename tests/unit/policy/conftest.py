"""A small valid pack that tests break in one place."""

from __future__ import annotations

import pytest

PACK = """\
api_version: policy/v1
id: tiny
version: "1"
description: for tests
prompt_rules:
  - id: R-1
    category: violence
    action: block
    severity: 3
    message: "Found: {words}"
    terms: [gore, Blood  Bath]
screen_rules:
  - id: S-1
    category: sexual
    action: block
    screen: open-nsfw
    concept: nsfw
    threshold: 0.5
    error_rate: 3 of 232
    when_unavailable: block
    message: seen
similarity_rules: []
watermark_rule: {id: W-1, not_robust: flag, message: weak}
tests:
  - {prompt: a tree, expect: allow}
"""


@pytest.fixture
def pack() -> str:
    return PACK
