"""`guardrails generate`: prompt to sealed pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import (
    SectionedCommand,
    Steps,
    home_option,
    json_option,
    option,
    print_facts,
    print_heading,
    print_json,
)
from guardrails.cli.status import REFUSED, UNEXPECTED

if TYPE_CHECKING:
    from guardrails.domain.findings import Check
    from guardrails.domain.images import Match
    from guardrails.domain.labels import VisibleLabel
    from guardrails.domain.records import Refusal
    from guardrails.domain.requests import PromptRequest
    from guardrails.generation.protocol import Drawn, Generator, Progress
    from guardrails.pipeline import Outcome, Sealed
    from guardrails.provenance import Signer

POCKET = "pocket"
# As a shell likes them; `guardrails.generation.samplers` has the same names with a space.
SAMPLERS = {"ddim": "ddim", "dpm++2m": "dpm++ 2m", "euler": "euler"}

WHAT = "What to draw"
HOW = "How to draw it"
WHERE = "Rules and files"

EPILOG = """\b
Examples
  guardrails generate "a red apple on a blue background"
  guardrails generate "a fox in the snow" --count 4 --seed 7 --out foxes --json
  guardrails generate "a fox in the snow" --jurisdiction CN --label eu
  guardrails generate "a fox" --model stabilityai/stable-diffusion-xl-base-1.0 --device cuda
"""


@click.command(name="generate", cls=SectionedCommand, epilog=EPILOG)
@click.argument("prompt")
@option("--negative-prompt", section=WHAT, default="", help="What the picture should not show.")
@option(
    "--count",
    metavar="N",
    section=WHAT,
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of pictures.",
)
@option(
    "--seed", metavar="N", section=WHAT, type=click.IntRange(min=0), help="Of the first picture; the next has seed + 1."
)
@option("--width", metavar="N", section=WHAT, type=click.IntRange(min=1), help="Pixels; together with --height.")
@option("--height", metavar="N", section=WHAT, type=click.IntRange(min=1), help="Pixels; together with --width.")
@option("--model", section=HOW, default=POCKET, show_default=True, help="pocket, a diffusers folder, or a hub id.")
@option("--steps", metavar="N", section=HOW, type=click.IntRange(min=1), help="Denoising steps.")
@option("--guidance-scale", metavar="X", section=HOW, type=float, help="How closely the picture follows the prompt.")
@option("--sampler", section=HOW, type=click.Choice(list(SAMPLERS)), help="Instead of the model's own.")
@option("--device", section=HOW, help="cpu, cuda, cuda:1 ...  [default: cuda when there is one]")
@option("--dtype", section=HOW, type=click.Choice(["float32", "bfloat16", "float16"]), help="Of the arithmetic.")
@option(
    "--batch-size",
    metavar="N",
    section=HOW,
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Drawn at once.",
)
@option("--compile", "compiled", section=HOW, is_flag=True, help="Compile the denoiser: slow start, faster steps.")
@option("--policy", section=WHERE, default="default", show_default=True, help="Name of a pack, or a YAML file.")
@option("--jurisdiction", section=WHERE, default="", help="ISO 3166 code of where it is asked, as CN.")
@option(
    "--label",
    "labels",
    metavar="NAME",
    section=WHERE,
    multiple=True,
    help="Draw this visible label too: cn, eu or us. Repeatable; what the jurisdiction requires is always drawn.",
)
@option("--out", section=WHERE, type=click.Path(path_type=Path), default=Path("out"), show_default=True, help="Folder.")
@option(
    "--format",
    "file_format",
    section=WHERE,
    type=click.Choice(["png", "jpeg", "webp", "avif", "tiff"]),
    default="png",
    show_default=True,
    help="Of the files.",
)
@option(
    "--tsa",
    metavar="URL",
    section=WHERE,
    envvar="GUARDRAILS_TSA",
    help="Time-stamp authority to ask for every picture.  [default: this installation's own, if it has one]",
)
@home_option
@json_option
def command(
    prompt: str,
    negative_prompt: str,
    count: int,
    seed: int | None,
    width: int | None,
    height: int | None,
    model: str,
    steps: int | None,
    guidance_scale: float | None,
    sampler: str | None,
    device: str | None,
    dtype: str | None,
    batch_size: int,
    compiled: bool,
    policy: str,
    jurisdiction: str,
    labels: tuple[str, ...],
    out: Path,
    file_format: str,
    tsa: str | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """Make pictures of PROMPT; release only what every guard passes.

    Released files carry an invisible watermark and a signed manifest; released or refused, each run is recorded in
    the ledger.
    """
    from guardrails.domain.requests import PromptRequest
    from guardrails.files import check_writable
    from guardrails.policy import load_policy
    from guardrails.policy.labelling import wanted_labels
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
        jurisdiction=jurisdiction,
        labels=labels,
    )
    wanted_labels(jurisdiction, labels)
    rules = load_policy(policy)
    # What cannot be used is told before a model is loaded, and what is refused needs none.
    cleared = PromptGuard(rules).decide(request).action.releases
    check_writable(out)
    generator: Generator = _NeverAsked()
    with Steps("loading the model", quiet=as_json):
        if cleared:
            generator = load(
                model, device=device, dtype=dtype, batch_size=batch_size, compiled=compiled, sampler=sampler
            )
        from guardrails.pipeline import Guard

        guard = Guard(generator, policy=rules, home=home, signer=_signer(tsa, home) if tsa else None)
    with Steps("drawing and guarding", quiet=as_json) as progress:
        outcomes = guard.generate_all(request, format=file_format, out=out, progress=progress)
    if as_json:
        print_json([describe(outcome) for outcome in outcomes])
    else:
        for outcome in outcomes:
            show(outcome, request)
    return next((status for status in map(exit_status, outcomes) if status), 0)


def _signer(tsa: str, home: Path | None) -> Signer:
    """The installation's own signer, stamped by an authority elsewhere."""
    from guardrails import home as homes
    from guardrails.provenance import Signer
    from guardrails.provenance.timestamps import TimeStampClient

    return Signer.dev(homes.keys_folder(home or homes.home())).stamped_by(TimeStampClient(tsa))


class _NeverAsked:
    """Stands for the model of a prompt that the policy refuses: the guard records the refusal and draws nothing."""

    def draw(self, request: PromptRequest, prompt: str, *, progress: Progress | None = None) -> list[Drawn]:
        raise AssertionError("a refused prompt reached the model")


def load(
    model: str, *, device: str | None, dtype: str | None, batch_size: int, compiled: bool, sampler: str | None
) -> Generator:
    """The embedded model ("pocket"), a folder or a hub id as a generator.

    Raises:
        UnavailableError: there is no such model.
        OptionError: an option makes no sense for this model or on this machine.
    """
    from guardrails.generation.loading import load_generator
    from guardrails.generation.samplers import use_sampler
    from guardrails.pipeline.embedded import pocket_model, with_pocket_defaults

    quiet_libraries()
    source = str(pocket_model()) if model == POCKET else model
    generator = load_generator(source, device=device, dtype=dtype, batch_size=batch_size, compile=compiled)
    if sampler is not None:
        use_sampler(generator.pipeline, SAMPLERS[sampler])
    return with_pocket_defaults(generator) if model == POCKET else generator


def quiet_libraries() -> None:
    """Our own progress is shown; theirs would be printed between the lines. Call before they are imported."""
    import os

    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def is_refusal(outcome: Outcome) -> bool:
    from guardrails.domain.records import Refusal

    return isinstance(outcome, Refusal)


def exit_status(outcome: Any) -> int:
    """0 for a picture, `REFUSED` for a rule that spoke, and for a fault in a guard what its error stands for."""
    if not is_refusal(outcome):
        return 0
    if not outcome.fault:
        return REFUSED
    code = outcome.fault.partition(":")[0]
    return next((kind.exit_status for kind in _error_classes() if kind.code == code), UNEXPECTED)


def _error_classes() -> list[Any]:
    from guardrails.errors import GuardrailsError

    found = [GuardrailsError]
    for kind in found:
        found += kind.__subclasses__()
    return found


def describe(outcome: Any) -> dict[str, Any]:
    """The outcome as JSON, without pixels and bytes."""
    if is_refusal(outcome):
        return {"outcome": "refused", "refusal": outcome}
    return {
        "outcome": "released",
        "id": str(outcome.id),
        "path": str(outcome.path) if outcome.path else None,
        "format": outcome.format.value,
        "sha256": outcome.sha256,
        "facts": outcome.facts,
        "decision": outcome.decision,
        "findings": outcome.findings,
        "checks": outcome.checks,
        "similar": outcome.matches,
        "watermark": outcome.embedding,
        "latent": outcome.latent,
        "label": outcome.label,
        "manifest": outcome.manifest,
        "receipt": outcome.receipt,
        "timings": outcome.timings.to_json(),
    }


def show(outcome: Any, request: PromptRequest) -> None:
    """The outcome for people."""
    if is_refusal(outcome):
        show_refusal(outcome, request)
    else:
        show_sealed(outcome, request)


def show_sealed(sealed: Sealed, request: PromptRequest) -> None:
    """A released picture: where it is, what was checked, what it carries."""
    from guardrails.cli.findings import print_findings

    print_heading("RELEASED", str(sealed.path or sealed.id), style="green")
    facts, mark = sealed.facts, sealed.embedding
    print_facts(
        [
            ("id", str(sealed.id)),
            ("model", f"{facts.model}, {facts.width} x {facts.height}, {facts.sampler}, {facts.steps} steps"),
            ("seed", f"{facts.seed}, guidance scale {facts.guidance_scale:g}, {facts.dtype} on {facts.device}"),
            *(("drawn from", decision.prompt) for decision in (sealed.decision,) if decision.rewritten),
            *_checks(sealed),
            *(("similar", _work(match)) for match in sealed.matches),
            ("watermark", f"{mark.psnr:.1f} dB PSNR, {'robust' if mark.robust else 'NOT robust'}, id {mark.mark_id}"),
            *(("label", _label(label)) for label in (sealed.label,) if label is not None),
            ("latent mark", "its noise carries the id" if sealed.latent.scheme else f"none: {sealed.latent.reason}"),
            ("manifest", f"{sealed.manifest.status.value}: {sealed.manifest.explanation}"),
            ("ledger", f"record {sealed.receipt.index}"),
            ("time", _time(sealed)),
        ]
    )
    print_findings(sealed.findings, _texts(request))


def show_refusal(refusal: Refusal, request: PromptRequest) -> None:
    """A refusal: where, by which rules, on which words, under which policy."""
    from guardrails.cli.findings import print_findings

    print_heading("REFUSED", f"at {refusal.stage.value}", style="red")
    print_findings(refusal.findings, _texts(request))
    policy = refusal.policy
    print_facts(
        [
            *(("fault", fault) for fault in (refusal.fault,) if fault),
            *(("side by side", file) for file in (refusal.evidence_file,) if file),
            *_checks(refusal),
            ("policy", f"{policy.id} {policy.version}"),
            ("digest", policy.digest),
            *(("ledger", f"record {receipt.index}") for receipt in (refusal.receipt,) if receipt is not None),
        ]
    )


def _checks(outcome: Sealed | Refusal) -> list[tuple[str, str]]:
    return [
        (
            "check",
            f"{check.component.name}: {check.outcome} "
            + (check.reason or ", ".join(_scores(check) or sorted(set(check.abstained.values())))),
        )
        for check in outcome.checks
    ]


def _scores(check: Check) -> list[str]:
    return [f"{concept} {score:.3g}" for concept, score in check.scores.items()]


def _time(sealed: Sealed) -> str:
    times = sealed.timings
    guards = ", ".join(f"{stage} {spent:.0f}" for stage, spent in times.stages.items() if stage != "generation")
    return (
        f"{times.stages['generation']:.0f} ms of drawing, {times.guard:.0f} ms of guards ({times.share:.0%}): {guards}"
    )


def _label(label: VisibleLabel) -> str:
    return f"{label.text} ({', '.join(label.profiles)}), contrast {label.contrast:g} in the final file"


def _work(match: Match) -> str:
    rights = match.rights
    distances = ", ".join(f"{name} {distance}" for name, distance in match.distances.items())
    reserved = f", {rights.reservation}" if rights.reservation else ""
    whose = f"{match.title} by {rights.creator}, {rights.licence}{reserved}"
    remark = f", {match.remark}" if match.remark else ""
    return f"{whose} ({match.state.value}, grade {match.grade}{remark}; Hamming distance {distances})"


def _texts(request: PromptRequest) -> dict[str, str]:
    return {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
