"""`guardrails screens train`: a concept from two folders of pictures."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import Steps, json_option, print_facts, print_heading, print_json, print_table
from guardrails.cli.picture_files import pictures_of, pixels_of

if TYPE_CHECKING:
    from guardrails.screens.heads import Vectors

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
EPILOG = """\b
NEGATIVES should look like POSITIVES without showing the concept: a head learns the difference between the two, and
safe pictures of other kinds are compared with it anyway. 20 of each are the least, 200 are better.

\b
Example
  guardrails screens train our-logo no-logo --id our-logo --category trademark --output packs/our-logo.yaml
  guardrails screens scan picture.png --concepts packs/our-logo.yaml
"""


@click.command(epilog=EPILOG)
@click.argument("positives", type=_FOLDER)
@click.argument("negatives", type=_FOLDER)
@click.option("--id", "concept", required=True, help="Of the concept: lower-case letters, digits, hyphens.")
@click.option("--category", required=True, help="As the rules of your policy name it, for example trademark.")
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Pack, a .yaml file.")
@click.option(
    "--kind",
    type=click.Choice(["linear", "mlp", "exemplar"]),
    default="linear",
    show_default=True,
    help="Of the concept.",
)
@click.option("--action", type=click.Choice(["flag", "review", "block"]), default="flag", show_default=True)
@click.option("--owner", default="operator", show_default=True, help="Who answers for the pack.")
@click.option("--thumbnails", is_flag=True, help="Keep small pictures of POSITIVES with the pack, for explanations.")
@json_option
def train(
    positives: Path,
    negatives: Path,
    concept: str,
    category: str,
    output: Path,
    kind: str,
    action: str,
    owner: str,
    thumbnails: bool,
    as_json: bool,
) -> int:
    """Learn a concept from POSITIVES, which show it, and NEGATIVES, which do not."""
    from guardrails.encoders import load_encoder
    from guardrails.errors import OptionError
    from guardrails.files import write_atomically
    from guardrails.resources import datasets_path
    from guardrails.screens.calibration import RATES
    from guardrails.screens.clip_concepts import REFERENCES
    from guardrails.screens.concepts import read_pack
    from guardrails.screens.exemplars import MOST, to_grid
    from guardrails.screens.heads import Contrast
    from guardrails.screens.references import read_references
    from guardrails.screens.training import FEWEST_TO_REPORT, FITS, check_enough, held_out, to_safetensors

    if not _ID.fullmatch(concept):
        raise OptionError(f"{concept!r} cannot be the id of a concept", hint="lower-case letters, digits, hyphens")
    if not category.strip() or not owner.strip():
        raise OptionError("a pack needs a category and an owner", hint="write them with --category and --owner")
    if output.suffix not in (".yaml", ".yml"):
        raise OptionError(f"{output} is no name of a pack", hint="let it end in .yaml; the weights are put beside it")
    encoder, references = load_encoder("offline-clip"), read_references(datasets_path(*REFERENCES))
    with_it, without = _different(positives), _different(negatives)
    both = with_it.keys() & without.keys()
    if both:
        raise OptionError(
            f"{with_it[min(both)]} is in both folders, and {len(both) - 1} more are", hint="remove them from one"
        )
    check_enough(with_it, without, FEWEST_TO_REPORT)
    with Steps("Looking", quiet=as_json) as steps:
        shown = _embedded(encoder, list(with_it.values()), steps)
        others = _embedded(encoder, list(without.values()), steps)
    fit = FITS[kind]
    report = held_out(fit, shown, others, references, RATES)
    head = fit(shown, others, concept=concept, encoder=encoder.id)
    weights, pictures = output.with_suffix(".safetensors"), output.with_suffix(".webp") if thumbnails else None
    if pictures is not None:
        if not isinstance(head, Contrast):
            head = replace(head, examples=shown[:MOST])
        write_atomically(pictures, to_grid([pixels_of(path) for path in list(with_it.values())[:MOST]]))
    source = {"positives": str(len(shown)), "negatives": str(len(others)), "made_by": "guardrails screens train"}
    write_atomically(weights, to_safetensors(head, source))
    names = {"weights": weights.name, **({"thumbnails": pictures.name} if pictures else {})}
    write_atomically(output, _pack(concept, category, kind, action, owner, names).encode())
    read_pack(output)
    document = {
        "pack": str(output),
        "weights": str(weights),
        "thumbnails": str(pictures or ""),
        "encoder": encoder.id,
        "held_out": [one.to_json() for one in report],
    }
    _show(document, as_json=as_json)
    return 0


def _different(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by the SHA-256 of their bytes; the same file twice would be trained on and reported."""
    from guardrails.imaging.decoding import read_image_bytes

    return {hashlib.sha256(read_image_bytes(path)).hexdigest(): path for path in pictures_of([folder])}


def _embedded(encoder: Any, paths: list[Path], steps: Steps) -> Vectors:
    import numpy as np

    from guardrails.screens.views import letterbox

    return np.concatenate([encoder.embed([letterbox(pixels_of(path))]) for path in steps.each(paths, len(paths))])


def _pack(concept: str, category: str, kind: str, action: str, owner: str, names: dict[str, str]) -> str:
    """The document, in the syntax that people write: what it says came through the checks of the options."""
    import yaml

    document = {
        "api_version": "concepts/v1",
        "id": concept,
        "version": "1",
        "owner": owner,
        "concepts": [{"id": concept, "kind": kind, "category": category, "action": action, **names}],
    }
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _show(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    print_heading("TRAINED", document["pack"], style="green", explanation="Use it with --concepts, at once.")
    print_facts([("weights", document["weights"]), ("encoder", document["encoder"])])
    print_table(
        ("threshold", "caught of those held out", "at least (95 %)", "others accused", "at most (95 %)"),
        [
            (f"{1 - row['stated']:g}", f"{row['caught']} of {row['positives']}", f"{row['caught_lower_bound_95']:.0%}",
             f"{row['accused']} of {row['negatives']}", f"{row['accused_upper_bound_95']:.0%}")
            for row in document["held_out"]
        ],
    )  # fmt: skip
