"""Whether a text is a heap of rare and broken words, as attacks on text encoders are.

Searched-for strings (MMA-Diffusion, arXiv 2311.17516; P4D, arXiv 2309.06135; Ring-A-Bell, arXiv 2310.10012) steer the
encoder of a pipeline and hold hardly a common word. So do lists of tags and names, which are harmless: the cue counts
only together with a score, at a threshold that is calibrated for the two together.
"""

from __future__ import annotations

import re

from guardrails.policy.vocabulary import is_common_word

_WORD = re.compile(r"[^\W\d_]+")
_SHORTEST_WORD = 3
_FEWEST_WORDS = 5
# One real Stable Diffusion prompt in eight holds so few common words, and no caption in a hundred.
_SHARE = 0.6


def is_garbled(text: str) -> bool:
    """Whether most words of a text of five words or more are not among the 5,000 most frequent English ones."""
    words = [word.casefold() for word in _WORD.findall(text) if len(word) >= _SHORTEST_WORD]
    return len(words) >= _FEWEST_WORDS and sum(not is_common_word(word) for word in words) >= _SHARE * len(words)
