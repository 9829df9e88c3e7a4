"""The typed policy: what a YAML pack means. Loading is in `policy.loading`."""

from __future__ import annotations

from dataclasses import dataclass

from guardrails.domain.findings import Action
from guardrails.domain.requests import PolicyRef


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRule:
    """Terms that must not, or must only in some context, stand in a prompt.

    Attributes:
        message: one sentence for the person who asked; "{words}" stands for the words that were found.
        terms: lower-case words or phrases, matched on token boundaries in every normalised view.
        requires: groups of cue terms; the rule speaks only when each group has a hit anywhere in the prompt.
        unless: cue terms that silence the rule when `severity` is at most `unless_severity`.
        severity: 1 (mild) .. 4 (never).
        rewrite: replacement text for REWRITE rules.
        negative_prompt: also applied to the negative prompt (names and hard rules only).
        names: the terms are names: punctuation between their words stops a match ("Jordan, Peele Street").
        match_examples: prompts on which the rule must speak; `policy check` wants at least two.
        pass_examples: near misses on which it must keep silent; at least two.
    """

    id: str
    category: str
    action: Action
    severity: int
    message: str
    terms: tuple[str, ...]
    requires: tuple[tuple[str, ...], ...] = ()
    unless: tuple[str, ...] = ()
    unless_severity: int = 2
    benign_phrases: tuple[str, ...] = ()
    rewrite: str = ""
    negative_prompt: bool = False
    names: bool = False
    match_examples: tuple[str, ...] = ()
    pass_examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenRule:
    """A threshold on one score of one screen.

    Attributes:
        screen, concept: for example "open-nsfw", "nsfw".
        threshold: score at or above which the rule speaks; higher is worse.
        error_rate: stated false-positive rate with n and bound, as text.
        when_unavailable: the action when the screen did not run or failed.
    """

    id: str
    category: str
    action: Action
    message: str
    screen: str
    concept: str
    threshold: float
    error_rate: str
    when_unavailable: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityRule:
    """What follows from a match in the rights-bearing index.

    Attributes:
        state: "confirmed" or "candidate": the least certain match that the rule acts on.
        reservation: "opt-out" to act on reserved works only; "any" for every work.
    """

    id: str
    category: str
    action: Action
    message: str
    state: str
    reservation: str
    when_unavailable: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class WatermarkRule:
    """What happens when a picture cannot carry a robust mark (it always must carry a readable one).

    Attributes:
        latent: when pictures are drawn from noise that carries their id as well, where the model allows it: "always",
            "unseeded" (not when the request names a seed, whose picture would then be another one each time) or
            "never".
    """

    id: str
    not_robust: Action
    message: str
    latent: str = "unseeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTest:
    """A prompt and the action that the policy promises for it."""

    prompt: str
    expect: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One loaded pack. An empty policy (no prompt rule, no screen rule) is invalid.

    Attributes:
        digest: SHA-256 of the canonical form of everything below, hexadecimal.
        prompt_limit: characters; longer prompts are refused before matching.
    """

    id: str
    version: str
    digest: str
    description: str
    prompt_limit: int
    prompt_rules: tuple[PromptRule, ...]
    screen_rules: tuple[ScreenRule, ...]
    similarity_rules: tuple[SimilarityRule, ...]
    watermark_rule: WatermarkRule
    tests: tuple[PolicyTest, ...]

    @property
    def ref(self) -> PolicyRef:
        return PolicyRef(id=self.id, version=self.version, digest=self.digest)
