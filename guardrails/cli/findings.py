"""Findings for people: the rule, why, and the words or numbers that it spoke about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from guardrails.cli.output import clean, console
from guardrails.domain.findings import Finding
from guardrails.domain.requests import NearMiss

_ELLIPSIS = "…"
# Words around the first find, on a line that is longer than the window.
_LEAD = 24


def print_findings(findings: Iterable[Finding], texts: Mapping[str, str]) -> None:
    """Every finding with its evidence; what a prompt rule found is underlined.

    Args:
        texts: the original texts by the name that spans give them: "prompt", "negative_prompt".
    """
    from rich.text import Text

    out = console()
    for finding in findings:
        out.print(Text(f"  {finding.rule} ({finding.category}, {finding.action.name.lower()})", style="bold"))
        out.print(Text(f"    {clean(finding.message)}"))
        if finding.score is not None and finding.threshold is not None:
            out.print(Text(f"    score {finding.score:.4g}, threshold {finding.threshold:.4g}"))
        for edit in finding.evidence.get("rewrites", ()):
            out.print(Text.assemble("    ", (clean(edit["from"]), "red strike"), " -> ", (clean(edit["to"]), "green")))
        if finding.error_rate:
            out.print(Text(f"    {clean(finding.error_rate)}", style="dim"))
        for line, marks in _quotes(finding, texts, out.width - 4):
            out.print(Text(f"    {line}"))
            out.print(Text(f"    {marks}", style="bold red"))
        for near in _nearest(finding):
            out.print(Text(f"    like: {clean(near['text'])} (cosine {near['cosine']:.2f})", style="dim"))


def _nearest(finding: Finding) -> Iterable[Any]:
    """The labelled examples that a semantic finding names."""
    nearest: Any = finding.evidence.get("nearest")
    return nearest or ()


def print_near_misses(near_misses: Iterable[NearMiss]) -> None:
    """Rules that almost spoke, and what kept them silent."""
    from rich.text import Text

    for miss in near_misses:
        console().print(Text(f"  not {miss.rule} ({miss.action.name.lower()}): {clean(miss.why)}", style="dim"))


def _quotes(finding: Finding, texts: Mapping[str, str], width: int) -> Iterable[tuple[str, str]]:
    if finding.span is None:
        return
    spans = finding.evidence.get("spans") or [
        {"field": finding.span.field, "start": finding.span.start, "end": finding.span.end}
    ]
    for field, text in texts.items():
        found = [(span["start"], span["end"]) for span in spans if span["field"] == field]
        if found:
            yield underline(text, found, width)


def underline(text: str, spans: Iterable[tuple[int, int]], width: int) -> tuple[str, str]:
    """The text on one line and carets under the spans; of a long text, a window that begins near the first span.

    Args:
        spans: code points [start, end) of `text`.
        width: terminal cells that a line may take.
    """
    from rich.cells import cell_len

    spans = sorted(spans)
    text = clean(text)
    begin = 0 if cell_len(text) <= width else max(0, spans[0][0] - _LEAD)
    line, marks = (_ELLIPSIS, " ") if begin else ("", "")
    for position in range(begin, len(text)):
        cells = cell_len(text[position])
        if cell_len(line) + cells >= width and position + 1 < len(text):
            return line + _ELLIPSIS, marks.rstrip()
        line += text[position]
        marks += ("^" if any(start <= position < end for start, end in spans) else " ") * cells
    return line, marks.rstrip()
