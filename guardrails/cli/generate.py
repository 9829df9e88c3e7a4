"""`guardrails generate`: prompt to sealed pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import Steps, console, home_option, json_option, print_json

if TYPE_CHECKING:
    from guardrails.domain.records import Refusal
    from guardrails.domain.requests import PromptRequest
    from guardrails.pipeline import Guard, Outcome, Sealed

REFUSED = 3


@click.command(name="generate")
@click.argument("prompt")
@click.option("--negative-prompt", default="", help="What the picture should not show.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder.")
@click.option("--format", "file_format", type=click.Choice(["png", "jpeg", "webp"]), default="png", show_default=True)
@click.option("--count", default=1, show_default=True, help="Number of pictures; the i-th has seed + i.")
@click.option("--seed", type=int, help="Drawn and recorded when omitted.")
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance-scale", type=float, help="How closely the picture follows the prompt.")
@click.option("--width", type=int)
@click.option("--height", type=int)
@click.option("--sampler", help="ddim, dpm++ 2m or euler.")
@click.option("--model", default="pocket", show_default=True, help="pocket, a diffusers folder, or a hub id.")
@click.option("--device", help="cpu, cuda, cuda:1 ...  [default: cuda when there is one]")
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]))
@click.option("--batch-size", default=1, show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="Compile the denoiser: slow start, faster steps.")
@click.option("--policy", default="default", show_default=True, help="Name of a pack, or a YAML file.")
@home_option
@json_option
def command(
    prompt: str,
    negative_prompt: str,
    out: Path,
    file_format: str,
    count: int,
    seed: int | None,
    steps: int | None,
    guidance_scale: float | None,
    width: int | None,
    height: int | None,
    sampler: str | None,
    model: str,
    device: str | None,
    dtype: str | None,
    batch_size: int,
    compiled: bool,
    policy: str,
    home: Path | None,
    as_json: bool,
) -> int:
    """Make pictures of PROMPT; release only what every guard passes."""
    from guardrails.domain.requests import PromptRequest
    from guardrails.policy import load_policy
    from guardrails.prompts import PromptGuard

    request = PromptRequest(
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        count=count,
        steps=steps,
        guidance_scale=guidance_scale,
        width=width,
        height=height,
    )
    rules = load_policy(policy)
    # A prompt that cannot be used, and a folder that cannot be written, are told before a model is loaded.
    PromptGuard(rules).decide(request)
    from guardrails.files import check_writable

    check_writable(out)
    with Steps("loading the model", quiet=as_json):
        guard = _guard(model, device, dtype, batch_size, compiled, sampler, rules, home)
    with Steps("drawing and guarding", quiet=as_json) as progress:
        outcomes = guard.generate_all(request, format=file_format, out=out, progress=progress)
    if as_json:
        print_json([describe(outcome) for outcome in outcomes])
    else:
        for outcome in outcomes:
            show(outcome, request)
    return REFUSED if any(is_refusal(outcome) for outcome in outcomes) else 0


def _guard(
    model: str,
    device: str | None,
    dtype: str | None,
    batch_size: int,
    compiled: bool,
    sampler: str | None,
    rules: Any,
    home: Path | None,
) -> Guard:
    from guardrails.generation.loading import load_generator
    from guardrails.generation.samplers import use_sampler
    from guardrails.pipeline import Guard
    from guardrails.pipeline.guard import pocket_model

    _quiet_libraries()
    source = str(pocket_model()) if model == "pocket" else model
    generator = load_generator(source, device=device, dtype=dtype, batch_size=batch_size, compile=compiled)
    if sampler:
        use_sampler(generator.pipeline, sampler)
    return Guard(generator, policy=rules, home=home)


def _quiet_libraries() -> None:
    """Our own progress is shown; theirs would be printed between the lines."""
    import logging
    import os

    os.environ.setdefault("TQDM_DISABLE", "1")
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("torch").setLevel(logging.ERROR)


def is_refusal(outcome: Outcome) -> bool:
    from guardrails.domain.records import Refusal

    return isinstance(outcome, Refusal)


def describe(outcome: Any) -> dict[str, Any]:
    """The outcome as JSON, without pixels and bytes."""
    if is_refusal(outcome):
        return {"outcome": "refused", "refusal": outcome}
    return {
        "outcome": "released",
        "id": str(outcome.id),
        "path": str(outcome.path) if outcome.path else None,
        "sha256": outcome.sha256,
        "facts": outcome.facts,
        "decision": outcome.decision,
        "findings": outcome.findings,
        "checks": outcome.checks,
        "similar": outcome.matches,
        "watermark": outcome.embedding,
        "manifest": outcome.manifest,
        "receipt": outcome.receipt,
    }


def show(outcome: Any, request: PromptRequest) -> None:
    """The outcome for people."""
    if is_refusal(outcome):
        show_refusal(outcome, request)
    else:
        show_sealed(outcome)


def show_sealed(sealed: Sealed) -> None:
    """A released picture: where it is, what was checked, what it carries."""
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_row("file", f"[bold]{sealed.path}[/bold]")
    table.add_row("id", str(sealed.id))
    facts = sealed.facts
    table.add_row("model", f"{facts.model}, {facts.sampler}, {facts.steps} steps, seed {facts.seed}")
    for check in sealed.checks:
        scores = ", ".join(f"{name} {score:.3g}" for name, score in check.scores.items())
        table.add_row("check", f"{check.component.name}: {check.status.value} {scores or check.reason}")
    for finding in sealed.findings:
        table.add_row("rule", f"{finding.rule} ({finding.action.name.lower()}): {finding.message}")
    for match in sealed.matches[:3]:
        rights = match.rights
        table.add_row("similar", f"{match.title} by {rights.creator}, {rights.licence} ({match.state.value})")
    mark = sealed.embedding
    table.add_row("watermark", f"p = {mark.p_value:.1e}, {mark.psnr:.1f} dB, {'robust' if mark.robust else 'NOT robust'}")
    table.add_row("manifest", f"{sealed.manifest.status.value}: {sealed.manifest.explanation}")
    table.add_row("ledger", f"record {sealed.receipt.index}")
    console().print(table)


def show_refusal(refusal: Refusal, request: PromptRequest) -> None:
    """A refusal: where, by which rules, on which words."""
    out = console()
    out.print(f"[bold red]refused[/bold red] at {refusal.stage.value}")
    for finding in refusal.findings:
        out.print(f"  rule {finding.rule} ({finding.category}): {finding.message}", markup=False)
        if finding.span is not None:
            text = request.prompt if finding.span.field == "prompt" else request.negative_prompt
            out.print(f"    {text}", markup=False)
            out.print(f"    {' ' * finding.span.start}{'^' * (finding.span.end - finding.span.start)}", markup=False)
    if refusal.fault:
        out.print(f"  fault: {refusal.fault}", markup=False)
    out.print(f"  policy {refusal.policy.id} {refusal.policy.version}, digest {refusal.policy.digest}")
    if refusal.receipt is not None:
        out.print(f"  ledger record {refusal.receipt.index}")
