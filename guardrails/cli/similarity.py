"""`guardrails similarity`: indexes of works and hash lists, what a picture resembles in them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails.cli.output import Steps, json_option, print_facts, print_heading, print_json, print_table
from guardrails.cli.similarity_semantic import semantic
from guardrails.errors import OptionError

if TYPE_CHECKING:
    from guardrails.imaging import Pixels
    from guardrails.similarity.banks import BankAnswer, BankMatch, BankPart, BankSettings
    from guardrails.similarity.comparing import Compared
    from guardrails.similarity.store import Store

EPILOG = """\b
Examples
  guardrails similarity build works photos/             hash a folder into the index `works`
  guardrails similarity import list hashes.csv --role sensitive
  guardrails similarity build logos brand/ --role protected   parts and composites are found, too
  guardrails similarity search picture.png works list
  guardrails similarity lookup ISCC:EEA4GQZQTY6J5DTH iscc-index
  guardrails similarity disable works photos/7.jpg --reason "claim 12"
"""

_SHOWN = 20
HASHES = ("pdq256", "sym256", "phash64", "dhash64", "iscc-image64")
_MATCH_COLUMNS = ("bank", "role", "entry", "distance", "region", "state", "rights")
banks_argument = click.argument("indexes", nargs=-1, required=True, type=click.Path(file_okay=False, path_type=Path))
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=_SHOWN, show_default=True, help="Matches of each index."
)
index_argument = click.argument("index", type=click.Path(file_okay=False, path_type=Path))
role_option = click.option(
    "--role",
    type=click.Choice(["works", "protected", "sensitive", "negative"]),
    help="What a match means.  [default: works]",
)
name_option = click.option("--name", help="In answers.  [default: the folder's name]")
keypoints_option = click.option(
    "--keypoints/--no-keypoints",
    default=None,
    help="Of a new index: also find parts of its works.  [default: in the role protected]",
)
radius_option = click.option("--radius", type=click.IntRange(0, 128), help="Hamming radius.  [default: by the hash]")


@click.group(name="similarity", epilog=EPILOG)
def command() -> None:
    """Build indexes of works and hash lists; find what a picture resembles."""


command.add_command(semantic)


@command.command()
@index_argument
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--hash",
    "algorithm",
    type=click.Choice(HASHES),
    default="pdq256",
    show_default=True,
    help="Of a new index; pdq256 is the one that others exchange.",
)
@role_option
@name_option
@radius_option
@keypoints_option
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes; more than one runs on Ray."
)
@json_option
def build(
    index: Path,
    sources: tuple[Path, ...],
    algorithm: str,
    role: str | None,
    name: str | None,
    radius: int | None,
    keypoints: bool | None,
    workers: int,
    as_json: bool,
) -> int:
    """Hash collections into INDEX; goes on where it was stopped. SOURCES are folders of pictures or of WebDataset
    tars, .tar, .parquet or .lance."""
    from guardrails.similarity.ingest import UNREADABLE, ingest
    from guardrails.similarity.keypoint_index import KeypointIndex
    from guardrails.similarity.sources import read_source

    # A wrong name is said before an index is made.
    collections = [(source.name, read_source(source)) for source in sources]
    if workers > 1 and (KeypointIndex.of(index) is not None or _wants_keypoints(role, keypoints)):
        raise OptionError("an index with keypoints is built by one process", hint="leave out --workers")
    store = _open_or_create(index, algorithm, role, name, radius, keypoints)
    pointed = KeypointIndex.of(index)
    reports = []
    if workers > 1:
        from guardrails.similarity.parallel import build_parallel

        with Steps("hashing", quiet=as_json) as progress:
            reports.append(build_parallel(store, sources, workers, progress.count)[0])
    else:
        for title, items in collections:
            with Steps(f"hashing {title}", quiet=as_json) as progress:
                reports.append(ingest(store, items, progress.count))
    unreadable = [one for report in reports for one in report.unreadable]
    counts = {
        "added": sum(report.added for report in reports),
        "known": sum(report.known for report in reports),
        "unhashable": sum(report.unhashable for report in reports),
        "unreadable": len(unreadable),
    }
    if as_json:
        print_json({"index": str(index), **counts, "keypoints": pointed is not None, "unreadable_list": unreadable})
        return 0
    print_heading("BUILT", str(index), style="green")
    print_facts(
        [
            ("added", f"{counts['added']:,}"),
            ("known before", f"{counts['known']:,}"),
            ("too plain to be found", f"{counts['unhashable']:,}"),
            ("unreadable", f"{counts['unreadable']:,}" + (f", see {index / UNREADABLE}" if unreadable else "")),
        ]
    )
    return 0


@command.command()
@index_argument
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--fact", "facts", multiple=True, metavar="NAME=VALUE", help="For example licence=CC-BY-4.0; repeatable.")
@json_option
def add(index: Path, pictures: tuple[Path, ...], facts: tuple[str, ...], as_json: bool) -> int:
    """Add PICTURES to INDEX under their file names; the next search of every process finds them."""
    from guardrails.imaging.decoding import read_image_bytes
    from guardrails.similarity.ingest import Intake
    from guardrails.similarity.sources import Item
    from guardrails.similarity.store import Store

    stated = dict(_fact(fact) for fact in facts)
    intake = Intake(Store.open(index))
    hashed = [intake.hash(Item(path.name, read_image_bytes(path), stated), measured=False) for path in pictures]
    intake.add(hashed)
    entries = [one.entry for one in hashed]
    plain = [entry.id for entry in entries if not entry.rows]
    if as_json:
        print_json({"index": str(index), "added": [entry.id for entry in entries], "unhashable": plain})
    else:
        print_heading("ADDED", str(index), style="green")
        print_facts(
            [("entry", entry.id + (" (too plain to be found)" if entry.id in plain else "")) for entry in entries]
        )
    return 0


def _state_command(verb: str, state: str, explanation: str) -> None:
    @command.command(name=verb, help=explanation)
    @index_argument
    @click.argument("entry")
    @click.option("--reason", default="", help="Kept beside the change.")
    @json_option
    def change(index: Path, entry: str, reason: str, as_json: bool) -> int:
        from guardrails.similarity.parts import State
        from guardrails.similarity.store import Store

        Store.open(index).set_state(entry, State(state), reason)
        if as_json:
            print_json({"index": str(index), "entry": entry, "state": state})
        else:
            print_heading(state.upper(), entry, style="green")
        return 0


_state_command("disable", "disabled", "ENTRY of INDEX is found no more, from the next search on.")
_state_command("enable", "active", "ENTRY of INDEX is found again; also takes back any other state.")
_state_command("confirm", "confirmed", "Matches with ENTRY of INDEX were looked at and are true.")
_state_command("deconfirm", "deconfirmed", "Matches with ENTRY of INDEX were looked at and are false: set aside.")


@command.command()
@click.argument("picture", type=click.Path(path_type=Path))
@banks_argument
@limit_option
@click.option(
    "--evidence", type=click.Path(dir_okay=False, path_type=Path), help="PNG of the picture with found parts framed."
)
@json_option
def search(picture: Path, indexes: tuple[Path, ...], limit: int, evidence: Path | None, as_json: bool) -> int:
    """What PICTURE resembles in INDEXES of one hash: candidates for a look; and what pixels say, where the works lie in
    a folder (`configure --pictures`)."""
    from guardrails.imaging.decoding import decode, read_image_bytes
    from guardrails.similarity.banks import Banks
    from guardrails.similarity.comparing import compare_answer
    from guardrails.similarity.fingerprints import Fingerprinter

    banks = Banks.open(indexes)
    decoded = decode(read_image_bytes(picture))
    fingerprint = Fingerprinter(banks.algorithm).fingerprint(decoded.pixels, decoded.alpha)
    answer = banks.match(fingerprint, decoded.pixels, limit=limit)
    compared = compare_answer(banks, answer, decoded.pixels)
    if evidence is not None and answer.parts:
        _write_parts(evidence, decoded.pixels, answer)
    if as_json:
        levels = [one.to_json() for one in compared]
        print_json({"picture": str(picture), "hash": banks.algorithm, "answer": answer, "compared": levels})
        return 0
    _print_answer(str(picture), answer)
    _print_compared(compared)
    return 0


@command.command()
@click.argument("code")
@banks_argument
@limit_option
@json_option
def lookup(code: str, indexes: tuple[Path, ...], limit: int, as_json: bool) -> int:
    """What is near CODE, a hash that somebody else computed, in INDEXES: hexadecimal digits, or an ISCC."""
    from guardrails.similarity.banks import Banks
    from guardrails.similarity.interchange import read_hash

    banks = Banks.open(indexes)
    try:
        parsed = read_hash(code, banks.algorithm)
    except ValueError as error:
        raise OptionError(f"{code!r} cannot be looked up: {error}", hint=f"give a {banks.algorithm}") from error
    answer = banks.look_up(parsed, limit=limit)
    if as_json:
        print_json({"code": code, "hash": banks.algorithm, "answer": answer})
        return 0
    _print_answer(code, answer)
    return 0


@command.command()
@index_argument
@click.option("--verify", is_flag=True, help="Recompute the SHA-256 of every file.")
@json_option
def info(index: Path, verify: bool, as_json: bool) -> int:
    """What INDEX holds."""
    from guardrails.similarity.parts import SegmentPart, State
    from guardrails.similarity.store import Store

    store = Store.open(index)
    if verify:
        store.verify()
    parts = store.parts
    states = [state for part in parts for state in part.states.values()]
    document = {
        "index": str(index),
        "hash": store.algorithm,
        "entries": len(store),
        "rows": sum(len(part.regions) for part in parts),
        "states": {state.value: states.count(state) for state in State if state is not State.ACTIVE},
        "segments": [part.segment.name for part in parts if isinstance(part, SegmentPart)],
        "settings": store.settings,
        "digest": store.digest,
        "verified": verify,
    }
    if as_json:
        print_json(document)
        return 0
    print_heading("INDEX", str(index), style="green")
    print_facts((name, _readable(value)) for name, value in document.items() if name != "index")
    return 0


@command.command(name="configure")
@index_argument
@role_option
@name_option
@radius_option
@click.option("--box-radius", type=click.IntRange(0, 128), help="Hamming radius of the peeled box.")
@click.option("--flood-limit", type=click.IntRange(0), help="Matches of one entry before it is set aside; 0 never.")
@click.option("--flood-seconds", type=click.IntRange(1), help="Within this time.")
@click.option("--thumbnail-bytes", type=click.IntRange(0), help="Largest thumbnail that is kept; 0 drops all.")
@click.option("--pictures", help="Folder with the works under their ids, for comparing pixels.")
@json_option
def configure(index: Path, as_json: bool, **changes: Any) -> int:
    """Change what a match with INDEX means."""
    from dataclasses import replace

    from guardrails.similarity.banks import BankSettings, Role
    from guardrails.similarity.store import Store
    from guardrails.similarity.thumbnails import Thumbnails

    store = Store.open(index)
    given = {name: value for name, value in changes.items() if value is not None}
    if "role" in given:
        given["role"] = Role(given["role"])
    before = BankSettings.from_json(store.settings)
    settings = replace(before, **given)
    if settings.hashes_only and not before.hashes_only and len(store):
        raise OptionError(
            f"{index} was filled before it became sensitive, and may hold more than hashes",
            hint="export its hashes, and import them into a new index with --role sensitive",
        )
    store.configure(settings.to_json())
    if not settings.thumbnail_limit:
        Thumbnails(index).drop()
    if as_json:
        print_json({"index": str(index), "settings": settings})
    else:
        print_heading("CONFIGURED", str(index), style="green")
        print_facts((name, str(value)) for name, value in settings.to_json().items())
    return 0


@command.command(name="import")
@index_argument
@click.argument("lists", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--hash",
    "algorithm",
    type=click.Choice(HASHES),
    default="pdq256",
    show_default=True,
    help="Of a new index.",
)
@click.option("--format", "list_format", type=click.Choice(["lines", "csv", "stopncii"]), help="[default: by the name]")
@role_option
@name_option
@radius_option
@json_option
def import_(
    index: Path,
    lists: tuple[Path, ...],
    algorithm: str,
    list_format: str | None,
    role: str | None,
    name: str | None,
    radius: int | None,
    as_json: bool,
) -> int:
    """Add hash LISTS to INDEX: ThreatExchange lines, CSV, StopNCII documents, ISCC. Hashes only, never pictures."""
    from guardrails.similarity.ingest import import_list
    from guardrails.similarity.interchange import ListFormat

    missing = [str(path) for path in lists if not path.is_file()]
    if missing:
        raise OptionError(f"{', '.join(missing)} is no file", hint="name hash lists")
    store = _open_or_create(index, algorithm, role, name, radius)
    chosen = None if list_format is None else ListFormat(list_format)
    reports = []
    for path in lists:
        with Steps(f"reading {path.name}", quiet=as_json) as progress:
            reports.append(import_list(store, path, chosen, progress.count))
    rejected = [one for report in reports for one in report.rejected]
    added, known = sum(report.added for report in reports), sum(report.known for report in reports)
    if as_json:
        print_json({"index": str(index), "added": added, "known": known, "rejected": rejected})
        return 0
    print_heading("IMPORTED", str(index), style="green")
    print_facts([("added", f"{added:,}"), ("known before", f"{known:,}"), ("rejected", f"{len(rejected):,}")])
    print_facts((f"line {one.line}", one.reason) for one in rejected[:_SHOWN])
    return 0


@command.command()
@index_argument
@click.option("--format", "list_format", type=click.Choice(["lines", "csv"]), default="csv", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="[default: standard output]")
@json_option
def export(index: Path, list_format: str, out: Path | None, as_json: bool) -> int:
    """Write the hashes of INDEX for others: lines as python-threatexchange reads them, or CSV."""
    import io

    from guardrails.files import write_atomically
    from guardrails.similarity.ingest import export_list
    from guardrails.similarity.interchange import ListFormat, write_list
    from guardrails.similarity.store import Store

    text = io.StringIO(newline="")
    write_list(text, export_list(Store.open(index)), ListFormat(list_format))
    if out is not None:
        write_atomically(out, text.getvalue().encode("utf-8"))
    if as_json:
        print_json(
            {"index": str(index), "list": text.getvalue()} if out is None else {"index": str(index), "out": str(out)}
        )
    elif out is None:
        sys.stdout.write(text.getvalue())
    return 0


def _open_or_create(
    index: Path, algorithm: str, role: str | None, name: str | None, radius: int | None, keypoints: bool | None = False
) -> Store:
    from guardrails.similarity.banks import Role
    from guardrails.similarity.keypoint_index import KeypointIndex
    from guardrails.similarity.pointer import POINTER
    from guardrails.similarity.store import Store

    if (index / POINTER).exists():
        if role is not None or name is not None or radius is not None or keypoints:
            raise OptionError(f"{index} exists already", hint="change it with `guardrails similarity configure`")
        return Store.open(index)
    wanted = _wants_keypoints(role, keypoints)
    if wanted and role == Role.SENSITIVE:
        raise OptionError("a sensitive index keeps hashes alone", hint="leave out --keypoints")
    if wanted and KeypointIndex.of(index) is None:
        # Before the index, which is there only when it is complete.
        KeypointIndex.create(index)
    return Store.create(index, algorithm, _settings(index, algorithm, role, name, radius).to_json())


def _wants_keypoints(role: str | None, keypoints: bool | None) -> bool:
    """Of a new index: as it was asked for, or else by its role."""
    from guardrails.similarity.banks import Role

    return role == Role.PROTECTED if keypoints is None else keypoints


def _settings(index: Path, algorithm: str, role: str | None, name: str | None, radius: int | None) -> BankSettings:
    from dataclasses import replace

    from guardrails.similarity.banks import BankSettings, Role

    settings = BankSettings.default(name or index.resolve().name, Role(role or "works"), algorithm)
    if radius is None:
        return settings
    return replace(settings, radius=radius, box_radius=min(radius, settings.box_radius))


def _fact(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (separator and name and value):
        raise OptionError(f"{text!r} is no fact", hint="write NAME=VALUE")
    return name, value


def _print_answer(asked: str, answer: BankAnswer) -> None:
    searched = ", ".join(
        f"{count:,} in {bank} (false candidates to be expected: {_expected(answer.expected_false[bank])})"
        for bank, count in answer.searched.items()
    )
    if answer.unhashable and not answer.parts:
        print_heading("UNHASHABLE", asked, style="yellow", explanation="too little detail: nothing was searched")
        return
    word, style = ("CANDIDATES", "yellow") if answer.matches or answer.parts else ("NONE FOUND", "green")
    print_heading(word, asked, style=style, explanation=f"searched {searched}")
    if answer.matches:
        print_table(_MATCH_COLUMNS, [_row(match) for match in answer.matches])
    if answer.parts:
        print_facts([("parts", "keypoints agree on where these works are")])
        print_table(
            ("bank", "role", "entry", "keypoints", "box", "orientation", "rights"),
            [_part(part) for part in answer.parts],
        )
    if answer.set_aside:
        print_facts([("set aside", "deconfirmed, quarantined, or nearer to a known harmless picture")])
        print_table(_MATCH_COLUMNS, [_row(match) for match in answer.set_aside])


def _print_compared(compared: list[Compared]) -> None:
    """What pixels say of the works that are at hand, and how often that is wrong."""
    seen = [(one, one.agreement.counts) for one in compared if one.agreement is not None]
    if not seen:
        return
    print_facts([("pixels", "compared with the works that are at hand")])
    rows = [
        (one.bank, one.id, one.match_state.value, str(one.grade), f"{counts.agreeing} of {counts.counted}", one.remark)
        for one, counts in seen
    ]
    print_table(("bank", "entry", "level", "grade", "tiles", "remark"), rows)
    rates = dict.fromkeys((one.match_state.value, one.error_rate) for one, _ in seen)
    print_facts((f"how often {level} is wrong", rate) for level, rate in rates)


def _expected(count: float | None) -> str:
    return "not measured" if count is None else f"{count:.2g}"


def _part(part: BankPart) -> tuple[str, ...]:
    located = part.located
    box = " ".join(f"{edge:.0%}" for edge in located.box)
    orientation = located.placement.orientation.name
    return part.bank, part.role.value, located.id, str(located.agreeing), box, orientation, _rights(part.facts)


def _write_parts(target: Path, pixels: Pixels, answer: BankAnswer) -> None:
    import io

    import numpy as np
    from PIL import Image

    from guardrails.files import write_atomically
    from guardrails.similarity.evidence import frame_part

    image = Image.fromarray(np.ascontiguousarray(pixels))
    for part in answer.parts:
        frame_part(image, part.located.box)
    data = io.BytesIO()
    image.save(data, "PNG")
    write_atomically(target, data.getvalue())


def _rights(facts: Mapping[str, str]) -> str:
    from guardrails.similarity.stated_rights import stated_rights

    stated = stated_rights(facts)
    return ", ".join(filter(None, (stated.licence, stated.creator, stated.reservation)))


def _row(match: BankMatch) -> tuple[str, ...]:

    found = match.found
    return (
        match.bank,
        match.role.value,
        found.id,
        str(found.distance),
        found.region.name.lower(),
        found.state.value,
        _rights(found.facts),
    )


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
