"""A guard that is killed at any moment: after the next start no file lacks its record and no record its file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from guardrails import home as homes
from guardrails.audit import Auditor
from guardrails.audit.report import FileVerdict
from guardrails.domain.records import RecordKind
from guardrails.ledger import Ledger
from guardrails.pipeline import Guard

KILLS = 20
# Warms up once, then forks a guard whenever a line comes in; each releases pictures until it is killed.
NURSERY = """
import itertools, os, sys
from pathlib import Path
from guardrails.pipeline import Guard
from guardrails.testing.doubles import FixedIndex, ShapeGenerator, passing_screens

home, out = Path(sys.argv[1]), Path(sys.argv[2])

def start():
    return Guard(ShapeGenerator(), screens=passing_screens(), index=FixedIndex(), home=home)

warm = start()
warm.generate("a red apple", out=out)
warm.ledger.close()
for line in sys.stdin:
    worker = os.fork()
    if worker == 0:
        guard = start()
        for seed in itertools.count():
            guard.generate("a red apple", seed=seed, out=out, format=("png", "jpeg")[seed % 2])
    print(worker, flush=True)
    os.waitpid(worker, 0)
"""


def wait_for_two_more(out: Path) -> None:
    """Until two more pictures are released: how long that takes depends on the machine."""
    count = len(released(out))
    while len(released(out)) < count + 2:
        time.sleep(0.01)


def released(out: Path) -> list[Path]:
    return [path for path in out.iterdir() if not path.name.startswith(".")]


def test_after_any_kill_files_and_records_agree(home: Path, tmp_path: Path, guard_in: Callable[..., Guard]) -> None:
    out = tmp_path / "out"
    generator = random.Random(20)
    command = [sys.executable, "-c", NURSERY, str(home), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for kill in range(KILLS):
            nursery.stdin.write("go\n")
            nursery.stdin.flush()
            worker = int(nursery.stdout.readline())
            # Every other one at once, so that beginnings are cut off too.
            if kill % 2:
                wait_for_two_more(out)
            time.sleep(generator.uniform(0, 0.4))
            os.kill(worker, signal.SIGKILL)
    guard_in(home)

    with Ledger.open(homes.ledger_folder(home), create=False) as ledger:
        size = ledger.fsck()
        records = [logged.record for index in range(size) if (logged := ledger.find_by_index(index)) is not None]
        assert ledger.staged_files() == frozenset()
    made = {record.id for record in records if record.kind is RecordKind.GENERATION}
    lost = {str(record.facts["lost_record"]) for record in records if record.kind is RecordKind.LOSS}
    files = {path.stem: path for path in released(out)}
    assert len(made) >= KILLS
    assert made - lost == set(files)
    assert lost.isdisjoint(files)
    auditor = Auditor.open(home)
    for path in files.values():
        report = auditor.verify_file(path, mode="fast")
        assert (report.verdict, report.exact) == (FileVerdict.CONFIRMED, True), report
