"""The page of a memorisation audit: pairs side by side, most repeated works first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guardrails.files import write_atomically

if TYPE_CHECKING:
    from guardrails.audit.memorisation import MemorisationReport


def write_page(report: MemorisationReport, out: Path) -> Path:
    """Write `index.html` into a run's folder; pictures are referred to by relative addresses."""
    from jinja2 import Environment, PackageLoader

    counts = dict(report.works)
    shown = sorted(
        (drawing for drawing in report.drawings if drawing.evidence),
        key=lambda one: (not one.repeated, -counts.get(one.repeated, 0), one.work, -(one.agreement or 0.0)),
    )
    environment = Environment(loader=PackageLoader("guardrails.cli"), autoescape=True, trim_blocks=True)
    html = environment.get_template("memorisation.html").render(report=report, shown=shown)
    page = out / "index.html"
    write_atomically(page, html.encode("utf-8"))
    return page
