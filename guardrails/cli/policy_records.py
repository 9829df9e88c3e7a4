"""`guardrails policy diff`, `record` and `replay`: decisions on files of prompts."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import Steps, json_option, print_facts, print_heading, print_json, print_table
from guardrails.cli.prompt_files import read_json_lines, read_prompts
from guardrails.cli.status import NOT_CONFIRMED

if TYPE_CHECKING:
    from guardrails.domain.requests import PromptDecision

_KEY_BYTES = 32
_MOST_SHOWN = 40
_FILE = click.Path(dir_okay=False, path_type=Path)

day_option = click.option("--day", help="Day of the decision as 2026-12-31.  [default: today, UTC]")
jurisdiction_option = click.option("--jurisdiction", default="", help="ISO 3166 code of where it is asked.")


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--on", "prompts_file", type=_FILE, required=True, help="JSON Lines or text.")
@click.option("--html", "page", type=_FILE, help="Write a page to look at.")
@day_option
@jurisdiction_option
@json_option
def diff(
    first: str, second: str, prompts_file: Path, page: Path | None, day: str | None, jurisdiction: str, as_json: bool
) -> int:
    """Which prompts get another verdict under the pack SECOND than under FIRST."""
    from guardrails.cli.policy_pages import comparison_page
    from guardrails.domain.requests import PromptRequest
    from guardrails.policy import load_policy
    from guardrails.policy.comparison import compare
    from guardrails.prompts import PromptGuard

    policies = load_policy(first), load_policy(second)
    guards = [PromptGuard(policy) for policy in policies]
    prompts = read_prompts(prompts_file)
    on = day_of(day)

    def decisions() -> Iterator[tuple[str, PromptDecision, PromptDecision]]:
        for prompt in prompts:
            request = PromptRequest(prompt=prompt, jurisdiction=jurisdiction)
            before, after = (guard.decide(request, on=on) for guard in guards)
            yield prompt, before, after

    with Steps("deciding", quiet=as_json) as steps:
        comparison = compare(policies[0].ref, policies[1].ref, steps.each(decisions(), len(prompts)))
    if page is not None:
        page.write_text(comparison_page(comparison), encoding="utf-8")
    if as_json:
        print_json(comparison)
        return 0
    print_heading("DIFF", f"{first} -> {second}", style="cyan")
    print_facts([("prompts", str(comparison.total)), ("changed", str(len(comparison.changes)))])
    rows = [
        (change.before.name.lower(), change.after.name.lower(), " ".join(change.rules), change.prompt)
        for change in comparison.changes[:_MOST_SHOWN]
    ]
    print_table(("before", "after", "rules", "prompt"), rows)
    return 0


@click.command()
@click.argument("prompts_file", metavar="PROMPTS", type=_FILE)
@click.option("--policy", "pack", default="default", show_default=True, help="Name of a pack, or a YAML file.")
@click.option("--out", type=_FILE, required=True, help="JSON Lines of decision records; the key lies beside it.")
@click.option("--keep-text", is_flag=True, help="Keep the prompts in the records, so that they replay by themselves.")
@day_option
@jurisdiction_option
@json_option
def record(
    prompts_file: Path, pack: str, out: Path, keep_text: bool, day: str | None, jurisdiction: str, as_json: bool
) -> int:
    """Decide PROMPTS and write one record each."""
    from guardrails.domain.requests import PromptRequest
    from guardrails.policy import load_policy
    from guardrails.prompts import PromptGuard
    from guardrails.prompts.records import decision_record

    guard, key, on = PromptGuard(load_policy(pack)), _key(out, create=True), day_of(day)
    prompts = read_prompts(prompts_file)
    with out.open("w", encoding="utf-8") as file, Steps("deciding", quiet=as_json) as steps:
        for prompt in steps.each(prompts, len(prompts)):
            request = PromptRequest(prompt=prompt, jurisdiction=jurisdiction)
            decision = guard.decide(request, on=on)
            line = json.dumps(decision_record(request, decision, key=key, keep_text=keep_text), ensure_ascii=False)
            file.write(line + "\n")
    if as_json:
        print_json({"records": len(prompts), "file": str(out), "key": str(_key_path(out))})
        return 0
    print_heading("RECORDED", str(out), style="green")
    print_facts([("records", str(len(prompts))), ("key", str(_key_path(out)))])
    return 0


@click.command()
@click.argument("records_file", metavar="RECORDS", type=_FILE)
@click.option("--policy", "pack", default="default", show_default=True, help="Name of a pack, or a YAML file.")
@click.option("--prompts", "prompts_file", type=_FILE, help="The prompts, for records that do not hold them.")
@json_option
def replay(records_file: Path, pack: str, prompts_file: Path | None, as_json: bool) -> int:
    """Decide what RECORDS say again, and name what comes out differently.

    Exits with 4 when anything does.
    """
    from guardrails.domain.requests import PromptRequest
    from guardrails.policy import load_policy
    from guardrails.prompts import PromptGuard
    from guardrails.prompts.records import replay as decide_again

    guard, key = PromptGuard(load_policy(pack)), _key(records_file, create=False)
    records = list(read_json_lines(records_file))
    prompts = read_prompts(prompts_file) if prompts_file else [None] * len(records)
    different: list[dict[str, Any]] = []
    for number, (one, prompt) in enumerate(zip(records, prompts, strict=True), start=1):
        place = str(one.get("jurisdiction", ""))
        request = None if prompt is None else PromptRequest(prompt=prompt, jurisdiction=place)
        fields = decide_again(one, guard, key=key, request=request)
        if fields:
            different.append({"record": number, "fields": fields})
    if as_json:
        print_json({"records": len(records), "different": different})
    else:
        word, style = ("SAME", "green") if not different else ("DIFFERENT", "red")
        print_heading(word, str(records_file), style=style)
        print_facts([("records", str(len(records))), ("different", str(len(different)))])
        print_table(("record", "fields"), [(str(d["record"]), ", ".join(d["fields"])) for d in different[:_MOST_SHOWN]])
    return 0 if not different else NOT_CONFIRMED


def day_of(written: str | None) -> Any:
    """The date that an option names; None when it is absent.

    Raises:
        click.BadParameter: it is no date.
    """
    import datetime

    try:
        return datetime.date.fromisoformat(written) if written else None
    except ValueError as error:
        raise click.BadParameter(f"{written} is not a date; write it as 2026-12-31") from error


def _key_path(records: Path) -> Path:
    return records.with_name(records.name + ".key")


def _key(records: Path, *, create: bool) -> bytes:
    """The key of a log's prompt digests: a file that only its owner can read, made when it is missing."""
    from guardrails.errors import InputError

    path = _key_path(records)
    if create and not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(_KEY_BYTES) + "\n", encoding="ascii")
    try:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the key of the records cannot be read", hint="it was written beside them") from error
