"""`guardrails manifests`: the repository of kept manifests, and files that get theirs back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails import home as homes
from guardrails.cli.output import (
    Steps,
    home_option,
    json_option,
    print_facts,
    print_heading,
    print_json,
    print_table,
)
from guardrails.cli.status import NOT_CONFIRMED
from guardrails.cli.verify import images_of
from guardrails.errors import OptionError

if TYPE_CHECKING:
    from guardrails.audit.keeping import Kept
    from guardrails.provenance.repository import Entry

EPILOG = """\b
Examples
  guardrails manifests add out
  guardrails manifests list --limit 5
  guardrails manifests find picture.jpg
  guardrails manifests find 3f2a9c0d11e84b57
  guardrails manifests recover stripped.png --out whole.png
"""


@click.group(name="manifests", epilog=EPILOG)
def command() -> None:
    """Keep manifests, find them again, and give stripped files theirs back."""


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--untrusted", is_flag=True, help="Also keep intact manifests of signers that are not trusted here.")
@click.option("--trust", multiple=True, type=click.Path(path_type=Path), help="Further trust anchors (PEM).")
@home_option
@json_option
def add(files: tuple[Path, ...], untrusted: bool, trust: tuple[Path, ...], home: Path | None, as_json: bool) -> int:
    """Keep the manifests of signed FILES; folders stand for the images in them. What `generate` makes is kept already.

    Exits with 0 only when every file's manifest is kept now.
    """
    paths = [path for file in files for path in images_of(file)]
    from guardrails.audit.keeping import Keeper
    from guardrails.provenance import TrustStore

    keeper = Keeper.open(home, trust=TrustStore.pem(*trust) if trust else None, untrusted=untrusted)
    results: list[Kept] = []
    with Steps("keeping manifests", quiet=as_json) as progress:
        results.extend(keeper.keep(path) for path in progress.each(paths, len(paths)))
    if as_json:
        print_json(results)
    else:
        print_table(
            ("file", "", "manifest", "why"),
            [(str(r.source), "kept" if r.kept else "NOT KEPT", r.manifest_id, r.why) for r in results],
        )
        counts = Counter("kept" if result.kept else "not kept" for result in results)
        print_facts([(name, str(count)) for name, count in counts.items()])
    return 0 if all(result.kept for result in results) else NOT_CONFIRMED


@command.command(name="list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@home_option
@json_option
def list_entries(limit: int, home: Path | None, as_json: bool) -> int:
    """The manifests that were kept last."""
    from guardrails.provenance.repository import Repository

    with Repository(_folder(home), create=False) as repository:
        entries, total = repository.newest(limit), len(repository)
    if as_json:
        print_json({"size": total, "manifests": [_document(entry) for entry in entries]})
        return 0
    print_table(
        ("manifest", "watermark id", "bytes", "kept"),
        [(e.manifest_id, e.mark_id, str(len(e.container)), e.added_at) for e in entries],
    )
    print_facts([("manifests", f"{len(entries)} of {total}")])
    return 0


@command.command()
@click.argument("what")
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True, help="How many, nearest first.")
@home_option
@json_option
def find(what: str, limit: int, home: Path | None, as_json: bool) -> int:
    """Kept manifests for WHAT: an image file, a manifest id, a watermark id or an ISCC code.

    Exits with 0 when something was found.
    """
    from guardrails.audit.matching import Matcher

    matches = Matcher.open(home).find(what, limit=limit)
    if as_json:
        print_json(matches)
    else:
        print_table(
            ("manifest", "found by", "score", "ISCC bits", "PDQ bits"),
            [(m.manifest_id, m.found_by, str(m.score), _bits(m.iscc_bits), _bits(m.pdq_bits)) for m in matches],
        )
        print_facts([("found", str(len(matches)))])
    return 0 if matches else NOT_CONFIRMED


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Where to write.  [default: FILE.recovered.<suffix>]")
@home_option
@json_option
def recover(file: Path, out: Path | None, home: Path | None, as_json: bool) -> int:
    """Give FILE its manifest back.

    Where only the manifest was cut out, the signed file is written again, byte for byte. Else the kept manifest is
    written beside it (.c2pa), with how sure it is that the two belong together. Exits with 0 unless nothing, or only a
    candidate, was found.
    """
    from guardrails.audit.restoring import restore

    restored = restore(file, out, home=home)
    if as_json:
        print_json(restored)
        return 0 if restored.is_sure else NOT_CONFIRMED
    recovery = restored.recovery
    if recovery is None:
        print_heading("NOT FOUND", str(file), style="yellow", explanation="No kept manifest belongs to this file.")
        return NOT_CONFIRMED
    style = "green" if restored.is_sure else "yellow"
    print_heading(recovery.level.value.replace("_", " ").upper(), str(file), style=style)
    print_facts(
        [
            ("written", restored.target),
            ("manifest", f"{recovery.manifest.manifest_id}: {recovery.manifest.status.value}"),
            ("", recovery.manifest.explanation),
            ("found by", recovery.found_by),
            ("wrong", recovery.error_rate),
        ]
    )
    return 0 if restored.is_sure else NOT_CONFIRMED


@command.command()
@click.argument("manifest_id")
@home_option
@json_option
def remove(manifest_id: str, home: Path | None, as_json: bool) -> int:
    """Forget a kept manifest."""
    from guardrails.provenance.repository import Repository

    folder = _folder(home)
    Repository(folder, create=False).close()
    with Repository(folder) as repository:
        removed = repository.remove(manifest_id)
    if not removed:
        raise OptionError(f"no manifest {manifest_id!r} is kept", hint="see `guardrails manifests list`")
    if as_json:
        print_json({"removed": manifest_id})
    else:
        print_heading("REMOVED", manifest_id, style="green")
    return 0


def _folder(home: Path | None) -> Path:
    return homes.manifests_folder(home or homes.home())


def _document(entry: Entry) -> dict[str, Any]:
    return {
        "manifest_id": entry.manifest_id,
        "mark_id": entry.mark_id,
        "iscc": entry.fingerprints.iscc.hex(),
        "pdq": entry.fingerprints.pdq.hex(),
        "bytes": len(entry.container),
        "reattachable": entry.start is not None,
        "added_at": entry.added_at,
    }


def _bits(count: int | None) -> str:
    return "" if count is None else str(count)
