"""The page that the demo leaves behind: the pictures, what they prove, what was refused."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guardrails.files import write_atomically

if TYPE_CHECKING:
    from guardrails.audit import FileReport
    from guardrails.domain.records import Refusal
    from guardrails.pipeline import Sealed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Story:
    """What happened in one run of the demo.

    Attributes:
        prompt: of the released pictures.
        jpeg_quality: of the copy without metadata.
        released, reports: pictures and what their files prove, in the same order.
        resaved, recovered: the first picture saved again without metadata, and what is still known of it.
        blocked_prompt, blocked: a prompt that the policy does not allow, and its refusal.
        repeat_prompt, tries, repeated: the prompt of the last step, how many pictures were drawn, and the refusal; None
            when no picture repeated a reserved work.
    """

    prompt: str
    blocked_prompt: str
    jpeg_quality: int
    released: list[Sealed]
    reports: list[FileReport]
    resaved: Path
    recovered: FileReport
    blocked: Refusal
    repeat_prompt: str
    tries: int
    repeated: Refusal | None


def write_page(story: Story, out: Path, records: int) -> Path:
    """Write `index.html` into `out`; pictures are referred to by relative addresses."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("guardrails.cli"), autoescape=True, trim_blocks=True)
    html = environment.get_template("demo.html").render(
        prompt=story.prompt,
        quality=story.jpeg_quality,
        pictures=[(f"out/{sealed.path.name}", sealed) for sealed in story.released if sealed.path],
        story=story,
        resaved=f"out/{story.resaved.name}",
        blocked_prompt=_cut(story.blocked_prompt, story.blocked),
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
