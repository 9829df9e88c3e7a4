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
        return "" if pixels is None else thumbnail(pixels)

    groups = [
        (group, [(works[name], shown(name)) for name in group.works[:MEMBERS]]) for group in report.groups[:GROUPS]
    ]
    environment = Environment(loader=PackageLoader("guardrails.cli"), autoescape=True, trim_blocks=True)
    html = environment.get_template("datasets.html").render(report=report, groups=groups)
    page = out / "index.html"
    write_atomically(page, html.encode("utf-8"))
    return page


def thumbnail(pixels: Pixels, side: int = _SIDE) -> str:
    """A picture as a `data:` address, its long side at most `side` pixels."""
    import cv2
    import numpy as np

    from guardrails.imaging.encoding import ImageFormat, encode

    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    data = encode(np.ascontiguousarray(small), ImageFormat.WEBP, quality=80)
    return f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
