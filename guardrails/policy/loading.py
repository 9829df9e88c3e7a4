"""YAML packs -> typed `Policy`, checked field by field; every refusal names file, line, column and the next step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from guardrails.domain.canonical import digest
from guardrails.domain.findings import Action
from guardrails.domain.images import MatchState
from guardrails.domain.rights import RESERVED, Terms, terms_of
from guardrails.errors import DatasetUnavailable, PolicyError
from guardrails.policy.ceilings import read_card
from guardrails.policy.fields import Fields, items_of, text_of
from guardrails.policy.inheritance import Parent, adjusted, check_tightened, joined_parents
from guardrails.policy.model import (
    LATENT_MARKS,
    LanguageRule,
    Period,
    Policy,
    PolicyTest,
    RegistryRef,
    ScreenRule,
    SimilarityRule,
    WatermarkRule,
    Window,
)
from guardrails.policy.registries import refer
from guardrails.policy.rule_reading import (
    ACTIONS,
    IMAGE_ACTIONS,
    RuleReader,
    Scope,
    action_of,
    list_path,
    message_of,
    mode_of,
    period_of,
)
from guardrails.policy.semantics import read_semantics
from guardrails.policy.signing import signature_beside
from guardrails.policy.yamlio import Node, nearest, parse_yaml, read_limited
from guardrails.resources import policies_path

API_VERSION = "policy/v1"
DEFAULT_PROMPT_LIMIT = 2_000
MAX_PROMPT_LIMIT = 20_000
MOST_ANCESTORS = 8
MAX_REDRAWS = 8
# What a policy decides with; who wrote it, where it lies and who signed it do not change a decision.
_NOT_DIGESTED = frozenset({"digest", "lineage", "signature", "registries"})

Rule = TypeVar("Rule")


def default_policy() -> Policy:
    """The pack that is used when none is named: `policies/packs/default.yaml`."""
    return load_policy("default")


def load_policy(name_or_path: str | Path) -> Policy:
    """Load a pack by its name under `policies/packs/`, or from a `.yaml` file.

    Raises:
        PolicyError: there is no such pack, or it does not load; the message starts "file:line:column:".
    """
    return _load(_pack_path(name_or_path), ())


def _load(path: Path, ancestors: tuple[Path, ...]) -> Policy:
    policy = _Reader(path.parent, (*ancestors, path.resolve())).policy(parse_yaml(read_limited(path), source=str(path)))
    return dataclasses.replace(policy, signature=signature_beside(path, policy.ref))


def parse_policy(data: bytes, *, source: str, folder: Path | None = None) -> Policy:
    """Load a pack from memory.

    Args:
        source: the file name to show in messages.
        folder: where the paths of term lists, registries and parents start; None refuses them.

    Raises:
        PolicyError: it does not load; the message starts "source:line:column:".
    """
    return _Reader(folder, ()).policy(parse_yaml(data, source=source))


def _pack_path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    packs = {pack.stem: pack for pack in sorted(policies_path("packs").glob("*.yaml"))}
    if path.name not in packs:
        meant = nearest(path.name, packs)
        hint = f"did you mean `{meant}`?" if meant else f"name a .yaml file or one of: {', '.join(packs)}"
        raise PolicyError(f"there is no policy pack named `{path.name}`", hint=hint)
    return packs[path.name]


class _Reader:
    """Turns a document into a policy. Holds the folder that paths start from, and the packs that led here."""

    def __init__(self, folder: Path | None, ancestors: tuple[Path, ...]) -> None:
        self._folder = folder
        self._ancestors = ancestors

    def policy(self, document: Node) -> Policy:
        """The policy of a document, with everything that it inherits."""
        top = Fields(document)
        top.choice("api_version", [API_VERSION])
        parent = joined_parents([self._parent(item) for item in top.items("extends")])
        scope = Scope(
            mode=mode_of(top), period=period_of(top.take("effective")), jurisdictions=top.texts("jurisdictions")
        )
        windows = {**parent.windows, **_windows(top)}
        registries = {ref.name: ref for ref in parent.registries} | self._registries(top)
        rules = RuleReader(self._folder, _contexts(top), scope, windows, registries)
        own = Parent(
            prompt_limit=top.number(
                "prompt_limit", parent.prompt_limit or DEFAULT_PROMPT_LIMIT, low=1, high=MAX_PROMPT_LIMIT
            ),
            prompt_rules=_rules(top, "prompt_rules", rules.prompt_rule),
            screen_rules=_rules(top, "screen_rules", _screen_rule),
            similarity_rules=_rules(top, "similarity_rules", _similarity_rule),
            watermark_rule=_watermark_rule(top, required=parent.watermark_rule is None),
            language_rule=_language_rule(top),
            semantics=read_semantics(section) if (section := top.take("semantics")) else None,
            windows=windows,
            registries=tuple(registries.values()),
            lineage=parent.lineage,
        )
        check_tightened(top, parent, own)
        changed, loosened = adjusted(top, parent)
        whole = changed.extended(own)
        assert whole.watermark_rule is not None
        policy = Policy(
            id=top.text("id"),
            version=top.text("version"),
            digest="",
            description=top.text("description"),
            prompt_limit=whole.prompt_limit,
            prompt_rules=whole.prompt_rules,
            screen_rules=whole.screen_rules,
            similarity_rules=whole.similarity_rules,
            watermark_rule=whole.watermark_rule,
            tests=tuple(_policy_test(item) for item in top.items("tests")),
            windows=whole.windows,
            registries=tuple(ref for ref in whole.registries if whole.uses(ref.name)),
            language_rule=whole.language_rule,
            semantics=whole.semantics,
            lineage=whole.lineage,
            loosened=(*parent.loosened, *loosened),
        )
        top.finish()
        if not policy.prompt_rules and not policy.screen_rules:
            document.fail(
                "this policy has no prompt rule and no screen rule: it would release everything",
                hint="add `prompt_rules:` or `screen_rules:`",
            )
        _refuse_duplicate_ids(top, parent)
        return dataclasses.replace(policy, digest=digest(_content(policy)))

    def _parent(self, node: Node) -> Policy:
        """A pack that this one extends: `name`, `name@version` or `name@>=version`."""
        written, _, wanted = text_of(node).partition("@")
        if len(self._ancestors) >= MOST_ANCESTORS:
            node.fail(f"more than {MOST_ANCESTORS} packs extend each other", hint="flatten the packs")
        path = self._parent_path(node, written)
        if path.resolve() in self._ancestors:
            node.fail(f"`{written}` extends itself through this pack", hint="remove one of the two")
        policy = _load(path, self._ancestors)
        if wanted and not _version_fits(policy.version, wanted):
            node.fail(f"`{written}` has version {policy.version}, not {wanted}", hint="change one of the two")
        return policy

    def _parent_path(self, node: Node, written: str) -> Path:
        if "/" in written or written.endswith((".yaml", ".yml")):
            return list_path(node, self._folder, written)
        beside = self._folder / f"{written}.yaml" if self._folder else Path()
        return beside if beside.is_file() else _pack_path(written)

    def _registries(self, top: Fields) -> dict[str, RegistryRef]:
        node = top.take("registries")
        if node is None:
            return {}
        members = Fields(node)
        return {name: refer(name, list_path(item, self._folder, text_of(item))) for name, item in members.each()}


def _content(policy: Policy) -> dict[str, Any]:
    """What the digest of a policy is of."""
    content: dict[str, Any] = {
        field.name: getattr(policy, field.name)
        for field in dataclasses.fields(policy)
        if field.name not in _NOT_DIGESTED
    }
    return content | {"registries": {ref.name: ref.digest for ref in policy.registries}}


def _version_fits(version: str, wanted: str) -> bool:
    if not wanted.startswith(">="):
        return version == wanted
    return _version_key(version) >= _version_key(wanted.removeprefix(">="))


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.strip().split("."))


def _contexts(top: Fields) -> Mapping[str, Node]:
    node = top.take("contexts")
    return dict(Fields(node).each()) if node is not None else {}


def _windows(top: Fields) -> dict[str, tuple[Window, ...]]:
    node = top.take("windows")
    if node is None:
        return {}
    return {name: tuple(_window(item) for item in items_of(group)) for name, group in Fields(node).each()}


def _window(node: Node) -> Window:
    fields = Fields(node)
    window = Window(
        name=fields.text("name"),
        period=Period(start=fields.day("from"), end=fields.day("until")),
        jurisdiction=fields.optional_text("jurisdiction"),
    )
    fields.finish()
    return window


def _language_rule(top: Fields) -> LanguageRule | None:
    node = top.take("language_rule")
    if node is None:
        return None
    fields = Fields(node)
    rule = LanguageRule(
        id=fields.text("id"),
        action=action_of(fields, "action", IMAGE_ACTIONS[1:]),
        message=fields.text("message"),
        supported=fields.texts("supported"),
    )
    fields.finish()
    return rule


def _screen_rule(node: Node) -> ScreenRule:
    fields = Fields(node)
    screen, concept = fields.text("screen"), fields.text("concept")
    threshold, error_rate = _threshold(fields, screen, concept)
    rule = ScreenRule(
        id=fields.text("id"),
        category=fields.text("category"),
        action=action_of(fields, "action", IMAGE_ACTIONS[1:]),
        message=message_of(fields, words=False)[0],
        screen=screen,
        concept=concept,
        threshold=threshold,
        error_rate=error_rate,
        when_unavailable=action_of(fields, "when_unavailable", IMAGE_ACTIONS),
    )
    fields.finish()
    return rule


def _threshold(fields: Fields, screen: str, concept: str) -> tuple[float, str]:
    """A threshold and its error rate: both written in the rule, or both from the screen's calibration card."""
    node = fields.need("threshold")
    if node.value == "calibrated":
        stated = fields.take("error_rate")
        if stated is not None:
            stated.fail("a calibrated threshold brings its own error rate", hint="remove `error_rate`")
        return _calibrated(node, screen, concept)
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        node.fail("expected a number or `calibrated`", hint="scores run from 0 to 1; higher is worse")
    return _in_range(node, float(node.value)), fields.text("error_rate")


def _calibrated(node: Node, screen: str, concept: str) -> tuple[float, str]:
    card = f"{screen}.json"
    if "/" in screen or "\\" in screen:
        node.fail(f"`{screen}` is not the name of a screen")
    try:
        entry = read_card(screen)["concepts"][concept]
        threshold, error_rate = float(entry["threshold"]), str(entry["error_rate"])
    except DatasetUnavailable:
        hint = f"write a number, or calibrate the screen to create datasets/screens/{card}"
        node.fail(f"the screen `{screen}` has no calibration card", hint=hint)
    except (KeyError, TypeError, ValueError):
        node.fail(f"datasets/screens/{card} states no threshold for `{concept}`", hint="write a number")
    return _in_range(node, threshold), error_rate


def _in_range(node: Node, threshold: float) -> float:
    # A threshold of 0 would refuse every image, since scores reach it always.
    if not 0 < threshold <= 1:
        node.fail(f"the threshold {threshold:g} is out of range", hint="it must be above 0 and at most 1")
    return threshold


def _similarity_rule(node: Node) -> SimilarityRule:
    fields = Fields(node)
    rule = SimilarityRule(
        id=fields.text("id"),
        category=fields.text("category"),
        action=action_of(fields, "action", IMAGE_ACTIONS),
        message=message_of(fields, words=False)[0],
        state=fields.choice("state", [state.value for state in MatchState]),
        reservation=fields.choice("reservation", [RESERVED, "any"]),
        when_unavailable=action_of(fields, "when_unavailable", IMAGE_ACTIONS),
        licences=tuple(_licence(item) for item in fields.items("licences")),
        credit=fields.flag("credit", default=True),
        redraw=fields.number("redraw", 0, low=0, high=MAX_REDRAWS),
    )
    fields.finish()
    if rule.action is Action.ALLOW and not rule.credit:
        node.fail("a rule that allows and credits nobody does nothing", hint="set `credit: true`, or remove the rule")
    if rule.redraw and rule.action.releases:
        node.fail("`redraw` without an action that holds back", hint="set `action: block` or `action: review`")
    return rule


def _licence(node: Node) -> str:
    """A class of terms or an SPDX identifier that is known: a misspelt one would concern no work."""
    value = text_of(node)
    if terms_of(value) is Terms.UNKNOWN and value not in [terms.value for terms in Terms]:
        node.fail(
            f"the licence `{value}` is not known",
            hint=f"write an SPDX identifier or one of: {', '.join(terms.value for terms in Terms)}",
        )
    return value


def _watermark_rule(top: Fields, *, required: bool) -> WatermarkRule | None:
    node = top.need("watermark_rule") if required else top.take("watermark_rule")
    if node is None:
        return None
    fields = Fields(node)
    rule = WatermarkRule(
        id=fields.text("id"),
        not_robust=action_of(fields, "not_robust", IMAGE_ACTIONS),
        message=message_of(fields, words=False)[0],
        latent=fields.choice("latent", LATENT_MARKS, default="unseeded"),
    )
    fields.finish()
    return rule


def _policy_test(node: Node) -> PolicyTest:
    fields = Fields(node)
    test = PolicyTest(
        prompt=fields.text("prompt"),
        expect=action_of(fields, "expect", ACTIONS),
        negative_prompt=fields.optional_text("negative_prompt"),
        on=fields.day("on"),
        jurisdiction=fields.optional_text("jurisdiction"),
    )
    fields.finish()
    return test


def _rules(top: Fields, name: str, read: Callable[[Node], Rule]) -> tuple[Rule, ...]:
    return tuple(read(item) for item in top.items(name))


def _refuse_duplicate_ids(top: Fields, parent: Parent) -> None:
    seen: dict[str, Node] = {}
    inherited = parent.rule_ids()
    rules = [item for name in ("prompt_rules", "screen_rules", "similarity_rules") for item in top.items(name)]
    rules += [node for name in ("watermark_rule", "language_rule") if (node := top.take(name)) is not None]
    if (semantics := top.take("semantics")) is not None:
        rules += Fields(semantics).items("rules")
        rules += [] if (endpoint := Fields(semantics).take("endpoint")) is None else Fields(endpoint).items("rules")
    for rule in rules:
        node = Fields(rule).need("id")
        rule_id = text_of(node)
        if rule_id in seen:
            node.fail(
                f"the rule id `{rule_id}` is used twice",
                hint=f"it first stands in line {seen[rule_id].line}; rename one",
            )
        if rule_id in inherited:
            node.fail(f"the rule id `{rule_id}` is inherited", hint="change inherited rules under `adjust:`")
        seen[rule_id] = node
