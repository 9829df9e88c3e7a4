"""What marks survive: ours beside dwtDct, dwtDctSvd and rivaGan, by themselves and at one common PSNR.

Run: python benchmarks/watermark_robustness.py [--pictures FOLDER] [--limit 8] [--output out/watermark]

Without a folder the pictures are drawn here: flat shapes and scenes with a photograph's spectrum. Writes one CSV row
per picture and attack, a JSON summary, a table and plots. The columns are those of
`guardrails.watermark.benchmark.Row`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guardrails.watermark.benchmark import MATCHED_PSNR, OURS, SCHEMES, measure, write_report
from guardrails.watermark.hosts import load_hosts

# rivaGan takes a second per picture, so it meets fewer pictures.
SLOW, SLOW_LIMIT = "rivaGan", 2
CURVE = (40.0, 44.0, 46.0)


def main() -> None:
    """Measure, write, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--output", type=Path, default=Path("out/watermark"))
    arguments = parser.parse_args()
    hosts = load_hosts(arguments.pictures, size=arguments.size, limit=arguments.limit)
    quick = [scheme for scheme in SCHEMES if scheme != SLOW]
    rows = measure(hosts, quick, goals=(None, MATCHED_PSNR), progress=report)
    rows += measure(hosts[:SLOW_LIMIT], [SLOW], goals=(None, MATCHED_PSNR), progress=report)
    rows += measure(hosts, [OURS], goals=CURVE, progress=report)
    write_report(rows, arguments.output)
    print((arguments.output / "summary.md").read_text())


def report(done: int, total: int) -> None:
    """One line on standard error."""
    print(f"\r{done} of {total} marked pictures", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
