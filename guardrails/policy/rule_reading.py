"""One prompt rule of a document -> `PromptRule`: word lists with their contexts, patterns, registries and dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guardrails.domain.findings import Action
from guardrails.policy import patterns
from guardrails.policy.fields import Fields, items_of, one_of, text_of
from guardrails.policy.model import Mode, Period, PromptRule, RegistryQuery, RegistryRef, Window
from guardrails.policy.yamlio import Node, decode_utf8, nearest, read_limited
from guardrails.resources import policies_path

MAX_TERM = 200
MAX_PATTERN = 500
CONTEXT = "$"
ACTIONS = tuple(action.name.lower() for action in Action)
# REWRITE is about words; a picture cannot be reworded.
IMAGE_ACTIONS = tuple(name for name in ACTIONS if name != "rewrite")
_MODES = tuple(mode.value for mode in Mode)
_LIVING = ("yes", "no", "maybe")
_WORDS = "{words}"
_STYLE = "{style}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a pack says about all of its own rules."""

    mode: Mode
    period: Period
    jurisdictions: tuple[str, ...]


class RuleReader:
    """Reads the prompt rules of one pack.

    Args:
        folder: where the paths of term lists start; None refuses them.
        contexts: named word lists, by name.
    """

    def __init__(
        self,
        folder: Path | None,
        contexts: Mapping[str, Node],
        scope: Scope,
        windows: Mapping[str, tuple[Window, ...]],
        registries: Mapping[str, RegistryRef],
    ) -> None:
        self._folder = folder
        self._contexts = contexts
        self._scope = scope
        self._windows = windows
        self._registries = registries

    def prompt_rule(self, node: Node) -> PromptRule:
        """One rule.

        Raises:
            PolicyError: it does not load.
        """
        fields = Fields(node)
        rule_id, category = fields.text("id"), fields.text("category")
        action = action_of(fields, "action", ACTIONS[1:])
        examples = fields.take("examples")
        matching, passing = _examples(examples) if examples else ((), ())
        message, messages = message_of(fields)
        names_from = self._names_from(fields.take("names_from"))
        rewrite, rewrites = _rewrite(fields, action)
        scope = self._rule_scope(fields)
        rule = PromptRule(
            id=rule_id,
            category=category,
            action=action,
            severity=_severity(fields),
            message=message,
            messages=messages,
            terms=self._terms(fields, names_from, rewrites),
            names_from=names_from,
            requires=tuple(self._cues(group) for group in fields.items("requires")),
            unless=self.words(fields.items("unless")),
            unless_severity=fields.number("unless_severity", 2, low=0, high=4),
            benign_phrases=self.words(fields.items("benign_phrases")),
            rewrite=rewrite,
            rewrites=rewrites,
            negative_prompt=fields.flag("negative_prompt"),
            names=fields.flag("names"),
            fuzzy=fields.flag("fuzzy", default=True),
            mode=scope.mode,
            window=self._window(fields.take("window")),
            jurisdictions=scope.jurisdictions,
            effective=scope.period,
            match_examples=matching,
            pass_examples=passing,
        )
        fields.finish()
        if rule.negative_prompt and action is Action.REWRITE:
            node.fail("a rewrite rule cannot apply to the negative prompt", hint="remove `negative_prompt: true`")
        return rule

    def words(self, nodes: list[Node]) -> tuple[str, ...]:
        """Words, phrases, stems and patterns; `$name` stands for the words of a context."""
        words: list[str] = []
        for node in nodes:
            written = text_of(node)
            if written.startswith(CONTEXT):
                words += self._context(node, written.removeprefix(CONTEXT))
            else:
                words.append(word_of(node))
        return tuple(words)

    def _context(self, node: Node, name: str) -> tuple[str, ...]:
        context = self._contexts.get(name)
        if context is None:
            meant = nearest(name, self._contexts)
            node.fail(
                f"there is no context `{name}`",
                hint=f"did you mean `${meant}`?" if meant else "define it under `contexts:`",
            )
        items = items_of(context)
        nested = next((item for item in items if text_of(item).startswith(CONTEXT)), None)
        if nested is not None:
            nested.fail("a context cannot hold another one", hint="name both where they are used")
        return tuple(word_of(item) for item in items)

    def _cues(self, group: Node) -> tuple[str, ...]:
        cues = self.words(items_of(group) if isinstance(group.value, list) else [group])
        if not cues:
            group.fail(
                "this group of cues is empty, so the rule could never speak", hint="add cues or remove the group"
            )
        return cues

    def _terms(self, fields: Fields, names_from: RegistryQuery | None, rewrites: Mapping[str, str]) -> tuple[str, ...]:
        inline, file = fields.items("terms"), fields.take("terms_file")
        terms = (*self.words(inline), *rewrites)
        if file is not None:
            for item in items_of(file) if isinstance(file.value, list) else [file]:
                terms += self._term_list(item)
        if not terms and names_from is None:
            fields.node.fail(
                "this rule has no terms", hint="write `terms: [..]`, `terms_file: lists/name.txt` or `names_from: {..}`"
            )
        return terms

    def _term_list(self, node: Node) -> tuple[str, ...]:
        """One term per line; blank lines and lines that start with # are skipped."""
        path = list_path(node, self._folder, text_of(node))
        lines = decode_utf8(read_limited(path), source=str(path)).splitlines()
        found = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
        return tuple(
            word_of(Node(source=str(path), path="", line=number, column=1, value=line))
            for number, line in found
            if line and not line.startswith("#")
        )

    def _names_from(self, node: Node | None) -> RegistryQuery | None:
        if node is None:
            return None
        fields = Fields(node)
        registries = tuple(one_of(item, self._registries) for item in items_of(fields.need("registries")))
        living = fields.take("living")
        query = RegistryQuery(
            registries=registries,
            roles=fields.texts("roles"),
            living=one_of(living, _LIVING) if living is not None else "",
        )
        fields.finish()
        return query

    def _window(self, node: Node | None) -> str:
        return "" if node is None else one_of(node, self._windows)

    def _rule_scope(self, fields: Fields) -> Scope:
        """What a rule says of itself, else what its pack says; the milder mode of the two."""
        pack = self._scope
        mode = mode_of(fields)
        period = period_of(fields.take("effective"))
        return Scope(
            mode=min(mode, pack.mode, key=lambda one: one.rank),
            period=Period(start=period.start or pack.period.start, end=period.end or pack.period.end),
            jurisdictions=fields.texts("jurisdictions") or pack.jurisdictions,
        )


def list_path(node: Node, folder: Path | None, written: str) -> Path:
    """The file that a pack names.

    Raises:
        PolicyError: there is none, or it lies outside the folder of policies.
    """
    if folder is None:
        node.fail("files cannot be read for a policy that is not a file", hint="write the terms inline")
    path, root = (folder / written).resolve(), _root(folder)
    # A policy is data from someone else: it must not make us read, and then print, a file of this machine.
    if not path.is_relative_to(root):
        node.fail(f"`{written}` lies outside the policies folder", hint=f"put the file under {root}")
    if not path.is_file():
        node.fail(f"there is no file `{written}`", hint=f"paths start at {folder}")
    return path


def _root(folder: Path) -> Path:
    """The bundled `policies/` for packs in it, else the folder of the pack."""
    folder = folder.resolve()
    shipped = policies_path().resolve()
    return shipped if folder.is_relative_to(shipped) else folder


def action_of(fields: Fields, name: str, allowed: tuple[str, ...]) -> Action:
    """A required action."""
    return Action.parse(one_of(fields.need(name), allowed))


def mode_of(fields: Fields) -> Mode:
    """`mode:`, or ENFORCE when absent."""
    node = fields.take("mode")
    return Mode.ENFORCE if node is None else Mode(one_of(node, _MODES))


def period_of(node: Node | None) -> Period:
    """`effective: {from, until}`, or always when absent."""
    if node is None:
        return Period()
    fields = Fields(node)
    period = Period(start=fields.day("from"), end=fields.day("until"))
    fields.finish()
    if period.start and period.end and period.end < period.start:
        node.fail("the period ends before it begins", hint="exchange `from` and `until`")
    return period


def message_of(fields: Fields, *, words: bool = True) -> tuple[str, dict[str, str]]:
    """A message in English, and in other languages by ISO 639-1 code: one text, or a mapping that holds `en`."""
    node = fields.need("message")
    if not isinstance(node.value, dict):
        return _checked_message(node, words=words), {}
    members = Fields(node)
    members.need("en")
    messages = {language: _checked_message(item, words=words) for language, item in members.each()}
    return messages.pop("en"), messages


def _checked_message(node: Node, *, words: bool) -> str:
    message = text_of(node)
    rest = message.replace(_WORDS, "") if words else message
    if "{" in rest or "}" in rest:
        node.fail("only the placeholder {words} of prompt rules can stand in a message", hint="remove the other braces")
    return message


def word_of(node: Node) -> str:
    """A word, phrase or stem in lower case with single blanks, or a pattern as it is.

    Raises:
        PolicyError: it can never match, or is not safe to run.
    """
    written = text_of(node)
    if written.startswith(patterns.PREFIX):
        return patterns.PREFIX + _pattern(node, written.removeprefix(patterns.PREFIX))
    term = " ".join(written.casefold().split())
    if not any(char.isalnum() for char in term):
        node.fail(f"the term `{term}` has no letter or digit, so it can never match")
    if "*" in term.removesuffix("*"):
        node.fail(f"`{term}` has a * inside", hint="a * can only stand at the end: it stands for any ending")
    if len(term) > MAX_TERM:
        node.fail(f"this term has {len(term)} characters", hint=f"the limit is {MAX_TERM}")
    return term


def _pattern(node: Node, pattern: str) -> str:
    if len(pattern) > MAX_PATTERN:
        node.fail(f"this pattern has {len(pattern)} characters", hint=f"the limit is {MAX_PATTERN}")
    if reason := patterns.refusal(pattern):
        node.fail(f"the pattern `{pattern}` cannot be used: {reason}", hint="write RE2 syntax, in lower case")
    return pattern


def _severity(fields: Fields) -> int:
    fields.need("severity")
    return fields.number("severity", 0, low=1, high=4)


def _rewrite(fields: Fields, action: Action) -> tuple[str, dict[str, str]]:
    """The replacement for all terms, or one for each."""
    node = fields.take("rewrite")
    if (action is Action.REWRITE) != (node is not None):
        fields.node.fail(
            "`action: rewrite` and `rewrite: <new words>` belong together", hint="write both of them or neither"
        )
    if node is None:
        return "", {}
    if not isinstance(node.value, dict):
        return text_of(node), {}
    rewrites = {" ".join(term.casefold().split()): text_of(item) for term, item in Fields(node).each()}
    return "", rewrites


def _examples(node: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    fields = Fields(node)
    examples = fields.texts("match"), fields.texts("pass")
    fields.finish()
    return examples
