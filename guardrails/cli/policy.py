"""`guardrails policy`: check a pack, explain a decision, show the rules, build a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrails.cli.output import (
    clean,
    console,
    json_option,
    print_facts,
    print_heading,
    print_json,
    print_table,
)
from guardrails.cli.policy_records import day_of, day_option, diff, jurisdiction_option, record, replay
from guardrails.cli.policy_signing import sign, verify
from guardrails.cli.status import INVALID, REFUSED
from guardrails.cli.train_head import command as train_head

if TYPE_CHECKING:
    from guardrails.policy import PromptRule

EPILOG = """\b
Examples
  guardrails policy check my-policy.yaml
  guardrails policy explain "a castle in the style of greg rutkowski" --html decision.html
  guardrails policy diff default my-policy.yaml --on prompts.jsonl
  guardrails policy sign my-policy.yaml --key policy-key.pem
"""


@click.group(name="policy", epilog=EPILOG)
def command() -> None:
    """Check a policy pack, explain a decision, compare, sign and replay."""


command.add_command(diff)
command.add_command(record)
command.add_command(replay)
command.add_command(sign)
command.add_command(verify)


command.add_command(train_head)


@command.command()
@click.argument("pack", default="default")
@json_option
def check(pack: str, as_json: bool) -> int:
    """Load PACK (a name or a YAML file) and run the examples and tests written in it.

    Exits with 2 when it does not load or does not do what it says.
    """
    from guardrails.policy import load_policy
    from guardrails.prompts import run_policy_tests

    policy = load_policy(pack)
    report = run_policy_tests(policy)
    if as_json:
        print_json(
            {
                "policy": policy.ref,
                "extends": policy.lineage,
                "checked": report.checked,
                "ok": report.ok,
                "problems": report.problems,
                "loosened": report.loosened,
            }
        )
        return 0 if report.ok else INVALID
    word, style = ("OK", "green") if report.ok else ("FAILED", "red")
    semantic = policy.semantics.all_rules() if policy.semantics else ()
    rules = len(policy.prompt_rules) + len(semantic) + len(policy.screen_rules) + len(policy.similarity_rules) + 1
    print_heading(word, f"{policy.id} {policy.version}", style=style)
    parents = [("extends", ", ".join(f"{parent.id} {parent.version}" for parent in policy.lineage))]
    print_facts(
        [
            *(parents if policy.lineage else ()),
            ("rules", str(rules)),
            ("checked", f"{report.checked} examples and tests"),
            ("digest", policy.digest),
        ]
    )
    for problem in report.problems:
        about = f"{problem.rule}: " if problem.rule else ""
        text = clean(f"{problem.level.value}: {about}{problem.message}: {problem.subject!r}")
        console().print(text, markup=False)
    for loosening in report.loosened:
        text = f"loosened: {loosening.rule}: {loosening.what} ({loosening.reason}; {loosening.approver})"
        console().print(clean(text), markup=False)
    return 0 if report.ok else INVALID


@command.command()
@click.argument("prompt")
@click.option("--negative-prompt", default="", help="What the picture should not show.")
@click.option("--policy", "pack", default="default", show_default=True, help="Name of a pack, or a YAML file.")
@click.option("--language", default="en", show_default=True, help="Language of the messages, ISO 639-1.")
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Write a page to look at.")
@day_option
@jurisdiction_option
@json_option
def explain(
    prompt: str,
    negative_prompt: str,
    pack: str,
    language: str,
    page: Path | None,
    day: str | None,
    jurisdiction: str,
    as_json: bool,
) -> int:
    """What the policy decides about PROMPT, by which rule, on which words, and which rules almost spoke.

    Exits with 3 when the prompt would be refused. Nothing is drawn and nothing is recorded.
    """
    from guardrails.cli.findings import print_findings, print_near_misses
    from guardrails.cli.policy_pages import decision_page
    from guardrails.domain.requests import PromptRequest
    from guardrails.policy import load_policy
    from guardrails.prompts import PromptGuard

    request = PromptRequest(
        prompt=prompt, negative_prompt=negative_prompt, jurisdiction=jurisdiction, language=language
    )
    decision = PromptGuard(load_policy(pack)).decide(request, on=day_of(day))
    if page is not None:
        page.write_text(decision_page(request, decision), encoding="utf-8")
    if as_json:
        print_json(decision)
    else:
        action, policy = decision.action, decision.policy
        texts = {"prompt": prompt, "negative_prompt": negative_prompt}
        print_heading(action.name, prompt, style="green" if action.releases else "red")
        print_findings(decision.findings, texts)
        if decision.shadow:
            console().print("  in shadow mode, without effect:")
            print_findings(decision.shadow, texts)
        print_near_misses(decision.near_misses)
        rewritten = [("drawn from", decision.prompt)] if decision.rewritten else []
        signed = [("signature", policy.signature)] if policy.signature else []
        print_facts([*rewritten, ("policy", f"{policy.id} {policy.version}"), ("digest", policy.digest), *signed])
    return 0 if decision.action.releases else REFUSED


@command.command()
@click.argument("source", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A .csv or .csv.gz file.")
@json_option
def registry(source: Path, out: Path, as_json: bool) -> int:
    """Build a registry of names from the CSV file SOURCE: match forms, ambiguous names, words for styles."""
    from guardrails.prompts.registry_building import build_registry

    rows = build_registry(source, out)
    if as_json:
        print_json({"file": str(out), "rows": rows})
    else:
        print_heading("BUILT", str(out), style="green")
        print_facts([("rows", str(rows))])
    return 0


@command.command()
@click.argument("pack", default="default")
@json_option
def show(pack: str, as_json: bool) -> int:
    """The rules of PACK: what each looks at, and what follows."""
    from guardrails.policy import load_policy

    policy = load_policy(pack)
    if as_json:
        print_json(policy)
        return 0
    print_heading(policy.id, policy.version, style="green", explanation=policy.description)
    print_facts([("digest", policy.digest)])
    rows = [(rule.id, rule.category, rule.action.name.lower(), _looks_at(rule)) for rule in policy.prompt_rules]
    for semantic_rule in policy.semantics.all_rules() if policy.semantics else ():
        looks_at = f"meaning, score at {semantic_rule.threshold:g} ({semantic_rule.error_rate})"
        rows.append((semantic_rule.id, semantic_rule.category, semantic_rule.action.name.lower(), looks_at))
    for screen_rule in policy.screen_rules:
        looks_at = f"{screen_rule.screen} {screen_rule.concept} at {screen_rule.threshold:g} ({screen_rule.error_rate})"
        rows.append((screen_rule.id, screen_rule.category, screen_rule.action.name.lower(), looks_at))
    for work_rule in policy.similarity_rules:
        licences = ", ".join(work_rule.licences) or "any"
        looks_at = f"{work_rule.state} matches, reservation {work_rule.reservation}, licence {licences}"
        rows.append((work_rule.id, work_rule.category, work_rule.action.name.lower(), looks_at))
    mark = policy.watermark_rule
    rows.append((mark.id, "provenance", mark.not_robust.name.lower(), "watermarks that are not robust"))
    print_table(("rule", "category", "action", "looks at"), rows)
    return 0


def _looks_at(rule: PromptRule) -> str:
    parts = [f"{len(rule.terms)} terms"] if rule.terms else []
    if rule.names_from is not None:
        roles = ", ".join(rule.names_from.roles) or "everyone"
        parts.append(f"names of {', '.join(rule.names_from.registries)} ({roles})")
    parts.append(f"severity {rule.severity}")
    if rule.window:
        parts.append(f"within: {rule.window}")
    if rule.jurisdictions:
        parts.append(f"in: {', '.join(rule.jurisdictions)}")
    if rule.mode.value != "enforce":
        parts.append(f"mode {rule.mode.value}")
    return "; ".join(parts)
