"""`guardrails label`: the visible label alone."""

from __future__ import annotations

from pathlib import Path

import click

from guardrails.cli.output import json_option, print_facts, print_heading, print_json
from guardrails.errors import ImageError, OptionError

EPILOG = """\b
For pictures that are made elsewhere: draw the label first, sign afterwards (guardrails seal).
A file with a manifest is refused, since its manifest would no longer hold. XMP is kept, and
transparency is laid on white.

\b
Examples
  guardrails label picture.png -o labelled.png --label eu
  guardrails label picture.png -o labelled.jpg --jurisdiction CN --edited --json
"""


@click.command(name="label", epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The format by its suffix.")
@click.option("--label", "labels", metavar="NAME", multiple=True, help="cn, eu or us; repeatable.")
@click.option("--jurisdiction", default="", help="ISO 3166 code; draws what is required there.")
@click.option("--edited", is_flag=True, help="A model changed the picture; it did not make it.")
@json_option
def command(source: Path, output: Path, labels: tuple[str, ...], jurisdiction: str, edited: bool, as_json: bool) -> int:
    """Draw the visible label on the picture SOURCE."""
    from guardrails.files import write_atomically
    from guardrails.imaging.decoding import decode
    from guardrails.imaging.encoding import ImageFormat, encode
    from guardrails.imaging.labels import draw_label, read_back
    from guardrails.imaging.metadata import read_xmp
    from guardrails.policy.labelling import wanted_labels

    profiles, format = wanted_labels(jurisdiction, labels), ImageFormat.parse(output)
    if not profiles:
        raise OptionError("no label is asked for", hint="name one with --label")
    given = _unsigned(source)
    pixels, label = draw_label(decode(given).pixels, profiles, edited=edited)
    data = encode(pixels, format, xmp=read_xmp(given))
    label = read_back(decode(data).pixels, label)
    write_atomically(output, data)
    if as_json:
        print_json({"output": str(output), "text": label.text, "label": label})
        return 0
    print_heading("LABELLED", str(output), style="green")
    print_facts(
        [
            ("text", label.text),
            ("letters", f"{min(line.height for line in label.lines)} pixels high or more, contrast {label.contrast:g}"),
            ("profiles", ", ".join(f"{name} (law as of {day})" for name, day in label.profiles.items())),
        ]
    )
    return 0


def _unsigned(source: Path) -> bytes:
    """The bytes of a file that carries no manifest."""
    from guardrails.domain.images import ManifestStatus
    from guardrails.imaging.decoding import read_image_bytes
    from guardrails.provenance import TrustStore, Verifier

    data = read_image_bytes(source)
    if Verifier(TrustStore()).verify(data).status is not ManifestStatus.NO_MANIFEST:
        raise ImageError(
            f"{source} carries a manifest that would no longer hold", hint="have the label drawn by `generate --label`"
        )
    return data
