"""`guardrails mark`: the invisible watermark alone."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails import home as homes
from guardrails.cli.output import Steps, home_option, json_option, print_error, print_facts, print_heading, print_json
from guardrails.cli.status import NOT_CONFIRMED
from guardrails.errors import GuardrailsError, ImageError, KeyMaterialError, WatermarkError

if TYPE_CHECKING:
    from guardrails.domain.images import MarkReading
    from guardrails.watermark.scheme import PixelMark

EMBED_EPILOG = """\b
Examples
  guardrails mark embed picture.png -o marked.png
  guardrails mark embed picture.png -o marked.jpg --id 0123456789abcdef --json
"""
READ_EPILOG = """\b
Verdicts
  present       a payload whose keyed check is right, p <= 1e-6
  suspected     a pilot alone, p <= 1e-6: evidence, no proof
  not_detected  no evidence; that does not mean the image is not AI-made

\b
Examples
  guardrails mark read marked.png
  guardrails mark read downloads/*.jpg --mode fast --json
"""
BENCH_EPILOG = """\b
Writes robustness.csv (one row per picture and attack), robustness.json, summary.md and the plots into --output.

\b
Examples
  guardrails mark bench --output bench
  guardrails mark bench --pictures photographs --scheme ours --scheme dwtDctSvd --output bench
"""


@click.group(name="mark")
def command() -> None:
    """Write, read and measure the invisible watermark."""


@command.command(epilog=EMBED_EPILOG)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="PNG, JPEG or WebP by its suffix.")
@click.option("--id", "mark_id", help="16 hexadecimal digits.  [default: random]")
@click.option("--again", is_flag=True, help="Mark a picture that carries a mark of this key already.")
@home_option
@json_option
def embed(source: Path, output: Path, mark_id: str | None, again: bool, home: Path | None, as_json: bool) -> int:
    """Mark the picture SOURCE and prove the mark by reading it back."""
    from guardrails.files import write_atomically
    from guardrails.imaging.decoding import read_image_bytes
    from guardrails.imaging.encoding import ImageFormat
    from guardrails.watermark.files import LIMITS, embed_file

    data, format = read_image_bytes(source, LIMITS), ImageFormat.parse(output)
    marked = embed_file(data, _scheme(home, create=True), mark_id or secrets.token_hex(8), format=format, again=again)
    write_atomically(output, marked.data)
    done = marked.embedding
    if as_json:
        print_json({"output": str(output), "earlier_id": marked.earlier_id, "embedding": done})
        return 0
    print_heading(
        "MARKED" if done.robust else "MARKED, NOT ROBUST", str(output), style="green" if done.robust else "yellow"
    )
    facts = [("id", done.mark_id), ("PSNR", f"{done.psnr:.1f} dB"), ("read back", f"p = {done.p_value:.1e}")]
    if marked.earlier_id:
        facts.append(("earlier id", f"{marked.earlier_id}; either may be read now"))
    if not done.robust:
        facts.append(
            ("not robust", "JPEG quality 50 or half size would lose it; the picture is too plain or too small")
        )
    print_facts(facts)
    return 0


@command.command(epilog=READ_EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(["fast", "standard", "deep"]),
    default="deep",
    show_default=True,
    help="How hard to look; deep tries the cheaper ones first and stops when it has found the mark.",
)
@home_option
@json_option
def read(files: tuple[Path, ...], mode: str, home: Path | None, as_json: bool) -> int:
    """Look for this installation's mark in FILES. Exits with 0 only when every file carries it."""
    scheme = _scheme(home, create=False)
    results = []
    with Steps("reading", quiet=as_json) as steps:
        for path in steps.each(files, len(files)):
            results.append((path, _read(path, scheme, mode)))
    if as_json:
        print_json([_plain(path, result) for path, result in results])
    else:
        for path, result in results:
            _show(path, result)
    return 0 if all(_present(result) for _, result in results) else NOT_CONFIRMED


@command.command(epilog=BENCH_EPILOG)
@click.option("--pictures", type=click.Path(exists=True, file_okay=False, path_type=Path), help="[default: drawn]")
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--scheme", "schemes", multiple=True, help="ours, dwtDct, dwtDctSvd, rivaGan.  [default: ours]")
@click.option("--size", default=512, show_default=True, help="Short side the pictures are brought to.")
@click.option("--limit", default=8, show_default=True, help="How many pictures at most.")
@json_option
def bench(pictures: Path | None, output: Path, schemes: tuple[str, ...], size: int, limit: int, as_json: bool) -> int:
    """Measure what the mark survives, over the whole attack suite."""
    from guardrails.watermark.benchmark import measure, summarise, write_report
    from guardrails.watermark.hosts import load_hosts

    hosts = load_hosts(pictures, size=size, limit=limit)
    with Steps("measuring", quiet=as_json) as steps:
        rows = measure(hosts, schemes or ("ours",), progress=steps)
    write_report(rows, output)
    if as_json:
        print_json(summarise(rows))
    else:
        click.echo((output / "summary.md").read_text())
    return 0


def _scheme(home: Path | None, *, create: bool) -> PixelMark:
    """The scheme with this installation's key; a new key could read nothing, so reading makes none."""
    from guardrails.watermark.keys import KEY_FILE, Keyring
    from guardrails.watermark.scheme import PixelMark

    folder = homes.keys_folder(home or homes.home())
    if not create and not (folder / KEY_FILE).exists():
        raise KeyMaterialError(
            f"there is no watermark key in {folder}", hint="name the installation that marked the files with --home"
        )
    return PixelMark(Keyring.load_or_create(folder))


def _read(path: Path, scheme: PixelMark, mode: str) -> MarkReading | GuardrailsError:
    """The reading of a file, or the error of one that cannot be read: it must not keep the others from their turn."""
    from guardrails.imaging.decoding import read_image_bytes
    from guardrails.watermark.files import LIMITS, read_file

    try:
        return read_file(read_image_bytes(path, LIMITS), scheme, mode)
    except (ImageError, WatermarkError) as error:
        return error


def _present(result: MarkReading | GuardrailsError) -> bool:
    return not isinstance(result, GuardrailsError) and result.verdict.value == "present"


def _plain(path: Path, result: MarkReading | GuardrailsError) -> dict[str, Any]:
    if isinstance(result, GuardrailsError):
        return {"source": str(path), "verdict": "error", **result.to_json()}
    return {"source": str(path), "verdict": result.verdict.value, "reading": result}


def _show(path: Path, result: MarkReading | GuardrailsError) -> None:
    if isinstance(result, GuardrailsError):
        print_heading("ERROR", str(path), style="red")
        print_error(result, as_json=False)
        return
    style = {"present": "green", "suspected": "yellow"}.get(result.verdict.value, "default")
    print_heading(result.verdict.value.replace("_", " ").upper(), str(path), style=style)
    facts = [("p", f"{result.p_value:.1e} over {result.tests:,} tests ({result.stage})")]
    if result.mark_id:
        facts += [
            ("id", f"{result.mark_id}, key epoch {result.epoch}"),
            ("repaired", f"{result.corrected_bits} of 344 coded bits"),
            ("geometry", ", ".join(f"{name} {value}" for name, value in result.geometry.items())),
        ]
    print_facts(facts)
