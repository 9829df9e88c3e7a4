"""Workers on a real local Ray: jobs of the table are made there, and a stop finishes what runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guardrails import home as homes
from guardrails.domain.records import RecordKind
from guardrails.ledger import Ledger
from service.jobs.model import Job, Status
from service.jobs.signer import SignerServer, load_key
from service.jobs.table import JobTable
from service.policies import Policies, written
from service.settings import Settings
from service.stores import open_database
from service.testing import DRAWING

from .test_drawing_together import job

SECONDS = 240


@pytest.fixture
def signing(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a machine with a signer on a socket of its own."""
    socket = tmp_path_factory.mktemp("run") / "signer.sock"
    settings = Settings(
        home=home, guard=DRAWING, workers=2, ray_gpus=0, drain_seconds=60, signing_socket=str(socket), lease_seconds=60
    )
    server = SignerServer(settings.signer_socket, *load_key(settings))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield settings
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_jobs_of_the_table_are_made_by_replicas(signing: Settings, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray import serve

    from service.jobs.ray_workers import APPLICATION, run_on_ray

    table = JobTable(open_database(signing), lease_seconds=60)
    policy = written("default", Policies(signing.policy_names).get())
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "300000")
    start_ray()
    stopping = threading.Event()
    faults: list[BaseException] = []

    def run() -> None:
        try:
            run_on_ray(signing, stopping)
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        jobs = [table.submit(job(f"apple {number}", policy, seed=number))[0] for number in range(6)]
        ends = finished(table, jobs, faults)
        assert {end.status for end in ends} == {Status.SUCCEEDED}
        handle: Any = serve.get_app_handle(APPLICATION)
        names = workers(handle)
        assert {end.worker for end in ends} <= names
        assert len(names) == 2
        # Claimed before the stop, finished before the replicas end.
        late = table.submit(job("a late apple", policy))[0]
        while table.get(late.id).status is Status.QUEUED:
            time.sleep(0.01)
        stopping.set()
        thread.join(SECONDS)
        assert not thread.is_alive()
        assert table.get(late.id).status is Status.SUCCEEDED
        assert APPLICATION not in serve.status().applications
    finally:
        stopping.set()
        thread.join(SECONDS)
        serve.shutdown()
        ray.shutdown()
    assert faults == []
    with Ledger.open(homes.ledger_folder(home), create=False) as ledger:
        records = [ledger.find_by_index(index) for index in range(ledger.fsck())]
    made = [logged.record.id for logged in records if logged and logged.record.kind is RecordKind.GENERATION]
    assert sorted(made) == sorted(id for one in (*jobs, late) for id in one.ids)


def start_ray() -> None:
    """Ray gives its own daemon half a minute to start, which a busy machine does not always keep."""
    import ray

    for tries_left in reversed(range(4)):
        try:
            ray.init(num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
            return
        except Exception:
            ray.shutdown()
            if not tries_left:
                raise


def workers(handle: Any) -> set[str]:
    """The names of the workers that answer, once there are two: on a busy machine the second one starts late."""
    until, names = time.monotonic() + SECONDS, set[str]()
    while len(names) < 2 and time.monotonic() < until:
        names.add(handle.remote().result(timeout_s=60))
    # No third one.
    return names | {handle.remote().result(timeout_s=60) for _ in range(20)}


def finished(table: JobTable, jobs: list[Job], faults: list[BaseException]) -> list[Job]:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and not faults:
        ends = [table.get(one.id) for one in jobs]
        if all(end.status.is_over for end in ends):
            return ends
        time.sleep(0.1)
    raise AssertionError(f"{faults or 'not finished'}: {table.counts()}")
