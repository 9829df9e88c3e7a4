"""The page of a checked data set: counts, and the pictures that repeat, small."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from guardrails.errors import ImageError
from guardrails.files import write_atomically

if TYPE_CHECKING:
    from guardrails.audit.collection import Collection
    from guardrails.audit.dataset_check import DatasetReport
    from guardrails.imaging import Pixels

GROUPS, MEMBERS = 60, 8
_SIDE = 96


def write_page(report: DatasetReport, collection: Collection, out: Path) -> Path:
    """Write `index.html` into `out`; works on a hash list are named, never shown."""
    from jinja2 import Environment, PackageLoader

    hidden = {hit.work for hit in report.list_hits}
    works = {work.id: work for work in collection.works}

    def shown(name: str) -> str:
        work = works[name]
        if name in hidden:
            return ""
        try:
            pixels = collection.pixels(work, collection.data(work))
        except ImageError:
            return ""
        return "" if pixels is None else address(pixels)

    groups = [
        (group, [(works[name], shown(name)) for name in group.works[:MEMBERS]]) for group in report.groups[:GROUPS]
    ]
    environment = Environment(loader=PackageLoader("guardrails.cli"), autoescape=True, trim_blocks=True)
    html = environment.get_template("datasets.html").render(report=report, groups=groups)
    page = out / "index.html"
    write_atomically(page, html.encode("utf-8"))
    return page


def address(pixels: Pixels) -> str:
    """A picture, made small, as a `data:` address."""
    from guardrails.imaging.thumbnails import thumbnail

    data = thumbnail(pixels, side=_SIDE)
    return f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
