"""`guardrails policy`: check a pack, explain a decision."""

from __future__ import annotations

import click

from guardrails.cli.output import console, json_option, print_json

REFUSED = 3


@click.group(name="policy")
def command() -> None:
    """Check a policy pack, explain a decision."""


@command.command()
@click.argument("pack", default="default")
@json_option
def check(pack: str, as_json: bool) -> int:
    """Load PACK (a name or a YAML file) and run the examples and tests written in it."""
    from guardrails.policy import load_policy
    from guardrails.prompts import run_policy_tests

    policy = load_policy(pack)
    report = run_policy_tests(policy)
    if as_json:
        print_json({"policy": policy.ref, "checked": report.checked, "ok": report.ok, "problems": report.problems})
    else:
        out = console()
        for problem in report.problems:
            out.print(f"{problem.level}: {problem.rule}: {problem.message} {problem.subject!r}", markup=False)
        rules = len(policy.prompt_rules) + len(policy.screen_rules) + len(policy.similarity_rules) + 1
        state = "every check passed" if report.ok else "some checks did not pass"
        out.print(f"{policy.id} {policy.version}: {rules} rules, {report.checked} examples and tests, {state}")
        out.print(f"digest {policy.digest}")
    return 0 if report.ok else 2


@command.command()
@click.argument("prompt")
@click.option("--negative-prompt", default="")
@click.option("--policy", "pack", default="default", show_default=True)
@json_option
def explain(prompt: str, negative_prompt: str, pack: str, as_json: bool) -> int:
    """What the policy decides about PROMPT, by which rule, on which words."""
    from guardrails.domain.requests import PromptRequest
    from guardrails.policy import load_policy
    from guardrails.prompts import PromptGuard

    request = PromptRequest(prompt=prompt, negative_prompt=negative_prompt)
    decision = PromptGuard(load_policy(pack)).decide(request)
    if as_json:
        print_json(decision)
        return 0 if decision.action.releases else REFUSED
    out = console()
    out.print(f"[bold]{decision.action.name.lower()}[/bold]  ({decision.milliseconds:.2f} ms)")
    for finding in decision.findings:
        out.print(f"  {finding.rule} {finding.action.name.lower()}: {finding.message}", markup=False)
        if finding.span is not None:
            text = prompt if finding.span.field == "prompt" else negative_prompt
            out.print(f"    {text}", markup=False)
            out.print(f"    {' ' * finding.span.start}{'^' * (finding.span.end - finding.span.start)}", markup=False)
    if decision.rewritten:
        out.print(f"  drawn instead: {decision.prompt}", markup=False)
    out.print(f"policy {decision.policy.id} {decision.policy.version}, digest {decision.policy.digest}")
    return 0 if decision.action.releases else REFUSED
