"""The typed policy: what a YAML pack means. Loading is in `policy.loading`."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from guardrails.domain.findings import Action
from guardrails.domain.requests import PolicyRef
from guardrails.policy.semantics import Semantics


class Mode(enum.Enum):
    """Whether a rule counts: OFF is not run, SHADOW is recorded and changes nothing, ENFORCE decides."""

    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"

    @property
    def rank(self) -> int:
        """The order from loose to strict."""
        return list(Mode).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Days from `start` until `end`, both included; "" is open. ISO 8601 dates, UTC."""

    start: str = ""
    end: str = ""

    def holds(self, day: datetime.date) -> bool:
        """Whether the day lies inside."""
        written = day.isoformat()
        return (not self.start or self.start <= written) and (not self.end or written <= self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A named period in one jurisdiction, for example an election; jurisdiction "" is everywhere."""

    name: str
    period: Period
    jurisdiction: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryQuery:
    """Which rows of a registry a rule speaks about.

    Attributes:
        registries: names of registries of the policy.
        roles: any of these; empty means every role. A role is read as of the day of the decision: an office that
            is over becomes "former_<role>".
        living: "yes" for those known to live, "no" for those known to be dead, "maybe" for all but the dead,
            "" for everyone.
    """

    registries: tuple[str, ...]
    roles: tuple[str, ...] = ()
    living: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRef:
    """A registry file that the policy uses.

    Attributes:
        path: where it lies on this machine; not part of the policy's digest.
        digest: SHA-256 of its text.
    """

    name: str
    path: str
    digest: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRule:
    """Terms that must not, or must only in some context, stand in a prompt.

    Word lists (terms, requires, unless, benign_phrases) hold lower-case words and phrases, stems that end in ``*``,
    and RE2 patterns that begin with ``re:``.

    Attributes:
        message: one sentence for the person who asked; "{words}" stands for the words that were found.
        messages: the same in other languages, by ISO 639-1 code.
        terms: matched on token boundaries in every normalised view.
        names_from: rows of registries whose names are terms too.
        requires: groups of cues; the rule speaks only when each group has a hit anywhere in the prompt.
        unless: cues that silence the rule when `severity` is at most `unless_severity`.
        severity: 1 (mild) .. 4 (never).
        rewrite: replacement text for REWRITE rules; "{style}" stands for the registry's words for the artist.
        rewrites: replacements of single terms, where they differ.
        negative_prompt: also applied to the negative prompt (names and hard rules only).
        names: the terms are names: punctuation between their words stops a match ("Jordan, Peele Street").
        fuzzy: terms with one wrong letter are found too; such a find only flags.
        window: name of a group of windows outside of which the rule is silent; "" means always.
        jurisdictions: ISO 3166 codes the rule is for; empty means everywhere.
        match_examples: prompts on which the rule must speak; `policy check` wants at least two.
        pass_examples: near misses on which it must keep silent; at least two.
    """

    id: str
    category: str
    action: Action
    severity: int
    message: str
    terms: tuple[str, ...]
    messages: Mapping[str, str] = field(default_factory=dict)
    names_from: RegistryQuery | None = None
    requires: tuple[tuple[str, ...], ...] = ()
    unless: tuple[str, ...] = ()
    unless_severity: int = 2
    benign_phrases: tuple[str, ...] = ()
    rewrite: str = ""
    rewrites: Mapping[str, str] = field(default_factory=dict)
    negative_prompt: bool = False
    names: bool = False
    fuzzy: bool = True
    mode: Mode = Mode.ENFORCE
    window: str = ""
    jurisdictions: tuple[str, ...] = ()
    effective: Period = Period()
    match_examples: tuple[str, ...] = ()
    pass_examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRule:
    """What happens to a prompt in a language that the word lists do not cover.

    Attributes:
        supported: ISO 639-1 codes of the languages whose words the lists hold.
    """

    id: str
    action: Action
    message: str
    supported: tuple[str, ...]


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
        state: "strict", "confirmed", "review" or "candidate": the least certain match that the rule acts on.
        reservation: "opt-out" to act on reserved works only; "any" for every work.
        licences: SPDX identifiers or terms ("share-alike", see `domain.rights.Terms`) of the works that the rule acts
            on; empty for every licence.
        credit: the manifest names the work and its creator.
        redraw: how often another picture is drawn, from another seed, before a rule that holds back has its way; never
            for a request that names its seed.
    """

    id: str
    category: str
    action: Action
    message: str
    state: str
    reservation: str
    when_unavailable: Action
    licences: tuple[str, ...] = ()
    credit: bool = True
    redraw: int = 0


LATENT_MARKS = ("always", "unseeded", "never")
"""When the noise carries the id, from strict to loose."""


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
    """A prompt and the action that the policy promises for it.

    Attributes:
        on: ISO date of the decision, or "" for any day outside of every window.
        jurisdiction: of the request, or "".
    """

    prompt: str
    expect: Action
    negative_prompt: str = ""
    on: str = ""
    jurisdiction: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loosening:
    """A change that makes an inherited rule milder; it cannot be made without a reason and a name.

    Attributes:
        what: the loosened fields, for example "action block -> review".
    """

    rule: str
    what: str
    reason: str
    approver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One loaded pack, with everything that it inherits. An empty policy (no prompt and no screen rule) is invalid.

    Attributes:
        digest: SHA-256 of the canonical form of everything below, hexadecimal. The lineage, the paths of registries
            and the signature do not count: what decides does.
        prompt_limit: characters; longer prompts are refused before matching.
        windows: named groups of periods, for example "election".
        lineage: the packs that this one extends, nearest first.
        loosened: what this pack and its parents made milder, and why.
        signature: of the digest, as `policy.signing` writes it; "" when unsigned.
        semantics: what is looked for by meaning, or None for word rules alone.
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
    windows: Mapping[str, tuple[Window, ...]] = field(default_factory=dict)
    registries: tuple[RegistryRef, ...] = ()
    language_rule: LanguageRule | None = None
    lineage: tuple[PolicyRef, ...] = ()
    loosened: tuple[Loosening, ...] = ()
    signature: str = ""
    semantics: Semantics | None = None

    @property
    def ref(self) -> PolicyRef:
        return PolicyRef(id=self.id, version=self.version, digest=self.digest, signature=self.signature)
