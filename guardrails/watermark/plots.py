"""The benchmark's pictures, as SVG text: no plotting library is needed to measure a mark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

# As many as one run has series: its schemes, each by itself and at a common PSNR, and the points of a curve.
_COLOURS = (
    *("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#7a5195", "#555555"),
    *("#00b8a9", "#8c5a2b", "#f29ac0", "#9acd32", "#5f7fe0", "#000000"),
)
_FONT = "font-family='sans-serif' font-size='12'"
_GRID, _INK = "#dddddd", "#222222"


def bars(records: Sequence[Mapping[str, Any]]) -> str:
    """Share of exact payloads per attack, one bar per scheme, with Wilson intervals."""
    attacks = list(records[0]["attacks"])
    thickness, left, right, top = 7, 170, 420, 40
    step = thickness * len(records) + 8
    height = top + step * len(attacks) + 40
    parts = [_text(left, 20, "Exactly recovered payloads, Wilson 95 % intervals", bold=True)]
    for tick in range(6):
        x = left + right * tick / 5
        parts += [_line(x, top - 6, x, height - 36, _GRID), _text(x, height - 20, f"{tick / 5:.1f}", anchor="middle")]
    for row, attack in enumerate(attacks):
        y = top + row * step
        parts.append(_text(left - 8, y + step / 2 + 1, attack, anchor="end"))
        for number, record in enumerate(records):
            share = record["attacks"].get(attack, {"n": 0})
            if not share["n"]:
                continue
            bar = y + number * thickness
            colour = _COLOURS[number % len(_COLOURS)]
            width = right * share["exact"]
            parts.append(f"<rect x='{left}' y='{bar}' width='{width:.1f}' height='{thickness - 1}' fill='{colour}'/>")
            middle = bar + thickness / 2 - 0.5
            parts.append(_line(left + right * share["low"], middle, left + right * share["high"], middle, _INK))
    parts += _legend([_name(record) for record in records], left + right + 20, top)
    return _svg(left + right + 190, height, parts)


def robustness_curve(records: Sequence[Mapping[str, Any]]) -> str:
    """Share of exact payloads over the whole suite against the mean PSNR; schemes with several goals become lines."""
    points: dict[str, list[tuple[float, Mapping[str, float]]]] = {}
    for record in records:
        points.setdefault(record["scheme"], []).append((record["psnr_mean"], record["all"]))
    values = [psnr for line in points.values() for psnr, _ in line]
    low, high = math.floor(min(values)) - 1, math.ceil(max(values)) + 1
    left, top, width, height = 60, 40, 460, 320

    def place(psnr: float, share: float) -> tuple[float, float]:
        return left + width * (psnr - low) / (high - low), top + height * (1 - share)

    parts = [_text(left, 20, "Robustness against PSNR, whole attack suite", bold=True)]
    for tick in range(6):
        _, y = place(low, tick / 5)
        parts += [_line(left, y, left + width, y, _GRID), _text(left - 8, y + 4, f"{tick / 5:.1f}", anchor="end")]
    for value in range(low, high + 1):
        x, _ = place(value, 0)
        parts.append(_text(x, top + height + 18, str(value), anchor="middle"))
    parts.append(_text(left + width / 2, top + height + 38, "mean PSNR, dB", anchor="middle"))
    for number, line in enumerate(points.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        ordered = sorted(line, key=lambda point: point[0])
        path = " ".join("{:.1f},{:.1f}".format(*place(psnr, share["exact"])) for psnr, share in ordered)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        for psnr, share in ordered:
            x, y = place(psnr, share["exact"])
            parts.append(_line(x, place(psnr, share["low"])[1], x, place(psnr, share["high"])[1], colour))
            parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour}'/>")
    parts += _legend(list(points), left + width + 20, top)
    return _svg(left + width + 170, top + height + 50, parts)


def null_plot(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Observed share of unmarked draws with p at most x, against x, both logarithmic; an honest p stays below x.

    Args:
        curves: for each search, points (x, share); shares of 0 are left out.
    """
    left, top, side, decades = 70, 40, 360, 7

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + side * (1 + math.log10(max(x, 10.0**-decades)) / decades),
            top - side * math.log10(max(y, 10.0**-decades)) / decades,
        )

    parts = [_text(left, 20, "Null distribution: share of unmarked draws with p at most x", bold=True)]
    for decade in range(decades + 1):
        value = 10.0**-decade
        x, y = place(value, value)
        parts += [_line(x, top, x, top + side, _GRID), _line(left, y, left + side, y, _GRID)]
        parts += [
            _text(x, top + side + 18, f"1e-{decade}" if decade else "1", anchor="middle"),
            _text(left - 8, y + 4, f"1e-{decade}" if decade else "1", anchor="end"),
        ]
    parts.append(_line(*place(1, 1), *place(10.0**-decades, 10.0**-decades), _INK, dashed=True))
    for number, points in enumerate(curves.values()):
        colour = _COLOURS[number % len(_COLOURS)]
        seen = [place(x, share) for x, share in points if share > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in seen)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in seen]
    parts += _legend([*curves], left + side + 20, top)
    return _svg(left + side + 260, top + side + 40, parts)


def _name(record: Mapping[str, Any]) -> str:
    goal = record["psnr_goal"]
    return str(record["scheme"]) if goal is None else f"{record['scheme']} at {goal:g} dB"


def _legend(names: Sequence[str], x: float, y: float) -> list[str]:
    parts = []
    for number, name in enumerate(names):
        colour, middle = _COLOURS[number % len(_COLOURS)], y + 18 * number
        parts.append(f"<rect x='{x}' y='{middle}' width='12' height='12' fill='{colour}'/>")
        parts.append(_text(x + 18, middle + 11, name))
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = " font-weight='bold'" if bold else ""
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {_FONT}{weight} fill='{_INK}'>{escape(text)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashed: bool = False) -> str:
    dash = " stroke-dasharray='5 4'" if dashed else ""
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}'{dash}/>"


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    size = f"width='{width:.0f}' height='{height:.0f}' viewBox='0 0 {width:.0f} {height:.0f}'"
    ground = "<rect width='100%' height='100%' fill='white'/>"
    return "\n".join([f"<svg xmlns='http://www.w3.org/2000/svg' {size}>", ground, *parts, "</svg>\n"])
