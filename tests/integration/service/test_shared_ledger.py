"""With PostgreSQL the ledger lies there too: workers stage, a sequencer places, and everything that reads finds it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guardrails import home as homes
from guardrails.domain.records import RecordKind
from guardrails.ledger import Ledger
from service.testing import Running, start_service

PROMPT = "a red apple on a blue background"
PATIENCE = 60.0


def eventually(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)
    return found


@pytest.fixture
def address(request: pytest.FixtureRequest) -> str:
    """An empty database in PostgreSQL."""
    import psycopg

    server, name = str(request.getfixturevalue("postgresql")), f"shared_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def running(home: Path, address: str) -> Iterator[Running]:
    service = start_service(home, database=address)
    service.key = service.add_key("acme")
    yield service
    service.stop()


def guardrails(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "guardrails.cli", *words], capture_output=True, text=True, check=False)


def asked(*words: str) -> Any:
    done = guardrails(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def got(running: Running, path: str) -> dict[str, Any] | None:
    request = urllib.request.Request(running.url + path, headers={"Authorization": f"Bearer {running.key}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def test_everything_that_reads_the_ledger_finds_it_in_postgresql(
    running: Running, home: Path, address: str, tmp_path: Path
) -> None:
    answer = running.client().images.generate(prompt=PROMPT)
    own = answer.data[0].model_extra["guardrails"]
    receipt = json.loads(base64.b64decode(own["receipt"]))
    where = ("--home", str(home), "--database", address)

    # 1. The promise that came with the picture is kept, and the record is not in SQLite.
    placed = eventually(lambda: got(running, f"/v1/receipts/{own['gen_uid']}"))
    assert not (homes.ledger_folder(home) / "ledger.db").exists()
    with Ledger.open(homes.ledger_folder(home), database=address, create=False) as ledger:
        assert ledger.find_by_id(own["record_id"]) is not None
        if receipt["index"] is None:
            assert ledger.read_receipt(receipt["receipt"])[1] is not None

    # 2. The commands find it by the address, and check without it what they wrote.
    # The acts that made the tenant and its key are records too.
    size = asked("ledger", "fsck", *where)["records"]
    assert size == 3
    proof, archive = tmp_path / "record.tlog-proof", tmp_path / "records.zip"
    proof.write_text(asked("ledger", "prove", str(placed["index"]), *where)["proof"])
    assert asked("ledger", "export", "--out", str(archive), *where)["records"] == size
    assert asked("ledger", "verify", str(proof), str(archive), "--home", str(home))["results"]
    picture = tmp_path / "picture.png"
    picture.write_bytes(base64.b64decode(answer.data[0].b64_json))
    verdict = guardrails("verify", str(picture), *where, "--json")
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    lost = guardrails("ledger", "list", "--home", str(home))
    assert lost.returncode == 7
    assert "database" in lost.stderr

    # 3. So does the API.
    checked = running.client().content_provenance_checks.create(file=("picture.png", picture.read_bytes()))
    assert checked.model_extra["guardrails"]["verdict"] == "confirmed"

    # 4. Erasure from the command line goes on in the same log.
    asked("ledger", "erase", own["record_id"], "--ground", "asked for by the person", *where)
    assert asked("ledger", "show", own["record_id"], *where)["private"].startswith("erased")
    assert asked("ledger", "fsck", *where)["records"] == size + 1


def test_killed_parts_come_back_and_no_promise_is_broken(running: Running, home: Path, address: str) -> None:
    client = running.client(max_retries=3)
    ids = [client.images.generate(prompt=PROMPT).data[0].model_extra["guardrails"]["record_id"]]
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(running.process.pid)], capture_output=True, text=True)
    for child in done.stdout.split():
        os.kill(int(child), signal.SIGKILL)
    answer = client.images.generate(prompt=PROMPT, n=2, timeout=120)
    ids += [item.model_extra["guardrails"]["record_id"] for item in answer.data]
    for id in ids:
        eventually(lambda id=id: got(running, f"/v1/receipts/{id}"))
    parts = got(running, "/readyz")
    assert parts is not None
    assert parts["parts"]["sequencer"] is True
    with Ledger.open(homes.ledger_folder(home), database=address, create=False) as ledger:
        kinds = [logged.record.kind for logged in ledger.between("2000", "3000")]
        assert kinds.count(RecordKind.GENERATION) == len(ids)
        assert ledger.fsck() == len(kinds)
