"""What everybody waits for, when something does not go on: processes, locks, jobs, and PostgreSQL's own view."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from service.settings import Settings
from service.stores import Database

_JOBS = (
    "SELECT id, status, stage, attempts, worker, lease_until, updated_at, cancelled FROM jobs"
    " WHERE status NOT IN ('succeeded', 'refused') ORDER BY created_at LIMIT 50"
)
_ACTIVITY = (
    "SELECT pid, state, wait_event_type, wait_event, pg_blocking_pids(pid) AS blocked_by,"
    " now() - xact_start AS transaction_age, left(query, 100) AS query"
    " FROM pg_stat_activity WHERE datname = current_database() ORDER BY pid"
)


def describe(settings: Settings, database: Database, processes: Sequence[int]) -> str:
    """A report for whoever looks for the cause; holds no prompts.

    Args:
        processes: ids of those that should be doing something.
    """
    lines = [f"stalled at {time.strftime('%H:%M:%S')}, time {time.time():.1f}"]
    for process in processes:
        lines += _threads(process)
    lines += ["file locks:", *_locks(settings.home), "open jobs:", *map(str, database.all(_JOBS))]
    if settings.database:
        lines += ["connections:", *map(str, database.all(_ACTIVITY))]
    return "\n".join(lines)


def _threads(process: int) -> Iterator[str]:
    """State and kernel wait channel of each thread (proc(5))."""
    yield f"process {process}:"
    for task in sorted(Path(f"/proc/{process}/task").glob("*")):
        try:
            status = (task / "status").read_text()
            state = next(line.split(None, 1)[1] for line in status.splitlines() if line.startswith("State"))
            yield f"  thread {task.name}: {state}, waits in {(task / 'wchan').read_text() or '?'}"
        except OSError as error:
            yield f"  thread {task.name}: {error.strerror}"


def _locks(home: Path) -> Iterator[str]:
    """Lines of /proc/locks about files of this installation, with the files' names."""
    names = {path.stat().st_ino: path for path in home.rglob("*") if path.suffix in (".lock", ".db", ".db-shm", "")}
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        inode = line.split()[-3].rpartition(":")[2]
        if inode.isdigit() and int(inode) in names:
            yield f"  {names[int(inode)]}: {line}"
