"""`guardrails seal`: sign finished picture files, many at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails import home as homes
from guardrails.cli.output import Steps, home_option, json_option, print_facts, print_heading, print_json
from guardrails.cli.picture_files import pictures_of
from guardrails.cli.status import INVALID
from guardrails.errors import InputError, OptionError, SigningError

if TYPE_CHECKING:
    from guardrails.provenance import Signer

EPILOG = """\b
Each picture is signed as it is: the manifest says that we had it, not how it was made. A manifest that it carries
already is kept as its parent. Files that are in the output folder already are kept, so that a run can be repeated.

\b
Examples
  guardrails seal photos --out sealed
  guardrails seal a.png b.jpg --out sealed --chain chain.pem --key key.pem
"""


@click.command(name="seal", epilog=EPILOG)
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option("--chain", type=click.Path(path_type=Path), help="PEM certificates, leaf first.  [default: own]")
@click.option("--key", type=click.Path(path_type=Path), help="PEM private key of --chain.")
@click.option("--password-file", type=click.Path(path_type=Path), help="First line: the password of --key.")
@home_option
@json_option
def command(
    sources: tuple[Path, ...],
    out: Path,
    chain: Path | None,
    key: Path | None,
    password_file: Path | None,
    home: Path | None,
    as_json: bool,
) -> int:
    """Sign SOURCES (files, or folders of them) into another folder.

    Exits with 0 when every file is there, signed; with 2 when one could not be read or signed.
    """
    from guardrails.provenance.opening import open_signer

    signer = open_signer(homes.keys_folder(home or homes.home()), chain, key, password_file)
    work = list(_targets(sources, out))
    results = []
    with Steps("sealing", quiet=as_json) as steps:
        for source, target in steps.each(work, len(work)):
            results.append(_seal(signer, source, target))
    if as_json:
        print_json(results)
    else:
        _show(results, out)
    return INVALID if any(result["state"] == "failed" for result in results) else 0


def _targets(sources: tuple[Path, ...], out: Path) -> Iterator[tuple[Path, Path]]:
    """Each picture and where it goes; the layout of a folder is kept."""
    taken: set[Path] = set()
    for source in sources:
        if source.is_dir():
            found = [path for path in pictures_of([source]) if out not in path.parents]
            pairs = [(path, out / path.relative_to(source)) for path in found]
        else:
            pairs = [(source, out / source.name)]
        for path, target in pairs:
            if target in taken or (target.exists() and target.samefile(path)):
                raise OptionError(
                    f"{path} would be written to {target}, which is another picture's place or its own",
                    hint="choose another folder with --out",
                )
            taken.add(target)
            yield path, target


def _seal(signer: Signer, source: Path, target: Path) -> dict[str, Any]:
    result = {"source": str(source), "target": str(target)}
    if target.exists():
        return {**result, "state": "kept"}
    try:
        return {**result, "state": "sealed", "manifest_id": _sign(signer, source, target)}
    except (InputError, SigningError) as error:
        return {**result, "state": "failed", **error.to_json()}


def _sign(signer: Signer, source: Path, target: Path) -> str:
    from guardrails.domain.identity import ImageId
    from guardrails.imaging.decoding import decode, read_image_bytes
    from guardrails.provenance import ManifestSpec, Source, image_code
    from guardrails.version import __version__

    picture = decode(read_image_bytes(source))
    spec = ManifestSpec.handed_on(
        image_id=ImageId.new(),
        original=Source(path=source, mime=picture.format.mime),
        fingerprint=image_code(picture.pixels),
        version=__version__,
    )
    signer.sign_file(source, target, picture.format.mime, spec)
    return spec.manifest_id


def _show(results: list[dict[str, Any]], out: Path) -> None:
    count = {state: sum(result["state"] == state for result in results) for state in ("sealed", "kept", "failed")}
    summary = ", ".join(f"{number} {state}" for state, number in count.items() if number)
    style = "red" if count["failed"] else "green"
    print_heading("SEALED", str(out), style=style, explanation=f"{summary or 'no picture found'}.")
    print_facts((result["source"], result["error"]["message"]) for result in results if result["state"] == "failed")
