"""`guardrails tsa`: from keys to a stamped file, with a server of its own process."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardrails.pipeline import Guard, Sealed

Cli = Callable[..., Any]


@pytest.fixture
def picture(guard: Guard, tmp_path: Path) -> Path:
    outcome = guard.generate("a red apple", seed=1, out=tmp_path / "out")
    assert isinstance(outcome, Sealed)
    assert outcome.path is not None
    return outcome.path


def test_an_own_authority_stamps_a_released_file(cli: Cli, picture: Path) -> None:
    made = cli("tsa", "init", "--json")
    assert (made.status, made.json["state"]) == (0, "created")
    assert cli("tsa", "init", "--json").json["state"] == "kept"
    stamped = cli("tsa", "stamp", picture, "--json")
    assert (stamped.status, stamped.json["authority"]) == (0, "guardrails TSA")
    (report,) = cli("verify", picture, "--json").json
    # The file is no longer the very bytes that were released, and yet every layer vouches for it.
    assert (report["verdict"], report["exact"], report["manifest"]["status"]) == ("confirmed", False, "trusted")
    assert report["manifest"]["signed_at"] == stamped.json["time"]
    assert "timeStamp.trusted" in report["manifest"]["codes"]


def test_where_there_is_an_authority_guards_stamp_by_themselves(
    cli: Cli, home: Path, guard_in: Callable[..., Guard]
) -> None:
    cli("tsa", "init")
    outcome = guard_in(home).generate("a red apple", seed=1)
    assert isinstance(outcome, Sealed)
    assert "timeStamp.trusted" in outcome.manifest.codes


def test_help_for_people(cli: Cli, picture: Path) -> None:
    assert "TIME-STAMP AUTHORITY" in cli("tsa", "init").out
    run = cli("tsa", "stamp", picture, "--out", "stamped.png")
    assert "STAMPED" in run.out
    assert Path("stamped.png").exists()


def test_mistakes_end_with_one_line(cli: Cli, picture: Path, one_line_error: Callable[..., None]) -> None:
    one_line_error(cli("tsa", "stamp", picture), "key_unusable", 6)
    one_line_error(cli("tsa", "stamp", picture, "--trust", "x.pem"), "invalid_option", 2)
    one_line_error(cli("tsa", "stamp", picture, "--url", "nowhere"), "invalid_option", 2)
    one_line_error(cli("tsa", "stamp", picture, "--url", "http://127.0.0.1:9/"), "time_stamp_failed", 6)
    one_line_error(cli("tsa", "serve"), "key_unusable", 6)
    cli("tsa", "init")
    one_line_error(cli("tsa", "stamp", "missing.png"), "invalid_image", 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one_line_error(cli("tsa", "serve", "--port", taken.getsockname()[1]), "invalid_option", 2)


def test_the_server_answers_this_machine_alone_and_stops_when_told(
    cli: Cli, home: Path, picture: Path, tmp_path: Path, shapes: None
) -> None:
    root = cli("tsa", "init", "--json").json["root"]
    process = subprocess.Popen(
        [sys.executable, "-m", "guardrails.cli", "tsa", "serve", "--port", "0", "--home", str(home), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = json.loads("".join(process.stdout.readline() for _ in range(3)))["address"]
        assert address.startswith("http://127.0.0.1:")
        trusted = shutil.copy(root, tmp_path / "tsa-root.pem")
        run = cli("tsa", "stamp", picture, "--url", address, "--trust", trusted, "--json")
        assert (run.status, run.json["authority"]) == (0, "guardrails TSA")
        shutil.rmtree(home / "keys" / "tsa")
        run = cli("generate", "a red apple", "--tsa", address, "--out", "stamped", "--json")
        assert run.status == 0
        (report,) = cli("verify", "stamped", "--trust", trusted, "--json").json
        assert "timeStamp.trusted" in report["manifest"]["codes"]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130, -signal.SIGINT)
        process.stdout.close()
