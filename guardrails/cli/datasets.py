"""`guardrails datasets`: what a training set holds, whose it is, and who objects."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from guardrails import home as homes
from guardrails.cli.output import Steps, home_option, json_option, print_facts, print_heading, print_json, print_table
from guardrails.cli.status import NOT_CONFIRMED
from guardrails.errors import OptionError

if TYPE_CHECKING:
    from guardrails.audit.collection import Collection
    from guardrails.audit.dataset_check import DatasetReport, SiteRules

POCKET = "pocket"
SHOWN_GROUPS = 10
EPILOG = """\b
DATASET is a CSV table, a folder with a manifest.csv, a folder of pictures, or the word
pocket: the shipped collection, with its pictures where they have been rebuilt.

\b
Examples
  guardrails datasets check pictures --hash-list list.txt --out report
  guardrails datasets card pocket --out card.md
  guardrails datasets opt-out works/manifest.csv w17 --by "rights desk" --reason "claim 204"
"""

dataset_argument = click.argument("dataset", type=click.Path(path_type=Path))
_CHECKING = (
    dataset_argument,
    click.option("--tdmrep", multiple=True, type=click.Path(path_type=Path), help="The site's tdmrep.json."),
    click.option("--ai-txt", multiple=True, type=click.Path(path_type=Path), help="The site's ai.txt."),
    click.option("--hash-list", type=click.Path(path_type=Path), help="PDQ codes that must not be in the set."),
    home_option,
    json_option,
)


def _checking(command: Callable[..., int]) -> Callable[..., int]:
    """Lets a command be asked about a data set: it gets the collection and the report of its check."""

    @functools.wraps(command)
    def run(
        dataset: Path,
        tdmrep: tuple[Path, ...],
        ai_txt: tuple[Path, ...],
        hash_list: Path | None,
        home: Path | None,
        as_json: bool,
        **options: Any,
    ) -> int:
        collection = _open(dataset, home)
        report = _check(collection, tdmrep, ai_txt, hash_list, home, quiet=as_json)
        return command(collection, report, as_json=as_json, **options)

    for decorate in reversed(_CHECKING):
        run = decorate(run)
    return run


@click.group(name="datasets", epilog=EPILOG)
def command() -> None:
    """Audit a training set: licences, gaps, repeats, opt-outs, hash lists."""


@command.command()
@_checking
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for report.json and index.html.")
def check(collection: Collection, report: DatasetReport, out: Path | None, as_json: bool) -> int:
    """Check every work of DATASET; exits with 0 only when nobody needs to look at anything."""
    from guardrails.domain.canonical import to_plain

    if out is not None:
        from guardrails.cli.datasets_page import write_page
        from guardrails.files import write_atomically

        plain = json.dumps(to_plain(report), indent=1, sort_keys=True) + "\n"
        write_atomically(out / "report.json", plain.encode("utf-8"))
        write_page(report, collection, out)
    if as_json:
        print_json(report)
    else:
        _show(report, out)
    return NOT_CONFIRMED if report.problems else 0


@command.command()
@_checking
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File, .md or .json.  [default: print]")
@click.option("--provider", default="", help="Name of the model's provider.")
@click.option("--contact", default="", help="How to reach them.")
@click.option("--model", default="", help="What was or will be trained.")
@click.option("--collected", default="", help="When and how the works were collected.")
@click.option("--user-data", default="", help="What of it came from users.")
@click.option("--synthetic", default="", help="What of it was made by a model.")
@click.option("--illegal-content", default="", help="What was done against illegal content.")
def card(
    collection: Collection, report: DatasetReport, out: Path | None, as_json: bool, provider: str, **stated: str
) -> int:
    """Write the card of DATASET: the fields of the EU's summary of training content."""
    from guardrails.audit.dataset_card import Provider, as_markdown, dataset_card
    from guardrails.files import write_atomically

    known = {name: text for name, text in {"name": provider, **stated}.items() if text}
    made = dataset_card(report, Provider(**known), _now())
    as_json = as_json or (out is not None and out.suffix == ".json")
    text = json.dumps(made, indent=2) + "\n" if as_json else as_markdown(made)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomically(out, text.encode("utf-8"))
        click.echo(f"wrote {out}", err=True)
    return 0


@command.command(name="opt-out")
@dataset_argument
@click.argument("works", nargs=-1, required=True)
@click.option("--by", required=True, help="Who writes this down.")
@click.option("--reason", required=True, help="Why, for whoever reads the journal later.")
@click.option(
    "--source", default="claim", show_default=True, help="Where the owner said it, for example a claim's number."
)
@click.option("--withdraw", is_flag=True, help="The owner takes an earlier claim of this source back.")
@click.option("--remove", is_flag=True, help="Also move the rows to removed.csv, so that nothing learns from them.")
@home_option
@json_option
def opt_out(
    dataset: Path,
    works: tuple[str, ...],
    by: str,
    reason: str,
    source: str,
    withdraw: bool,
    remove: bool,
    home: Path | None,
    as_json: bool,
) -> int:
    """Write down that the owners of WORKS object; takes effect when the table or its index is opened next."""
    from guardrails.audit.removal import remove_works
    from guardrails.domain.rights import Permission, Signal, SignalKind
    from guardrails.similarity.optouts import JOURNAL, OptOut, append_opt_outs

    if withdraw and remove:
        raise OptionError("--withdraw and --remove contradict each other", hint="choose one")
    collection = _open(dataset, home)
    if collection.table is None:
        raise OptionError(f"{dataset} has no table", hint="write a manifest.csv with the columns id and name")
    unknown = sorted(set(works) - {work.id for work in collection.works})
    if unknown:
        raise OptionError(f"{dataset} has no work {', '.join(unknown)}", hint="give ids as the table has them")
    now = _now()
    signal = Signal(kind=SignalKind.CLAIM, permission=Permission.PROHIBITED, raw="opt-out", source=source, read_at=now)
    journal = collection.table.parent / JOURNAL
    append_opt_outs(
        journal,
        [OptOut(entry=work, signal=signal, by=by, reason=reason, withdrawn=withdraw) for work in works],
    )
    removed = remove_works(collection.table, works, by=by, reason=reason, at=now) if remove else 0
    if as_json:
        print_json({"journal": str(journal), "works": list(works), "withdrawn": withdraw, "removed": removed})
    else:
        print_heading("WITHDRAWN" if withdraw else "OPTED OUT", ", ".join(works), style="green")
        print_facts([("journal", str(journal)), ("removed", f"{removed} rows")])
    return 0


def _open(dataset: Path, home: Path | None) -> Collection:
    from guardrails.audit.collection import open_collection

    if str(dataset) != POCKET or dataset.exists():
        return open_collection(dataset)
    from guardrails.pipeline.pictures import RebuiltPictures
    from guardrails.resources import datasets_path

    pictures = RebuiltPictures.open(homes.pictures_folder(home or homes.home()))
    return open_collection(datasets_path("pocket", "manifest.csv"), pictures)


def _check(
    collection: Collection,
    tdmrep: Sequence[Path],
    ai_txt: Sequence[Path],
    hash_list: Path | None,
    home: Path | None,
    *,
    quiet: bool,
) -> DatasetReport:
    from guardrails.audit.auditor import installed_trust
    from guardrails.audit.dataset_check import check_dataset, read_hash_list
    from guardrails.audit.optout_signals import read_ai_txt, read_tdmrep
    from guardrails.provenance import Verifier

    now = _now()
    sites: list[SiteRules] = [
        *(read_tdmrep(path, now) for path in tdmrep),
        *(read_ai_txt(path, now) for path in ai_txt),
    ]
    codes = None if hash_list is None else read_hash_list(hash_list)
    verifier = Verifier(installed_trust(home or homes.home()))
    with Steps("checking works", quiet=quiet) as progress:
        return check_dataset(collection, verifier, now=now, sites=sites, hash_list=codes, progress=progress.each)


def _show(report: DatasetReport, out: Path | None) -> None:
    looks_fine = not report.problems
    print_heading(
        "NOTHING TO LOOK AT" if looks_fine else "TO LOOK AT", report.name, style="green" if looks_fine else "yellow"
    )
    gaps = ", ".join(f"{name} of {len(ids)}" for name, ids in report.missing.items())
    near = sum(not group.exact for group in report.groups)
    print_facts(
        [
            ("works", f"{report.works}, {report.rows} rows"),
            ("compared", f"{report.hashed}; no picture at hand: {report.absent}; too plain: {len(report.unhashable)}"),
            ("unreadable", str(len(report.unreadable))),
            ("terms", ", ".join(f"{name} {count}" for name, count in report.terms.items())),
            ("missing", gaps or "nothing"),
            ("opted out", f"{len(report.opted_out)} works; {len(report.signals)} with a signal"),
            ("repeated", f"{len(report.groups) - near} groups of equal pixels, {near} of near pictures"),
            ("hash list", f"{len(report.list_hits)} hits on {report.lists} lines"),
        ]
    )
    print_table(("licence", "works"), [(name, str(count)) for name, count in report.licences.items()])
    if report.groups:
        rows = [
            (str(group.repeats), "equal" if group.exact else "near", ", ".join(group.works[:4]))
            for group in report.groups[:SHOWN_GROUPS]
        ]
        print_table(("repeats", "pixels", "works"), rows)
    if out is not None:
        print_facts([("page", str((out / "index.html").resolve()))])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
