"""The `semantics:` section of a pack: which meaning is looked for, at which stated error rate, and what follows.

A rule names a false-positive rate and not a score: the threshold is looked up in the card that was written when the
heads were trained, together with what was counted there.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from guardrails.domain.findings import Action
from guardrails.errors import DatasetUnavailable, PolicyError
from guardrails.policy.fields import Fields, one_of, text_of
from guardrails.policy.yamlio import Node
from guardrails.resources import datasets_path

# A head does not carry over to a category without contrast pairs of its own: its benign twins are then caught too.
FEWEST_PAIRS_TO_BLOCK = 100
_UNTRAINED = "it may only flag or review: write 100 pairs in datasets/contrast and train the heads again"
GARBLED = "garbled"
"""The category of rules about heaps of broken words; its thresholds are on the same score, and lower."""
# Meaning cannot be reworded, so there is no rewrite here.
SEMANTIC_ACTIONS = ("flag", "review", "block")


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticRule:
    """A threshold on the score of prompts that belong to one category.

    Attributes:
        threshold: score at or above which the rule speaks; 0..1, higher is worse.
        error_rate: what was counted at this threshold, as text.
    """

    id: str
    category: str
    action: Action
    message: str
    threshold: float
    error_rate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSection:
    """An external moderation service; where it is, only the operator says, never a policy.

    Attributes:
        id: of the finding that says that the service gave no answer.
        when_unavailable: what follows then.
    """

    id: str
    when_unavailable: Action
    rules: tuple[SemanticRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Semantics:
    """The section.

    Attributes:
        id: of the finding that says that the heads could not run.
        model: folder of the heads under datasets/prompts/.
        digest: SHA-256 of the heads that the thresholds belong to, hexadecimal.
        adapter_digest: SHA-256 of the encoder's adapter, or "" when there is none.
        when_unavailable: what follows when the encoder or the heads cannot run.
    """

    id: str
    model: str
    digest: str
    adapter_digest: str
    when_unavailable: Action
    rules: tuple[SemanticRule, ...]
    endpoint: EndpointSection | None = None

    def all_rules(self) -> tuple[SemanticRule, ...]:
        """Those of the heads, then those of the endpoint."""
        return (*self.rules, *(self.endpoint.rules if self.endpoint else ()))

    def changed(self, rule_id: str, change: Callable[[SemanticRule], SemanticRule]) -> Semantics:
        """This with one rule changed, wherever it stands."""

        def each(rules: tuple[SemanticRule, ...]) -> tuple[SemanticRule, ...]:
            return tuple(change(rule) if rule.id == rule_id else rule for rule in rules)

        endpoint = self.endpoint and dataclasses.replace(self.endpoint, rules=each(self.endpoint.rules))
        return dataclasses.replace(self, rules=each(self.rules), endpoint=endpoint)


def joined_semantics(first: Semantics | None, second: Semantics | None) -> Semantics | None:
    """Two sections as one, with the rules of both; a rule that both hold is taken once.

    Raises:
        PolicyError: their heads or endpoints differ, so that no section could do what both say.
    """
    if first is None or second is None:
        return first or second
    if (first.model, first.id) != (second.model, second.id):
        raise PolicyError(
            f"two packs have a `semantics:` of their own: {first.id} ({first.model}) and {second.id} ({second.model})",
            hint="use the same heads and the same section id in both",
        )
    if first.endpoint and second.endpoint and first.endpoint != second.endpoint:
        raise PolicyError("two packs describe the moderation endpoint differently", hint="extend one of them")
    known = {rule.id for rule in first.rules}
    return dataclasses.replace(
        first,
        when_unavailable=max(first.when_unavailable, second.when_unavailable),
        rules=(*first.rules, *(rule for rule in second.rules if rule.id not in known)),
        endpoint=first.endpoint or second.endpoint,
    )


def read_semantics(node: Node) -> Semantics:
    """The section as a typed value.

    Raises:
        PolicyError: it does not load; names file, line and column.
    """
    fields = Fields(node)
    model = fields.need("model")
    card = _card(model)
    endpoint = fields.take("endpoint")
    section = Semantics(
        id=fields.text("id"),
        model=text_of(model),
        digest=str(card.get("heads_sha256", "")),
        adapter_digest=str(card.get("adapter_sha256", "")),
        when_unavailable=_when_unavailable(fields),
        rules=tuple(_rule(item, card) for item in fields.items("rules")),
        endpoint=_endpoint(endpoint) if endpoint is not None else None,
    )
    fields.finish()
    if not section.rules:
        node.fail("this section has no rules", hint="add `rules:` or remove `semantics:`")
    return section


def _card(node: Node) -> Mapping[str, Any]:
    name = text_of(node)
    if "/" in name or "\\" in name or name.startswith("."):
        node.fail(f"`{name}` is not the name of a model")
    try:
        card: dict[str, Any] = json.loads(datasets_path("prompts", name, "card.json").read_text(encoding="utf-8"))
        if not isinstance(card["categories"], dict) or not isinstance(card["levels"], dict):
            raise TypeError
    except DatasetUnavailable:
        node.fail(f"there are no prompt heads named `{name}`", hint="train them with `guardrails policy train-head`")
    except (KeyError, TypeError, ValueError):
        node.fail(f"datasets/prompts/{name}/card.json is not a card of prompt heads", hint="train the heads again")
    return card


def _rule(node: Node, card: Mapping[str, Any]) -> SemanticRule:
    fields = Fields(node)
    category = fields.need("category")
    garbled = card.get("garbled", {})
    known = one_of(category, [*card["categories"], *([GARBLED] if garbled else [])])
    action = Action.parse(one_of(fields.need("action"), SEMANTIC_ACTIONS))
    pairs = int(card["categories"].get(known, {"pairs": 0})["pairs"])
    if action >= Action.BLOCK and pairs < FEWEST_PAIRS_TO_BLOCK:
        fields.need("action").fail(f"`{known}` has {pairs} contrast pairs of its own", hint=_UNTRAINED)
    threshold, error_rate = _level(fields.need("false_positives"), garbled if known == GARBLED else card["levels"])
    rule = SemanticRule(
        id=fields.text("id"),
        category=known,
        action=action,
        message=fields.text("message"),
        threshold=threshold,
        error_rate=error_rate,
    )
    fields.finish()
    return rule


def _level(node: Node, levels: Mapping[str, Any]) -> tuple[float, str]:
    """The threshold of a calibrated false-positive rate, and what was counted at it."""
    by_rate = {float(rate): level for rate, level in levels.items()}
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        node.fail("expected a rate such as 0.02", hint=f"calibrated are: {_listed(by_rate)}")
    level = by_rate.get(float(node.value))
    if level is None:
        node.fail(
            f"the heads are not calibrated for the rate {node.value:g}", hint=f"choose one of: {_listed(by_rate)}"
        )
    return float(level["threshold"]), str(level["error_rate"])


def _listed(rates: Mapping[float, Any]) -> str:
    return ", ".join(f"{rate:g}" for rate in sorted(rates))


def _endpoint(node: Node) -> EndpointSection:
    fields = Fields(node)
    section = EndpointSection(
        id=fields.text("id"),
        when_unavailable=_when_unavailable(fields),
        rules=tuple(_endpoint_rule(item) for item in fields.items("rules")),
    )
    fields.finish()
    if not section.rules:
        node.fail("this endpoint has no rules", hint="add `rules:` or remove `endpoint:`")
    return section


def _endpoint_rule(node: Node) -> SemanticRule:
    fields = Fields(node)
    threshold = fields.need("threshold")
    if isinstance(threshold.value, bool) or not isinstance(threshold.value, int | float):
        threshold.fail("expected a number", hint="scores run from 0 to 1; higher is worse")
    if not 0 < threshold.value <= 1:
        threshold.fail(f"the threshold {threshold.value:g} is out of range", hint="it must be above 0 and at most 1")
    rule = SemanticRule(
        id=fields.text("id"),
        category=fields.text("category"),
        action=Action.parse(one_of(fields.need("action"), SEMANTIC_ACTIONS)),
        message=fields.text("message"),
        threshold=float(threshold.value),
        error_rate=fields.text("error_rate"),
    )
    fields.finish()
    return rule


def _when_unavailable(fields: Fields) -> Action:
    return Action.parse(one_of(fields.need("when_unavailable"), ("allow", *SEMANTIC_ACTIONS)))
