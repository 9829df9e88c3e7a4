"""Packs that extend others: what is inherited can be made stricter freely, and milder only with a reason and a name.

A child adds rules, which can only make decisions stricter, because a decision is the maximum over all rules. What it
changes about an inherited rule stands under `adjust:`; each change is either a tightening or a loosening.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guardrails.domain.findings import Action
from guardrails.domain.requests import PolicyRef
from guardrails.policy.fields import Fields, one_of, text_of
from guardrails.policy.model import (
    LATENT_MARKS,
    LanguageRule,
    Loosening,
    Mode,
    Policy,
    PromptRule,
    RegistryRef,
    ScreenRule,
    SimilarityRule,
    WatermarkRule,
    Window,
)
from guardrails.policy.rule_reading import ACTIONS, IMAGE_ACTIONS, word_of
from guardrails.policy.semantics import SEMANTIC_ACTIONS, SemanticRule, Semantics, joined_semantics
from guardrails.policy.yamlio import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """What one or several packs hand down; also the child's own part before the two are put together."""

    prompt_limit: int = 0
    prompt_rules: tuple[PromptRule, ...] = ()
    screen_rules: tuple[ScreenRule, ...] = ()
    similarity_rules: tuple[SimilarityRule, ...] = ()
    watermark_rule: WatermarkRule | None = None
    language_rule: LanguageRule | None = None
    semantics: Semantics | None = None
    windows: Mapping[str, tuple[Window, ...]] = field(default_factory=dict)
    registries: tuple[RegistryRef, ...] = ()
    lineage: tuple[PolicyRef, ...] = ()
    loosened: tuple[Loosening, ...] = ()

    def extended(self, own: Parent) -> Parent:
        """This with a child's own rules."""
        return Parent(
            prompt_limit=min(filter(None, (self.prompt_limit, own.prompt_limit))),
            prompt_rules=(*self.prompt_rules, *own.prompt_rules),
            screen_rules=(*self.screen_rules, *own.screen_rules),
            similarity_rules=(*self.similarity_rules, *own.similarity_rules),
            watermark_rule=own.watermark_rule or self.watermark_rule,
            language_rule=own.language_rule or self.language_rule,
            semantics=joined_semantics(self.semantics, own.semantics),
            windows=own.windows,
            registries=own.registries,
            lineage=self.lineage,
            loosened=self.loosened,
        )

    def rule_ids(self) -> frozenset[str]:
        """The ids of every inherited rule."""
        single = [rule for rule in (self.watermark_rule, self.language_rule) if rule is not None]
        semantic = self.semantics.all_rules() if self.semantics else ()
        rules = (*self.prompt_rules, *self.screen_rules, *self.similarity_rules, *semantic, *single)
        return frozenset(rule.id for rule in rules)

    def uses(self, registry: str) -> bool:
        """Whether a rule reads names from a registry."""
        return any(rule.names_from and registry in rule.names_from.registries for rule in self.prompt_rules)


def joined_parents(policies: Sequence[Policy]) -> Parent:
    """What several packs hand down together; a rule that two of them share is taken once."""
    whole = Parent()
    for policy in policies:
        known = whole.rule_ids()
        whole = Parent(
            prompt_limit=min(filter(None, (whole.prompt_limit, policy.prompt_limit))),
            prompt_rules=(*whole.prompt_rules, *(rule for rule in policy.prompt_rules if rule.id not in known)),
            screen_rules=(*whole.screen_rules, *(rule for rule in policy.screen_rules if rule.id not in known)),
            similarity_rules=(
                *whole.similarity_rules,
                *(rule for rule in policy.similarity_rules if rule.id not in known),
            ),
            watermark_rule=whole.watermark_rule or policy.watermark_rule,
            language_rule=whole.language_rule or policy.language_rule,
            semantics=joined_semantics(whole.semantics, policy.semantics),
            windows={**whole.windows, **policy.windows},
            registries=tuple({ref.name: ref for ref in (*whole.registries, *policy.registries)}.values()),
            lineage=(*whole.lineage, policy.ref, *policy.lineage),
            loosened=(*whole.loosened, *policy.loosened),
        )
    return whole


def check_tightened(top: Fields, parent: Parent, own: Parent) -> None:
    """Refuse what a child says anew about the whole pack unless it is stricter.

    Raises:
        PolicyError: it is milder.
    """
    if parent.prompt_limit and own.prompt_limit > parent.prompt_limit:
        top.need("prompt_limit").fail(
            f"the parent allows {parent.prompt_limit} characters", hint="a child can only lower the limit"
        )
    if parent.language_rule is not None and own.language_rule is not None:
        top.need("language_rule").fail("the language rule is inherited", hint="change it in the parent")
    inherited, new = parent.watermark_rule, own.watermark_rule
    if inherited is not None and new is not None and _is_milder(new, inherited):
        top.need("watermark_rule").fail("this is milder than the parent's rule", hint="a child can only tighten it")

    if parent.semantics is not None and own.semantics is not None:
        _check_semantics(Fields(top.need("semantics")), parent.semantics, own.semantics)


def _check_semantics(fields: Fields, inherited: Semantics, new: Semantics) -> None:
    """A child's section adds rules to the inherited one, whose heads, id and endpoint stay what they are."""
    if new.model != inherited.model:
        fields.need("model").fail(f"the parent's heads are `{inherited.model}`", hint="scores of others do not compare")
    if new.id != inherited.id:
        fields.need("id").fail(f"the inherited section is called `{inherited.id}`", hint="write the same id")
    if new.when_unavailable < inherited.when_unavailable:
        fields.need("when_unavailable").fail("this is milder than the parent's", hint="a child can only tighten it")
    if new.endpoint is not None and inherited.endpoint is not None:
        fields.need("endpoint").fail("the endpoint is inherited", hint="change its rules under `adjust:`")


def _is_milder(new: WatermarkRule, inherited: WatermarkRule) -> bool:
    is_less_often = LATENT_MARKS.index(new.latent) > LATENT_MARKS.index(inherited.latent)
    return new.not_robust < inherited.not_robust or is_less_often


def adjusted(top: Fields, parent: Parent) -> tuple[Parent, tuple[Loosening, ...]]:
    """The inherited rules after `adjust:`, and what became milder.

    Raises:
        PolicyError: a change names no inherited rule, changes nothing, or is milder without reason and approver.
    """
    loosened: list[Loosening] = []
    for node in top.items("adjust"):
        fields = Fields(node)
        name = fields.need("rule")
        rule_id = text_of(name)
        if rule_id not in parent.rule_ids():
            meant = nearest(rule_id, parent.rule_ids())
            name.fail(f"no inherited rule is called `{rule_id}`", hint=f"did you mean `{meant}`?" if meant else "")
        changes = _Changes(fields)
        parent = _changed(parent, rule_id, changes)
        reason, approver = fields.optional_text("reason"), fields.optional_text("approver")
        fields.finish()
        if not changes.made:
            node.fail("this changes nothing", hint="name a field, for example `action: block`")
        if changes.milder:
            what = "; ".join(changes.milder)
            if not (reason and approver):
                node.fail(f"this loosens `{rule_id}` ({what})", hint="say why and who: `reason:` and `approver:`")
            loosened.append(Loosening(rule=rule_id, what=what, reason=reason, approver=approver))
    return parent, tuple(loosened)


def _changed(parent: Parent, rule_id: str, changes: _Changes) -> Parent:
    return dataclasses.replace(
        parent,
        prompt_rules=tuple(changes.prompt_rule(r) if r.id == rule_id else r for r in parent.prompt_rules),
        screen_rules=tuple(changes.screen_rule(r) if r.id == rule_id else r for r in parent.screen_rules),
        similarity_rules=tuple(changes.similarity_rule(r) if r.id == rule_id else r for r in parent.similarity_rules),
        semantics=parent.semantics and parent.semantics.changed(rule_id, changes.semantic_rule),
    )


class _Changes:
    """The changes that one item of `adjust:` asks for, made one field at a time."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self.made = 0
        self.milder: list[str] = []

    def prompt_rule(self, rule: PromptRule) -> PromptRule:
        new: dict[str, Any] = {
            "action": self._action(rule.action, ACTIONS[1:]),
            "severity": self._number(rule.severity),
            "mode": self._mode(rule.mode),
        }
        for name, more_is_milder in (("terms", False), ("unless", True), ("benign_phrases", True)):
            new[name] = self._words(name, getattr(rule, name), more_is_milder=more_is_milder)
        if not new["terms"] and rule.names_from is None:
            self._fields.node.fail("no term would be left", hint="set `mode: off` instead")
        if (new["action"] is Action.REWRITE) and not (rule.rewrite or rule.rewrites):
            self._fields.need("action").fail("this rule has no `rewrite:` text", hint="add a rule of your own")
        return dataclasses.replace(rule, **new)

    def screen_rule(self, rule: ScreenRule) -> ScreenRule:
        threshold = rule.threshold
        node = self._fields.take("threshold")
        error_rate = rule.error_rate
        if node is not None:
            if isinstance(node.value, bool) or not isinstance(node.value, int | float) or not 0 < node.value <= 1:
                node.fail("expected a number above 0 and at most 1", hint="scores run from 0 to 1; higher is worse")
            threshold, error_rate = float(node.value), self._fields.text("error_rate")
            self._note(threshold > rule.threshold, f"threshold {rule.threshold:g} -> {threshold:g}")
        return dataclasses.replace(
            rule,
            action=self._action(rule.action, IMAGE_ACTIONS[1:]),
            threshold=threshold,
            error_rate=error_rate,
            when_unavailable=self._action(rule.when_unavailable, IMAGE_ACTIONS, "when_unavailable"),
        )

    def similarity_rule(self, rule: SimilarityRule) -> SimilarityRule:
        return dataclasses.replace(
            rule,
            action=self._action(rule.action, IMAGE_ACTIONS),
            when_unavailable=self._action(rule.when_unavailable, IMAGE_ACTIONS, "when_unavailable"),
        )

    def semantic_rule(self, rule: SemanticRule) -> SemanticRule:
        # Whether a category may block depends on its contrast pairs, so blocking needs a rule that the card allows.
        allowed = SEMANTIC_ACTIONS if rule.action is Action.BLOCK else SEMANTIC_ACTIONS[:-1]
        return dataclasses.replace(rule, action=self._action(rule.action, allowed))

    def _note(self, is_milder: bool, what: str) -> None:
        self.made += 1
        if is_milder:
            self.milder.append(what)

    def _action(self, old: Action, allowed: tuple[str, ...], name: str = "action") -> Action:
        node = self._fields.take(name)
        if node is None:
            return old
        new = Action.parse(one_of(node, allowed))
        self._note(new < old, f"{name} {old.name.lower()} -> {new.name.lower()}")
        return new

    def _number(self, old: int) -> int:
        if self._fields.take("severity") is None:
            return old
        new = self._fields.number("severity", old, low=1, high=4)
        self._note(new < old, f"severity {old} -> {new}")
        return new

    def _mode(self, old: Mode) -> Mode:
        node = self._fields.take("mode")
        if node is None:
            return old
        new = Mode(one_of(node, [mode.value for mode in Mode]))
        self._note(new.rank < old.rank, f"mode {old.value} -> {new.value}")
        return new

    def _words(self, name: str, old: tuple[str, ...], *, more_is_milder: bool) -> tuple[str, ...]:
        added = tuple(word_of(item) for item in self._fields.items(f"add_{name}"))
        removed = {word_of(item): item for item in self._fields.items(f"remove_{name}")}
        for word, node in removed.items():
            if word not in old:
                node.fail(f"`{word}` is not among the inherited {name}", hint=_meant(word, old))
        if added:
            self._note(more_is_milder, f"{name} + {', '.join(added)}")
        if removed:
            self._note(not more_is_milder, f"{name} - {', '.join(removed)}")
        return (*(word for word in old if word not in removed), *added)


def _meant(word: str, known: tuple[str, ...]) -> str:
    meant = nearest(word, known)
    return f"did you mean `{meant}`?" if meant else ""
