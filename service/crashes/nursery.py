"""Forks one worker after the other, each of which is to die at a point: a start takes milliseconds, not seconds.

Reads one JSON list [point, use] a line. Answers each with three lines: the worker's process id, "claimed" and the
seconds from its start to its first job (not when it dies before), "gone" and its exit code.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from guardrails import home as homes
from guardrails.ledger import Ledger
from guardrails.policy import default_policy
from guardrails.provenance import Verifier
from guardrails.provenance.repository import Repository
from service.crashes.points import arm
from service.jobs.signer import SignerClient
from service.naming import named
from service.processes import run_worker
from service.settings import Settings
from service.stores import open_database

# prctl(2): the kernel sends this process a signal when its parent ends.
_PR_SET_PDEATHSIG = 1


def main() -> None:
    settings = Settings.model_validate_json(sys.argv[1])
    faulthandler.register(signal.SIGUSR1)
    _die_with_parent()
    _warm_up(settings)
    print("ready", flush=True)
    for line in sys.stdin:
        point, use = json.loads(line)
        worker = os.fork()
        if worker == 0:
            _live(settings, point, use)
        print(f"worker {worker}", flush=True)
        _, status = os.waitpid(worker, 0)
        print(f"gone {os.waitstatus_to_exitcode(status)}", flush=True)


def _live(settings: Settings, point: str, use: int) -> None:
    """Be a worker. Never returns: two processes would read the same orders."""
    try:
        started = time.monotonic()
        _die_with_parent()
        reached, is_new = arm(settings, point, use), True

        def tell(stage: str) -> None:
            nonlocal is_new
            if is_new:
                is_new = False
                print(f"claimed {time.monotonic() - started:.4f}", flush=True)
            reached(stage)

        run_worker(settings, tell)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _warm_up(settings: Settings) -> None:
    """Make one picture elsewhere, so that every worker starts with all modules and models loaded.

    Nothing of it stays open: an SQLite connection must not be taken through a fork.
    """
    open_database(settings).close()
    signer, trust = SignerClient(settings.signer_socket).signer()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with Ledger.open(homes.ledger_folder(home)) as ledger, Repository(homes.manifests_folder(home)) as manifests:
            guard = named("guard", settings.guard)(
                home=home,
                model=settings.model,
                device=settings.device,
                batch_size=settings.batch_pictures,
                signer=signer,
                verifier=Verifier(trust),
                ledger=ledger,
                manifests=manifests,
            )(default_policy())
            guard.generate("a red apple", out=home)


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
