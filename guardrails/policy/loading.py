"""YAML packs -> typed `Policy`, checked field by field; every refusal names file, line, column and the next step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from guardrails.domain.canonical import digest
from guardrails.domain.findings import Action
from guardrails.errors import DatasetUnavailable, PolicyError
from guardrails.policy.fields import Fields, items_of, one_of, text_of
from guardrails.policy.model import Policy, PolicyTest, PromptRule, ScreenRule, SimilarityRule, WatermarkRule
from guardrails.policy.yamlio import Node, decode_utf8, nearest, parse_yaml, read_limited
from guardrails.resources import datasets_path, policies_path

API_VERSION = "policy/v1"
DEFAULT_PROMPT_LIMIT = 2_000
MAX_PROMPT_LIMIT = 20_000
MAX_TERM = 200

_ACTIONS = tuple(action.name.lower() for action in Action)
# REWRITE is about words; a picture cannot be reworded.
_IMAGE_ACTIONS = tuple(name for name in _ACTIONS if name != "rewrite")
_WORDS = "{words}"

Rule = TypeVar("Rule", PromptRule, ScreenRule, SimilarityRule)


def default_policy() -> Policy:
    """The pack that is used when none is named: `policies/packs/default.yaml`."""
    return load_policy("default")


def load_policy(name_or_path: str | Path) -> Policy:
    """Load a pack by its name under `policies/packs/`, or from a `.yaml` file.

    Raises:
        PolicyError: there is no such pack, or it does not load; the message starts "file:line:column:".
    """
    path = _pack_path(name_or_path)
    return parse_policy(read_limited(path), source=str(path), folder=path.parent)


def parse_policy(data: bytes, *, source: str, folder: Path | None = None) -> Policy:
    """Load a pack from memory.

    Args:
        source: the file name to show in messages.
        folder: where `terms_file:` paths start; None refuses them.

    Raises:
        PolicyError: it does not load; the message starts "source:line:column:".
    """
    return _Reader(folder).policy(parse_yaml(data, source=source))


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
    """Turns nodes into rules. Holds the folder that term lists are read from."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def policy(self, document: Node) -> Policy:
        top = Fields(document)
        top.choice("api_version", [API_VERSION])
        policy = Policy(
            id=top.text("id"),
            version=top.text("version"),
            digest="",
            description=top.text("description"),
            prompt_limit=top.number("prompt_limit", DEFAULT_PROMPT_LIMIT, low=1, high=MAX_PROMPT_LIMIT),
            prompt_rules=_rules(top, "prompt_rules", self._prompt_rule),
            screen_rules=_rules(top, "screen_rules", _screen_rule),
            similarity_rules=_rules(top, "similarity_rules", _similarity_rule),
            watermark_rule=_watermark_rule(top.need("watermark_rule")),
            tests=tuple(_policy_test(item) for item in top.items("tests")),
        )
        top.finish()
        if not policy.prompt_rules and not policy.screen_rules:
            document.fail(
                "this policy has no prompt rule and no screen rule: it would release everything",
                hint="add `prompt_rules:` or `screen_rules:`",
            )
        _refuse_duplicate_ids(top)
        content = {f.name: getattr(policy, f.name) for f in dataclasses.fields(policy) if f.name != "digest"}
        return dataclasses.replace(policy, digest=digest(content))

    def _prompt_rule(self, node: Node) -> PromptRule:
        fields = Fields(node)
        rule_id, category = fields.text("id"), fields.text("category")
        action = _action(fields, "action", _ACTIONS[1:])
        examples = fields.take("examples")
        matching, passing = _examples(examples) if examples else ((), ())
        rule = PromptRule(
            id=rule_id,
            category=category,
            action=action,
            severity=_severity(fields),
            message=_message(fields),
            terms=self._terms(fields),
            requires=tuple(_cues(group) for group in fields.items("requires")),
            unless=_term_texts(fields.items("unless")),
            unless_severity=fields.number("unless_severity", 2, low=0, high=4),
            benign_phrases=_term_texts(fields.items("benign_phrases")),
            rewrite=_rewrite(fields, action),
            negative_prompt=fields.flag("negative_prompt"),
            names=fields.flag("names"),
            match_examples=matching,
            pass_examples=passing,
        )
        fields.finish()
        if rule.negative_prompt and action is Action.REWRITE:
            node.fail("a rewrite rule cannot apply to the negative prompt", hint="remove `negative_prompt: true`")
        return rule

    def _terms(self, fields: Fields) -> tuple[str, ...]:
        inline, file = fields.items("terms"), fields.take("terms_file")
        terms = _term_texts(inline)
        if file is not None:
            terms += self._term_list(file)
        if not terms:
            fields.node.fail("this rule has no terms", hint="write `terms: [..]` or `terms_file: lists/name.txt`")
        return terms

    def _term_list(self, node: Node) -> tuple[str, ...]:
        """One term per line; blank lines and lines that start with # are skipped."""
        path = self._list_path(node)
        lines = decode_utf8(read_limited(path), source=str(path)).splitlines()
        found = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
        return tuple(
            _term(Node(source=str(path), path="", line=number, column=1, value=line))
            for number, line in found
            if line and not line.startswith("#")
        )

    def _list_path(self, node: Node) -> Path:
        written = text_of(node)
        if self._folder is None:
            node.fail("term lists cannot be read for a policy that is not a file", hint="write the terms inline")
        path, root = (self._folder / written).resolve(), self._root()
        # A policy is data from someone else: it must not make us read, and then print, a file of this machine.
        if not path.is_relative_to(root):
            node.fail(f"`{written}` lies outside the policies folder", hint=f"put the list under {root}")
        if not path.is_file():
            node.fail(f"there is no file `{written}`", hint=f"paths start at {self._folder}")
        return path

    def _root(self) -> Path:
        """The bundled `policies/` for packs in it, else the folder of the pack."""
        folder = (self._folder or Path()).resolve()
        shipped = policies_path().resolve()
        return shipped if folder.is_relative_to(shipped) else folder


def _screen_rule(node: Node) -> ScreenRule:
    fields = Fields(node)
    screen, concept = fields.text("screen"), fields.text("concept")
    threshold, error_rate = _threshold(fields, screen, concept)
    rule = ScreenRule(
        id=fields.text("id"),
        category=fields.text("category"),
        action=_action(fields, "action", _IMAGE_ACTIONS[1:]),
        message=_message(fields, words=False),
        screen=screen,
        concept=concept,
        threshold=threshold,
        error_rate=error_rate,
        when_unavailable=_action(fields, "when_unavailable", _IMAGE_ACTIONS),
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
        entry = json.loads(datasets_path("screens", card).read_text(encoding="utf-8"))["concepts"][concept]
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
        action=_action(fields, "action", _IMAGE_ACTIONS[1:]),
        message=_message(fields, words=False),
        state=fields.choice("state", ["confirmed", "candidate"]),
        reservation=fields.choice("reservation", ["opt-out", "any"]),
        when_unavailable=_action(fields, "when_unavailable", _IMAGE_ACTIONS),
    )
    fields.finish()
    return rule


def _watermark_rule(node: Node) -> WatermarkRule:
    fields = Fields(node)
    rule = WatermarkRule(
        id=fields.text("id"),
        not_robust=_action(fields, "not_robust", _IMAGE_ACTIONS),
        message=_message(fields, words=False),
        latent=fields.choice("latent", ("always", "unseeded", "never"), default="unseeded"),
    )
    fields.finish()
    return rule


def _policy_test(node: Node) -> PolicyTest:
    fields = Fields(node)
    test = PolicyTest(prompt=fields.text("prompt"), expect=_action(fields, "expect", _ACTIONS))
    fields.finish()
    return test


def _rules(top: Fields, name: str, read: Callable[[Node], Rule]) -> tuple[Rule, ...]:
    return tuple(read(item) for item in top.items(name))


def _refuse_duplicate_ids(top: Fields) -> None:
    seen: dict[str, Node] = {}
    rules = [item for name in ("prompt_rules", "screen_rules", "similarity_rules") for item in top.items(name)]
    for rule in [*rules, top.need("watermark_rule")]:
        node = Fields(rule).need("id")
        rule_id = text_of(node)
        if rule_id in seen:
            node.fail(
                f"the rule id `{rule_id}` is used twice",
                hint=f"it first stands in line {seen[rule_id].line}; rename one",
            )
        seen[rule_id] = node


def _action(fields: Fields, name: str, allowed: tuple[str, ...]) -> Action:
    return Action.parse(one_of(fields.need(name), allowed))


def _severity(fields: Fields) -> int:
    fields.need("severity")
    return fields.number("severity", 0, low=1, high=4)


def _message(fields: Fields, *, words: bool = True) -> str:
    message = fields.text("message")
    rest = message.replace(_WORDS, "") if words else message
    if "{" in rest or "}" in rest:
        fields.need("message").fail(
            "only the placeholder {words} of prompt rules can stand in a message", hint="remove the other braces"
        )
    return message


def _rewrite(fields: Fields, action: Action) -> str:
    text = fields.optional_text("rewrite")
    if (action is Action.REWRITE) != bool(text):
        fields.node.fail(
            "`action: rewrite` and `rewrite: <new words>` belong together", hint="write both of them or neither"
        )
    return text


def _examples(node: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    fields = Fields(node)
    examples = fields.texts("match"), fields.texts("pass")
    fields.finish()
    return examples


def _cues(group: Node) -> tuple[str, ...]:
    cues = _term_texts(items_of(group))
    if not cues:
        group.fail("this group of cues is empty, so the rule could never speak", hint="add cues or remove the group")
    return cues


def _term_texts(nodes: list[Node]) -> tuple[str, ...]:
    return tuple(_term(node) for node in nodes)


def _term(node: Node) -> str:
    """A term in lower case with single blanks."""
    term = " ".join(text_of(node).casefold().split())
    if not any(char.isalnum() for char in term):
        node.fail(f"the term `{term}` has no letter or digit, so it can never match")
    if len(term) > MAX_TERM:
        node.fail(f"this term has {len(term)} characters", hint=f"the limit is {MAX_TERM}")
    return term
