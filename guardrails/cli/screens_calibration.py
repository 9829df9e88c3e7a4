"""`guardrails screens calibrate`, `verify` and `report`: how often safe pictures are accused, and whether that still
holds."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import Steps, json_option, print_heading, print_json, print_table
from guardrails.cli.picture_files import pictures_of, pixels_of
from guardrails.cli.status import NOT_CONFIRMED

if TYPE_CHECKING:
    from guardrails.screens.calibration import Rate, Scored
    from guardrails.screens.clip_concepts import ClipConcepts
    from guardrails.screens.heads import Vectors
    from guardrails.screens.references import Domain

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
CALIBRATE_EPILOG = """\b
Every second picture becomes a reference that scores are measured against; the others are counted. 600 safe pictures
are needed to say anything about a rate of 1 %.

\b
Example
  guardrails screens calibrate our-safe-pictures --domain products --output products.npz
  guardrails screens verify newer-safe-pictures --references products.npz
"""
VERIFY_EPILOG = """\b
Exits with 4 when a stated rate is certainly exceeded, when the pictures score certainly higher than the references do,
when too many lie outside of what was calibrated, or when two groups of --slices are certainly treated differently.
"""
MOST_OUTSIDE = 0.25
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# What else stands in a reference file, and how numpy calls the file itself.
_TAKEN = frozenset({"encoder", "ids", "file"})
_encoder = click.option("--encoder", default="offline-clip", show_default=True, help="Which heads look with.")
_concepts = click.option("--concepts", multiple=True, type=_FILE, help="Concept packs.  [default: the shipped one]")


@click.command(epilog=CALIBRATE_EPILOG)
@click.argument("pictures", type=_FOLDER)
@click.option("--domain", required=True, help="Name of this kind of picture, for example products.")
@click.option("--output", required=True, type=_FILE, help="References with this domain added.")
@click.option("--alone", is_flag=True, help="Leave out the shipped domains.")
@_encoder
@_concepts
@json_option
def calibrate(
    pictures: Path, domain: str, output: Path, alone: bool, encoder: str, concepts: tuple[Path, ...], as_json: bool
) -> int:
    """Calibrate every concept on the safe pictures in a folder."""
    import tempfile

    import numpy as np

    from guardrails.errors import OptionError
    from guardrails.files import write_atomically
    from guardrails.screens.calibration import ceilings, count, score_all
    from guardrails.screens.references import pack_references

    if not _DOMAIN.fullmatch(domain) or domain in _TAKEN:
        raise OptionError(f"{domain!r} cannot be the name of a domain", hint="lower-case letters, digits, hyphens")
    screen = _screen(encoder, concepts, None)
    identity = screen.encoder().id
    shipped = () if alone else _shipped(identity)
    shown = _embedded(screen, pictures, quiet=as_json)
    own = np.stack([vectors[0] for vectors in shown[::2]])
    domains = {**{one.name: one.vectors for one in shipped}, domain: own}
    ids = {one.name: one.ids for one in shipped if one.name != domain}
    packed = pack_references(identity, domains, ids)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "references.npz"
        trial.write_bytes(packed)
        scored = score_all(_screen(encoder, concepts, trial).calibrated(), shown[1::2], identity)
    rates = count(scored, domain)
    write_atomically(output, packed)
    card = {
        "references": output.name,
        "encoder": identity,
        "domain": domain,
        "calibrated_on": len(own),
        "ceilings": ceilings({name: len(vectors) for name, vectors in domains.items()}),
        "outside": scored.abstained,
        "rates": [{"concept": rate.concept, **rate.to_json()} for rate in rates],
    }
    write_atomically(output.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    _show(rates, scored, as_json=as_json, title="CALIBRATED", more=card)
    return 0


@click.command(epilog=VERIFY_EPILOG)
@click.argument("pictures", type=_FOLDER)
@click.option("--references", type=_FILE, help="Made by `calibrate`.  [default: the shipped ones]")
@click.option("--slices", type=_FILE, help="CSV with the columns file and group: are groups treated alike?")
@_encoder
@_concepts
@json_option
def verify(
    pictures: Path,
    references: Path | None,
    slices: Path | None,
    encoder: str,
    concepts: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Check on other safe PICTURES that the stated rates still hold."""
    from guardrails.domain.calibration import can_state
    from guardrails.screens.calibration import LARGEST_GAP, RATES, certain, count, drifts, gaps, score_all
    from guardrails.screens.calibration import slices as count_slices

    screen = _screen(encoder, concepts, references)
    named = _groups(slices, pictures) if slices else []
    shown = _embedded(screen, pictures, quiet=as_json)
    scored = score_all(screen.calibrated(), shown, screen.encoder().id)
    inside = len(shown) - scored.abstained
    stated = [rate for rate in RATES if can_state(rate, inside)]
    # Enough pictures of which nearly all lie outside are no rate, and a finding.
    rates = [] if not stated and can_state(max(RATES), len(shown)) else count(scored, pictures.name, stated or RATES)
    problems = [
        f"{rate.concept}: {rate.hits} of {rate.n} where {rate.stated:.0%} is stated" for rate in rates if rate.broken
    ]
    moved = drifts(screen.calibrated(), shown, screen.encoder().id)
    problems += [
        f"{one.concept}: {one.hits} of {one.n} {one.domain} score above all but {one.rank - 1} of {one.references} "
        f"references, which chance does once in {1 / max(one.p, 1e-12):.0f} times"
        for one in certain(moved)
    ]
    outside = scored.abstained / len(shown)
    if outside > MOST_OUTSIDE:
        problems.append(f"{outside:.0%} of the pictures lie outside of what was calibrated")
    groups = count_slices(scored, named) if named else []
    problems += [
        f"{concept}: two groups differ by at least {gap:.1%}"
        for concept, gap in gaps(groups).items()
        if gap > LARGEST_GAP
    ]
    more = {
        "problems": problems,
        "drift": [one.to_json() for one in moved],
        "outside": scored.abstained,
        "slices": [
            {"concept": one.concept, "group": one.name, "hits": one.hits, "n": one.n, "interval_95": one.interval}
            for one in groups
        ],
    }
    _show(rates, scored, as_json=as_json, title="DRIFTED" if problems else "HOLDS", more=more)
    return NOT_CONFIRMED if problems else 0


@click.command()
@click.option("--card", type=_FILE, help="Made by `calibrate`.  [default: that of the shipped concepts]")
@click.option("--policy", default="default", show_default=True, help="Whose thresholds must be within reach.")
@json_option
def report(card: Path | None, policy: str, as_json: bool) -> int:
    """Show what the concepts were calibrated and counted on, and thresholds of the policy that no score can reach."""
    from guardrails.domain.calibration import CONFIDENCE
    from guardrails.policy import load_policy
    from guardrails.policy.ceilings import never_reached
    from guardrails.resources import datasets_path

    document, rates = _read_card(card or datasets_path("screens", "clip-concepts.json"))
    unreached: dict[str, list[str]] = {}
    for one in never_reached(
        load_policy(policy).screen_rules, {rate["concept"] for rate in rates}, document.get("ceilings", {})
    ):
        unreached.setdefault(one.rule, []).append(str(one))
    warnings = {rule: "; ".join(reasons) for rule, reasons in unreached.items()}
    if as_json:
        print_json({**document, "never_reached": warnings})
        return 0
    print_table(
        ("concept", "safe pictures", "stated", "counted", f"upper bound ({CONFIDENCE:.0%})"),
        [_row(rate) for rate in rates],
    )
    for domain, ceiling in document.get("ceilings", {}).items():
        click.echo(f"No score of {domain} exceeds {ceiling:.4f}.")
    for rule, warning in warnings.items():
        click.echo(f"WARNING {rule}: {warning}")
    return 0


def _read_card(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What `calibrate` or the building of the shipped references wrote, and its rates as one list."""
    from guardrails.errors import OptionError

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rates = document.get("rates") or [
            {"concept": concept, **rate} for concept, entry in document["concepts"].items() for rate in entry["rates"]
        ]
        for rate in rates:
            _row(rate)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise OptionError(
            f"{path} is no card of a calibration: {error}", hint="give the .json that `calibrate` put beside its output"
        ) from error
    return document, rates


def _row(rate: dict[str, Any]) -> tuple[str, ...]:
    return (
        rate["concept"],
        rate["domain"],
        f"{rate['stated']:.0%}",
        f"{rate['hits']} of {rate['n']} ({rate['hits'] / rate['n']:.1%})",
        f"{rate['upper_bound_95']:.1%}",
    )


def _screen(encoder: str, concepts: Sequence[Path], references: Path | None) -> ClipConcepts:
    from guardrails.encoders import load_encoder
    from guardrails.screens.clip_concepts import ClipConcepts
    from guardrails.screens.concepts import read_pack

    packs = [read_pack(path) for path in concepts] or None
    return ClipConcepts(packs=packs, encoder=load_encoder(encoder), references=references)


def _shipped(encoder: str) -> tuple[Domain, ...]:
    """The shipped domains, where the same encoder made them: vectors of another one mean nothing beside these."""
    from guardrails.errors import OptionError
    from guardrails.resources import datasets_path
    from guardrails.screens.clip_concepts import REFERENCES
    from guardrails.screens.references import read_references

    references = read_references(datasets_path(*REFERENCES))
    if references.encoder != encoder:
        raise OptionError(
            f"the shipped domains belong to the encoder {references.encoder}, not to {encoder}",
            hint="leave them out with --alone",
        )
    return references.domains


def _embedded(screen: ClipConcepts, folder: Path, *, quiet: bool) -> list[Vectors]:
    """The vectors of the views of every picture of a folder, in the order of their names."""
    from guardrails.cli.verify import images_of
    from guardrails.screens.views import views

    paths, encoder = images_of(folder), screen.encoder()
    with Steps("Looking", quiet=quiet) as steps:
        return [
            encoder.embed([view.pixels for view in views(pixels_of(path))]) for path in steps.each(paths, len(paths))
        ]


def _groups(slices: Path, folder: Path) -> list[str]:
    """The group of every picture, "" where none is named."""
    from guardrails.errors import OptionError

    try:
        with slices.open(newline="", encoding="utf-8") as file:
            group = {row["file"]: row["group"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise OptionError(
            f"{slices} names no groups: {error}", hint="write a CSV file with the columns file and group"
        ) from error
    names = [path.relative_to(folder).as_posix() for path in pictures_of([folder])]
    if unknown := group.keys() - set(names):
        raise OptionError(
            f"{slices} names {min(unknown)!r}, which is no picture of {folder}, and {len(unknown) - 1} more",
            hint=f"write paths below {folder}",
        )
    return [group.get(name, "") for name in names]


def _show(rates: Sequence[Rate], scored: Scored, *, as_json: bool, title: str, more: dict[str, Any]) -> None:
    if as_json:
        print_json({"rates": [{"concept": rate.concept, **rate.to_json()} for rate in rates], **more})
        return
    style = "red" if more.get("problems") else "green"
    print_heading(title, f"{len(scored.domains)} pictures, {scored.abstained} outside of every domain", style=style)
    print_table(
        ("concept", "stated", "counted", "upper bound (95%)"),
        [(rate.concept, f"{rate.stated:.0%}", f"{rate.hits} of {rate.n}", f"{rate.upper:.1%}") for rate in rates],
    )
    for problem in more.get("problems", ()):
        click.echo(f"  {problem}")
