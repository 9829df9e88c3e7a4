"""What marks survive: every scheme, every picture, every attack, one row each.

1. Each scheme marks each picture as it does by itself, and once more with its residual scaled to one common PSNR.
2. Each attack changes each marked picture; its random draws depend on the picture and the attack alone, so all schemes
   meet the same crops and the same noise.
3. A row says whether the whole payload came back, how many bits did, and what it cost in CPU time of one thread.
4. Shares carry Wilson 95 % intervals.
"""

from __future__ import annotations

import csv
import json
import math
import platform
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, median
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from guardrails.errors import OptionError, WatermarkError
from guardrails.imaging import Pixels
from guardrails.version import __version__
from guardrails.watermark.attacks import ATTACKS, Attack
from guardrails.watermark.classic import METHODS, RIVAGAN_BITS, ClassicMark
from guardrails.watermark.hosts import Host
from guardrails.watermark.keys import Keyring
from guardrails.watermark.scheme import PixelMark

OURS = "ours"
SCHEMES = (OURS, *METHODS)
CLASSIC_BITS = 48
MATCHED_PSNR = 42.0
# A fixed key: the figures must be reproducible. Other keys give the same ones within their intervals.
_KEY = bytes(range(32))

Bits = NDArray[np.uint8]
Progress = Callable[[int, int], None]


class Method(Protocol):
    """A scheme as the benchmark sees it: bits in, bits out."""

    bits: int

    def embed(self, pixels: Pixels, bits: Bits) -> Pixels:
        """Write `bits` (uint8 0/1)."""
        ...

    def decode(self, pixels: Pixels) -> tuple[Bits, float | None]:
        """The bits that are read, and the p-value where the scheme has one."""
        ...


class OurMethod:
    """The pixel mark: 64 id bits; automatic mode."""

    bits = 64

    def __init__(self) -> None:
        self._mark = PixelMark(Keyring(_KEY))

    def embed(self, pixels: Pixels, bits: Bits) -> Pixels:
        return self._mark.embed(pixels, np.packbits(bits).tobytes().hex()).pixels

    def decode(self, pixels: Pixels) -> tuple[Bits, float | None]:
        reading = self._mark.detect(pixels, "deep")
        packed = bytes.fromhex(reading.mark_id) if reading.mark_id else bytes(8)
        return np.unpackbits(np.frombuffer(packed, np.uint8)), reading.p_value


class ClassicMethod:
    """A method of invisible-watermark."""

    def __init__(self, name: str) -> None:
        self.bits = RIVAGAN_BITS if name == "rivaGan" else CLASSIC_BITS
        self._mark = ClassicMark(name, self.bits)

    def embed(self, pixels: Pixels, bits: Bits) -> Pixels:
        return self._mark.embed(pixels, bits)

    def decode(self, pixels: Pixels) -> tuple[Bits, float | None]:
        return self._mark.read(pixels), None


def make_method(name: str) -> Method:
    """A scheme by name.

    Raises:
        OptionError: none of `SCHEMES`.
        UnavailableError: its package is not installed.
    """
    if name not in SCHEMES:
        raise OptionError(f"unknown scheme {name!r}", hint=f"use one of {', '.join(SCHEMES)}")
    return OurMethod() if name == OURS else ClassicMethod(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One picture, one scheme, one attack.

    Attributes:
        psnr_goal: what the residual was scaled to, or None: as the scheme does by itself.
        accuracy: share of the bits that were right.
        exact: all bits were right.
        p_value: None where the scheme has none.
        psnr, ssim: of the marked picture.
        attack_psnr: of the attacked against the marked picture, where both have one size.
        embed_ms, decode_ms: CPU time of this process.
        error: why the scheme refused, or "".
    """

    scheme: str
    bits: int
    psnr_goal: float | None
    image: str
    kind: str
    height: int
    width: int
    attack: str
    group: str
    mild: bool
    accuracy: float
    exact: bool
    p_value: float | None
    psnr: float
    ssim: float
    attack_psnr: float | None
    embed_ms: float
    decode_ms: float
    error: str


def measure(
    hosts: Sequence[Host],
    schemes: Sequence[str],
    *,
    attacks: Sequence[Attack] = ATTACKS,
    goals: Sequence[float | None] = (None,),
    progress: Progress | None = None,
) -> list[Row]:
    """Rows for hosts x schemes x goals x attacks.

    Args:
        goals: PSNR in dB that residuals are scaled to; None leaves them.
        progress: called with (done, total) after each marked picture.
    """
    cv2.setNumThreads(1)
    methods = {name: make_method(name) for name in schemes}
    total, done = len(hosts) * len(methods) * len(goals), 0
    rows: list[Row] = []
    for host in hosts:
        for name, method in methods.items():
            for goal in goals:
                rows += _rows(host, name, method, goal, attacks)
                done += 1
                if progress is not None:
                    progress(done, total)
    return rows


def _rows(host: Host, name: str, method: Method, goal: float | None, attacks: Sequence[Attack]) -> Iterable[Row]:
    bits = _generator(host.name, "payload").integers(0, 2, method.bits).astype(np.uint8)
    started = time.process_time()
    try:
        marked = method.embed(host.pixels, bits)
    except WatermarkError as error:
        marked, refused = host.pixels, str(error)
    else:
        refused = ""
    embed_ms = 1000 * (time.process_time() - started)
    if goal is not None:
        marked = scaled_to(host.pixels, marked, goal)
    quality = psnr(host.pixels, marked), ssim(host.pixels, marked)
    for attack in attacks:
        attacked = attack.apply(marked, _generator(host.name, attack.name))
        started = time.process_time()
        read, p_value, error_text = _decoded(method, attacked)
        agreement = float(np.mean(read == bits))
        yield Row(
            scheme=name,
            bits=method.bits,
            psnr_goal=goal,
            image=host.name,
            kind=host.kind,
            height=host.pixels.shape[0],
            width=host.pixels.shape[1],
            attack=attack.name,
            group=attack.group,
            mild=attack.mild,
            accuracy=round(agreement, 4),
            exact=agreement == 1 and not refused,
            p_value=p_value,
            psnr=round(quality[0], 2),
            ssim=round(quality[1], 4),
            attack_psnr=round(psnr(marked, attacked), 2) if attacked.shape == marked.shape else None,
            embed_ms=round(embed_ms, 2),
            decode_ms=round(1000 * (time.process_time() - started), 2),
            error=refused or error_text,
        )


def _decoded(method: Method, pixels: Pixels) -> tuple[Bits, float | None, str]:
    """What a scheme reads; zeros and the reason when it refuses the picture."""
    try:
        return *method.decode(pixels), ""
    except WatermarkError as error:
        return np.zeros(method.bits, np.uint8), None, str(error)


def _generator(*names: str) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()) for name in names])


def scaled_to(host: Pixels, marked: Pixels, goal: float) -> Pixels:
    """The marked picture with its residual scaled so that the PSNR is `goal`."""
    residual = marked.astype(np.float32) - host
    factor = 10 ** ((min(psnr(host, marked), 99.0) - goal) / 20)
    scaled: Pixels = np.clip(np.rint(host + np.float32(factor) * residual), 0, 255).astype(np.uint8)
    return scaled


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal to noise in dB over all channels; infinite for equal pictures."""
    error = float(cv2.norm(one, other, cv2.NORM_L2SQR)) / one.size
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(one: Pixels, other: Pixels) -> float:
    """Structural similarity (Wang et al. 2004), mean of the channels: Gaussian window of 11 pixels, sigma 1.5."""
    x, y = one.astype(np.float64), other.astype(np.float64)

    def local(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(plane, (11, 11), 1.5), np.float64)

    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + first) * (2 * covariance + second)
    similarity /= (mean_x**2 + mean_y**2 + first) * (var_x + var_y + second)
    return float(similarity.mean())


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, p = 1.959964, hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One record per scheme and PSNR goal: shares over all attacks, the mild ones and each group; quality; cost."""
    records = []
    for scheme, goal in dict.fromkeys((row.scheme, row.psnr_goal) for row in rows):
        mine = [row for row in rows if (row.scheme, row.psnr_goal) == (scheme, goal)]
        marked = list({row.image: row for row in mine}.values())
        groups = dict.fromkeys(row.group for row in mine)
        records.append(
            {
                "scheme": scheme,
                "bits": mine[0].bits,
                "psnr_goal": goal,
                "pictures": len(marked),
                "psnr_mean": round(fmean(row.psnr for row in marked), 2),
                "psnr_min": min(row.psnr for row in marked),
                "ssim_mean": round(fmean(row.ssim for row in marked), 4),
                "embed_ms": median(row.embed_ms for row in marked),
                "decode_ms": median(row.decode_ms for row in mine),
                "all": _share(mine),
                "mild": _share([row for row in mine if row.mild]),
                "groups": {group: _share([row for row in mine if row.group == group]) for group in groups},
                "attacks": {
                    attack: _share([row for row in mine if row.attack == attack])
                    for attack in dict.fromkeys(row.attack for row in mine)
                },
            }
        )
    return records


def _share(rows: Sequence[Row]) -> dict[str, float]:
    if not rows:
        return {"n": 0}
    hits = sum(row.exact for row in rows)
    low, high = wilson(hits, len(rows))
    return {"exact": round(hits / len(rows), 4), "low": round(low, 4), "high": round(high, 4), "n": len(rows)}


def write_report(rows: Sequence[Row], folder: Path) -> None:
    """Write robustness.csv, robustness.json (versions, then the summary), summary.md and two plots (SVG)."""
    from guardrails.watermark.plots import bars, robustness_curve

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "robustness.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    records = summarise(rows)
    header = {
        "guardrails": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "seeds": "CRC-32 of the picture's name and the attack's",
    }
    (folder / "robustness.json").write_text(json.dumps({"header": header, "schemes": records}, indent=1))
    (folder / "summary.md").write_text(_markdown(records))
    (folder / "attacks.svg").write_text(bars(records))
    (folder / "psnr.svg").write_text(robustness_curve(records))


def _markdown(records: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| scheme | bits | PSNR mean (min) | SSIM | embed ms | decode ms | exact, all attacks | exact, mild attacks |",
        "|---|---:|---|---:|---:|---:|---|---|",
    ]
    for record in records:
        goal = "" if record["psnr_goal"] is None else f" at {record['psnr_goal']:g} dB"
        cells = [
            record["scheme"] + goal,
            str(record["bits"]),
            f"{record['psnr_mean']:.1f} ({record['psnr_min']:.1f})",
            f"{record['ssim_mean']:.4f}",
            f"{record['embed_ms']:.1f}",
            f"{record['decode_ms']:.1f}",
            _cell(record["all"]),
            _cell(record["mild"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    names = [
        record["scheme"] + ("" if record["psnr_goal"] is None else f" {record['psnr_goal']:g}") for record in records
    ]
    lines += ["", f"| attack | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for attack in records[0]["attacks"]:
        cells = [_cell(record["attacks"].get(attack, {"n": 0})) for record in records]
        lines.append(f"| {attack} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(share: dict[str, float]) -> str:
    if not share["n"]:
        return "-"
    return f"{share['exact']:.3f} ({share['low']:.3f}-{share['high']:.3f}, n={share['n']})"
