"""The page that the demo leaves behind: the pictures, what they prove, what was refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from guardrails.files import write_atomically

if TYPE_CHECKING:
    from guardrails.cli.demo import Story
    from guardrails.domain.records import Refusal


def write_page(story: Story, out: Path, records: int) -> Path:
    """Write `index.html` into `out`; pictures are referred to by relative addresses."""
    from jinja2 import Environment, PackageLoader

    from guardrails.cli.demo import BLOCKED_PROMPT, JPEG_QUALITY, PROMPT

    environment = Environment(loader=PackageLoader("guardrails.cli"), autoescape=True, trim_blocks=True)
    html = environment.get_template("demo.html").render(
        prompt=PROMPT,
        quality=JPEG_QUALITY,
        pictures=[(f"out/{sealed.path.name}", sealed) for sealed in story.released if sealed.path],
        story=story,
        resaved=f"out/{story.resaved.name}",
        blocked_prompt=_cut(BLOCKED_PROMPT, story.blocked),
        evidence=_evidence(story.repeated, out),
        records=records,
    )
    page = out / "index.html"
    write_atomically(page, html.encode())
    return page


def _cut(prompt: str, refusal: Refusal) -> tuple[str, str, str]:
    """The prompt before, inside and after the span that the first rule matched."""
    span = refusal.findings[0].span
    start, end = (span.start, span.end) if span else (0, 0)
    return prompt[:start], prompt[start:end], prompt[end:]


def _evidence(repeated: Refusal | None, out: Path) -> str:
    """Copy the reviewers' picture beside the page and return its address."""
    if repeated is None or not repeated.evidence_file:
        return ""
    target = out / "evidence.png"
    shutil.copyfile(repeated.evidence_file, target)
    return target.name
