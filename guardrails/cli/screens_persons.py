"""`guardrails screens enrol`, `forget` and `persons`: whom the face gallery knows."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guardrails import home as homes
from guardrails.cli.output import home_option, json_option, print_facts, print_heading, print_json, print_table
from guardrails.cli.picture_files import pixels_of
from guardrails.cli.status import NOT_CONFIRMED

if TYPE_CHECKING:
    from guardrails.imaging import Pixels
    from guardrails.screens.gallery import Embedded, Person

_BASES = ("consent", "contract", "legal-obligation", "public-interest", "legitimate-interest")
ENROL_EPILOG = """\b
Only numbers are kept, never the pictures: of the faces, of the whole pictures and of the names that the policy's
registries have for the id. The id should be the one that these registries use, so that a prompt that names the person
and a face that shows the person are joined.

\b
Example
  guardrails screens enrol a.jpg b.jpg --id enwiki:Jane_Doe --born 1970-01-31 --legal-basis consent \\
    --note "consent form 17, filed 2026-11-02" --keep-until 2028-11-01
"""


@click.command(epilog=ENROL_EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--id", "person_id", required=True, help="Of the registry entry, for example enwiki:Jane_Doe.")
@click.option("--born", required=True, help="ISO date; minors are refused.")
@click.option("--legal-basis", required=True, type=click.Choice(_BASES))
@click.option("--note", required=True, help="Where the consent or the assessment is filed.")
@click.option("--keep-until", required=True, help="ISO date of the last day.")
@click.option("--policy", default="default", show_default=True, help="Whose registries know the name of the id.")
@click.option("--encoder", default="offline-clip", show_default=True, help="For the prior, as your screens use it.")
@home_option
@json_option
def enrol(
    files: tuple[Path, ...],
    person_id: str,
    born: str,
    legal_basis: str,
    note: str,
    keep_until: str,
    policy: str,
    encoder: str,
    home: Path | None,
    as_json: bool,
) -> int:
    """Enrol a person by pictures FILES, each with the one face that is meant."""
    import numpy as np

    from guardrails.errors import OptionError
    from guardrails.imaging.decoding import read_image_bytes
    from guardrails.screens.faces import THRESHOLD, FaceFinder
    from guardrails.screens.gallery import Gallery, Person, check_enrolment

    today = datetime.date.today()
    check_enrolment(born=born, legal_basis=legal_basis, note=note, keep_until=keep_until, today=today)
    finder, rows, pictures, sources = FaceFinder(), [], [], []
    for path in files:
        pictures.append(pixels_of(path))
        faces = finder.find(pictures[-1])
        if len(faces) != 1:
            raise OptionError(f"{path} shows {len(faces)} faces", hint="give pictures with the one face that is meant")
        rows.append(faces[0].vector)
        sources.append(hashlib.sha256(read_image_bytes(path)).hexdigest())
    apart = max((float(np.linalg.norm(a - b)) for a in rows for b in rows), default=0.0)
    if apart >= THRESHOLD:
        raise OptionError(
            f"the pictures show different persons (distance {apart:.2f})", hint="leave out the one that is not meant"
        )
    seen, named, missing = _for_the_prior(encoder, pictures, _names(policy, person_id))
    person = Person(
        id=person_id,
        faces=np.stack(rows),
        born=born,
        legal_basis=legal_basis,
        note=note,
        keep_until=keep_until,
        enrolled_on=today.isoformat(),
        sources=tuple(sources),
        pictures=seen,
        names=named,
    )
    Gallery(homes.faces_folder(home or homes.home())).add(person)
    if as_json:
        print_json({"id": person_id, "faces": len(rows), "spread": round(apart, 4), "keep_until": keep_until,
                    "prior": {**_counts(person), "missing": missing}})  # fmt: skip
        return 0
    print_heading("ENROLLED", person_id, style="green")
    print_facts(
        [
            ("faces", str(len(rows))),
            ("largest distance", f"{apart:.3f}"),
            ("prior", f"{_prior(person)}{'; ' if missing else ''}{missing}"),
            ("until", keep_until),
        ]
    )
    return 0


def _names(policy: str, person_id: str) -> list[str]:
    """What the policy's registries call the person."""
    from guardrails.policy import load_policy
    from guardrails.policy.registries import open_registry

    return [name for ref in load_policy(policy).registries for name in open_registry(ref).names(person_id)]


def _for_the_prior(
    encoder: str, pictures: Sequence[Pixels], names: Sequence[str]
) -> tuple[Embedded | None, Embedded | None, str]:
    """Vectors of the pictures and of the names, and why one of them is missing."""
    from guardrails.encoders import load_encoder, text_side
    from guardrails.errors import ModelUnavailable
    from guardrails.screens.prior import embed_names, embed_pictures
    from guardrails.screens.views import letterbox

    try:
        images = load_encoder(encoder)
        seen = embed_pictures(images, [letterbox(pixels) for pixels in pictures])
    except ModelUnavailable as error:
        return None, None, error.message
    try:
        text = text_side(images)
    except ModelUnavailable as error:
        return seen, None, error.message
    if text is None:
        return seen, None, "the encoder has no text side"
    if not names:
        return seen, None, "no registry of the policy has this id"
    return seen, embed_names(text, names), ""


def _counts(person: Person) -> dict[str, int]:
    return {
        "pictures": 0 if person.pictures is None else len(person.pictures.vectors),
        "names": 0 if person.names is None else len(person.names.vectors),
    }


def _prior(person: Person) -> str:
    counts = _counts(person)
    words = [f"{count} {what if count > 1 else what[:-1]}" for what, count in counts.items() if count]
    return ", ".join(words) or "not available"


@click.command()
@click.argument("person_id")
@home_option
@json_option
def forget(person_id: str, home: Path | None, as_json: bool) -> int:
    """Remove the person PERSON_ID. Exits with 4 when nobody is enrolled under this id."""
    from guardrails.screens.gallery import Gallery

    there = Gallery(homes.faces_folder(home or homes.home())).remove(person_id)
    if as_json:
        print_json({"id": person_id, "removed": there})
    else:
        print_heading("FORGOTTEN" if there else "NOT ENROLLED", person_id, style="green" if there else "yellow")
    return 0 if there else NOT_CONFIRMED


@click.command()
@click.option("--purge", is_flag=True, help="First remove everybody whose retention is over.")
@home_option
@json_option
def persons(purge: bool, home: Path | None, as_json: bool) -> int:
    """List who is enrolled, on which legal basis and until when."""
    from guardrails.screens.gallery import Gallery

    gallery, today = Gallery(homes.faces_folder(home or homes.home())), datetime.date.today()
    purged = gallery.purge(today) if purge else []
    known, over = gallery.persons(today), gallery.over(today)
    if as_json:
        print_json(
            {
                "purged": purged,
                "over": over,
                "persons": [
                    {"id": one.id, "faces": len(one.faces), "legal_basis": one.legal_basis, "note": one.note,
                     "keep_until": one.keep_until, "enrolled_on": one.enrolled_on, "prior": _counts(one)}
                    for one in known
                ],
            }
        )  # fmt: skip
        return 0
    for person_id in purged:
        print_heading("FORGOTTEN", person_id, style="green")
    print_table(
        ("person", "faces", "prior", "legal basis", "until"),
        [(one.id, str(len(one.faces)), _prior(one), one.legal_basis, one.keep_until) for one in known],
    )
    for person_id in over:
        print_heading("OVER", person_id, style="yellow", explanation="Not matched any more; --purge removes the file.")
    return 0
