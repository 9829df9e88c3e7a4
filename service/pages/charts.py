"""Plots as SVG: shapes with classes, coloured by the style sheet, each with a table's worth of words for readers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 640, 170
# Charts of bars stand two in a row; their words would be too small on a wider sheet.
_NARROW, _WORDS, _SPAN = 460, 165, 150
_LEFT, _BOTTOM, _TOP = 44, 24, 8


def columns(title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]) -> Markup:
    """Stacked columns over time.

    Args:
        labels: one for each column; only some are written.
        series: name and heights, from the bottom up; the name chooses the colour.
    """
    totals = [sum(values[n] for _, values in series) for n in range(len(labels))]
    top = _nice(max([*totals, 1]))
    wide = (_WIDTH - _LEFT) / max(1, len(labels))
    parts = [_axis(top)]
    for number, label in enumerate(labels):
        y = float(_HEIGHT - _BOTTOM)
        for name, values in series:
            tall = (values[number] / top) * (_HEIGHT - _BOTTOM - _TOP)
            y -= tall
            if tall:
                hint = escape(f"{label}: {values[number]:g} {name}")
                parts.append(
                    f'<rect class="bar {escape(name)}" x="{_LEFT + number * wide + 1:.1f}" y="{y:.1f}"'
                    f' width="{max(1.0, wide - 2):.1f}" height="{tall:.1f}"><title>{hint}</title></rect>'
                )
        if number % max(1, len(labels) // 6) == 0:
            parts.append(_text(_LEFT + number * wide, _HEIGHT - 6, label))
    summary = f"{title}. " + ", ".join(f"{name}: {sum(values):g}" for name, values in series)
    return _svg(title, summary, parts)


def bars(title: str, rows: Sequence[tuple[str, float]], unit: str = "") -> Markup:
    """One horizontal bar for each row, the first on top."""
    top = max([value for _, value in rows] + [1e-9])
    tall = 22
    parts = []
    for number, (label, value) in enumerate(rows):
        y = number * tall + 4
        long = value / top * _SPAN
        parts.append(_text(0, y + 13, label))
        parts.append(
            f'<rect class="bar one" x="{_WORDS}" y="{y}" width="{max(1.0, long):.1f}" height="{tall - 6}"></rect>'
        )
        parts.append(_text(_WORDS + 6 + long, y + 13, f"{value:g}{unit}"))
    summary = f"{title}. " + ", ".join(f"{label}: {value:g}{unit}" for label, value in rows)
    return _svg(title, summary, parts, (_NARROW, max(1, len(rows)) * tall + 8))


def intervals(title: str, rows: Sequence[tuple[str, float, float]]) -> Markup:
    """Shares with their upper bounds, each as a dot and a line; 0..1."""
    tall, span = 22, _SPAN
    parts = []
    for number, (label, share, upper) in enumerate(rows):
        y, start, end = number * tall + 12, _WORDS + share * span, _WORDS + upper * span
        parts.append(_text(0, y + 4, label))
        parts.append(f'<line class="interval" x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot" cx="{start:.1f}" cy="{y}" r="4"/>')
        parts.append(_text(end + 10, y + 4, f"{share:.1%} (below {upper:.1%})"))
    summary = f"{title}. " + ", ".join(f"{label}: {share:.1%}, below {upper:.1%}" for label, share, upper in rows)
    return _svg(title, summary, parts, (_NARROW, max(1, len(rows)) * tall + 8))


def _svg(title: str, summary: str, parts: Sequence[str], size: tuple[int, int] = (_WIDTH, _HEIGHT)) -> Markup:
    inside = "".join(parts)
    return Markup(  # noqa: S704 - every text inside was escaped
        f'<svg class="chart" role="img" viewBox="0 0 {size[0]} {size[1]}" aria-label="{escape(summary)}">'
        f"<title>{escape(title)}</title>{inside}</svg>"
    )


def _axis(top: float) -> str:
    lines = []
    for share in (0, 0.5, 1):
        y = _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(_text(0, y + 4, f"{share * top:g}"))
    return "".join(lines)


def _text(x: float, y: float, words: str) -> str:
    shown = words if len(words) <= 28 else words[:27] + "…"
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(shown)}</text>'


def _nice(value: float) -> float:
    """The next number of the form 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value))
