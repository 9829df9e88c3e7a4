"""`guardrails policy`: check a pack, explain a decision, show the rules."""

from __future__ import annotations

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
from guardrails.cli.status import INVALID, REFUSED

EPILOG = """\b
Examples
  guardrails policy check my-policy.yaml
  guardrails policy explain "a castle in the style of greg rutkowski"
  guardrails policy show default
"""


@click.group(name="policy", epilog=EPILOG)
def command() -> None:
    """Check a policy pack, explain a decision, show the rules."""


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
        print_json({"policy": policy.ref, "checked": report.checked, "ok": report.ok, "problems": report.problems})
    else:
        word, style = ("OK", "green") if report.ok else ("FAILED", "red")
        rules = len(policy.prompt_rules) + len(policy.screen_rules) + len(policy.similarity_rules) + 1
        print_heading(word, f"{policy.id} {policy.version}", style=style)
        print_facts(
            [("rules", str(rules)), ("checked", f"{report.checked} examples and tests"), ("digest", policy.digest)]
        )
        for problem in report.problems:
            about = f"{problem.rule}: " if problem.rule else ""
            text = clean(f"{problem.level.value}: {about}{problem.message}: {problem.subject!r}")
            console().print(text, markup=False)
    return 0 if report.ok else INVALID


@command.command()
@click.argument("prompt")
@click.option("--negative-prompt", default="", help="What the picture should not show.")
@click.option("--policy", "pack", default="default", show_default=True, help="Name of a pack, or a YAML file.")
@json_option
def explain(prompt: str, negative_prompt: str, pack: str, as_json: bool) -> int:
    """What the policy decides about PROMPT, by which rule, on which words.

    Exits with 3 when the prompt would be refused. Nothing is drawn and nothing is recorded.
    """
    from guardrails.cli.findings import print_findings
    from guardrails.domain.requests import PromptRequest
    from guardrails.policy import load_policy
    from guardrails.prompts import PromptGuard

    request = PromptRequest(prompt=prompt, negative_prompt=negative_prompt)
    decision = PromptGuard(load_policy(pack)).decide(request)
    if as_json:
        print_json(decision)
    else:
        action, policy = decision.action, decision.policy
        print_heading(action.name, prompt, style="green" if action.releases else "red")
        print_findings(decision.findings, {"prompt": prompt, "negative_prompt": negative_prompt})
        rewritten = [("drawn from", decision.prompt)] if decision.rewritten else []
        print_facts([*rewritten, ("policy", f"{policy.id} {policy.version}"), ("digest", policy.digest)])
    return 0 if decision.action.releases else REFUSED


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
    rows = [
        (rule.id, rule.category, rule.action.name.lower(), f"{len(rule.terms)} terms, severity {rule.severity}")
        for rule in policy.prompt_rules
    ]
    for screen_rule in policy.screen_rules:
        looks_at = f"{screen_rule.screen} {screen_rule.concept} at {screen_rule.threshold:g} ({screen_rule.error_rate})"
        rows.append((screen_rule.id, screen_rule.category, screen_rule.action.name.lower(), looks_at))
    for work_rule in policy.similarity_rules:
        looks_at = f"{work_rule.state} matches, reservation {work_rule.reservation}"
        rows.append((work_rule.id, work_rule.category, work_rule.action.name.lower(), looks_at))
    mark = policy.watermark_rule
    rows.append((mark.id, "provenance", mark.not_robust.name.lower(), "watermarks that are not robust"))
    print_table(("rule", "category", "action", "looks at"), rows)
    return 0
