"""Running it: health, metrics, logs without words, crashes of its parts, and a stop that loses nothing."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest
from cryptography.hazmat.primitives import serialization

from guardrails import home as homes
from guardrails.errors import OptionError, SigningError
from guardrails.ledger import Ledger
from guardrails.provenance.certificates import load_dev_key
from service.crashes import harness
from service.crashes.points import POINTS
from service.jobs.claims import check_claim
from service.jobs.signer import SignerClient, SignerServer, load_key
from service.settings import Settings, load, refuse_unsafe
from service.testing import DRAWING, Running, start_service

PROMPT = "a red apple"
CHECKOUT = Path(__file__).resolve().parents[3]


def get(running: Running, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{running.url}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# --- Settings ----------------------------------------------------------------------------------------------------


def test_every_setting_is_documented() -> None:
    page = (CHECKOUT / "docs" / "service.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert f"| `{name}` |" in page, f"docs/service.md does not explain {name}"
        assert field.description in page, f"docs/service.md explains {name} differently"


def test_the_file_the_environment_and_the_command_line_win_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text('port = 1\nhost = "::1"\npolicies = ["a"]\nworkers = 3\n')
    environment = {"GUARDRAILS_SERVICE_PORT": "2", "GUARDRAILS_SERVICE_POLICIES": "b, c"}
    settings = load(file, environment, port=3, host=None)
    assert (settings.port, settings.host, settings.policies, settings.workers) == (3, "::1", ("b", "c"), 3)


def other_than(name: str, default: Any) -> str:
    """How somebody might write another value of a setting in the environment."""
    chosen = {
        "auth": "none",
        "verify_depth": "deep",
        "resolution": "public",
        "log_level": "debug",
        "allow_insecure": "no-tls",
    }
    match default:
        case bool():
            return str(not default).lower()
        case int():
            return str(default + 1)
        case float():
            return str(default / 2)
    return chosen.get(name, "something")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_can_stand_in_the_environment_and_is_used(name: str, tmp_path: Path) -> None:
    plain = load(None, {}, home=tmp_path)
    written = other_than(name, getattr(plain, name))
    settings = load(None, {f"GUARDRAILS_SERVICE_{name.upper()}": written})
    assert getattr(settings, name) != getattr(plain, name)
    assert load(None, {}, **{name: getattr(settings, name)}) == settings
    sources = [path.read_text(encoding="utf-8") for path in sorted((CHECKOUT / "service").rglob("*.py"))]
    used = sum(len(re.findall(rf"(?:settings|self)\.{name}\b", text)) for text in sources)
    assert used, f"nothing reads the setting {name}"


def test_one_try_and_batches_exclude_each_other() -> None:
    with pytest.raises(OptionError, match="batch_pictures"):
        load(None, {}, max_attempts=1)
    assert load(None, {}, max_attempts=1, batch_pictures=1).max_attempts == 1


@pytest.mark.parametrize("text", ["port = 70000", "colour = 'red'", "auth = 'maybe'", "port = "])
def test_a_wrong_setting_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text(text)
    with pytest.raises(OptionError):
        load(file, {})


@pytest.mark.parametrize(
    ("settings", "allowed", "named"),
    [
        ({}, (), "dev-keys, no-tls"),
        ({"auth": "none"}, ("dev-keys",), "no-auth, no-tls"),
        ({"behind_tls": True}, (), "dev-keys"),
        ({"auth": "none", "behind_tls": True}, ("dev-keys", "no-tls"), "no-auth"),
    ],
)
def test_unsafe_defaults_do_not_leave_this_machine(settings: Any, allowed: Any, named: str, tmp_path: Path) -> None:
    refused = Settings(home=tmp_path, host="0.0.0.0", allow_insecure=allowed, **settings)
    with pytest.raises(OptionError, match=named):
        refuse_unsafe(refused, dev_keys=True)
    refuse_unsafe(refused.model_copy(update={"allow_insecure": ("dev-keys", "no-auth", "no-tls")}), dev_keys=True)
    refuse_unsafe(refused.model_copy(update={"host": "127.0.0.1"}), dev_keys=True)


def test_the_command_refuses_to_listen_unsafely(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "guardrails.cli", "serve", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run([*command, "--home", str(tmp_path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "dev-keys" in done.stderr


# --- The signer --------------------------------------------------------------------------------------------------


@pytest.fixture
def signing(home: Path) -> Any:
    settings = Settings(home=home)
    server = SignerServer(settings.signer_socket, *load_key(settings))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SignerClient(settings.signer_socket), settings
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("claim", [b"", b"anything", b"\xa0", b"\x84" * 2000])
def test_the_signer_signs_claims_alone(signing: Any, claim: bytes) -> None:
    client, _ = signing
    with pytest.raises(SigningError, match="no claim"):
        client.sign(claim)


def test_the_signer_refuses_a_claim_that_lacks_a_part() -> None:
    import cbor2

    def structure(*labels: str) -> bytes:
        assertions = [{"url": f"self#jumbf=c2pa.assertions/{label}", "hash": b"0"} for label in labels]
        return cbor2.dumps(["Signature1", b"", b"", cbor2.dumps({"created_assertions": assertions})])

    whole = ["c2pa.actions.v2", "c2pa.soft-binding", "c2pa.hash.data", "org.guardrails.policy-decision"]
    check_claim(structure(*whole))
    check_claim(structure("c2pa.soft-binding__1", *whole[:1], *whole[2:]))
    for label in whole:
        with pytest.raises(SigningError, match="lacks"):
            check_claim(structure(*(other for other in whole if other != label)))


def test_only_the_own_account_reaches_the_signer(signing: Any) -> None:
    _, settings = signing
    assert settings.signer_socket.stat().st_mode & 0o077 == 0


def test_the_signer_alone_opens_the_private_key(service: Running) -> None:
    """Looks for the private key's bytes in the memory of every process of the service."""
    service.client().images.generate(prompt=PROMPT)
    key = load_dev_key(homes.keys_folder(service.home)).key_pem
    secret = serialization.load_pem_private_key(key, None).private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    holders = [pid for pid in (service.process.pid, *children(service)) if in_memory(pid, (secret, secret[::-1], key))]
    commands = [Path(f"/proc/{pid}/task/{pid}/children").read_text() for pid in holders]
    assert len(holders) == 1, commands
    assert holders != [service.process.pid]


def in_memory(pid: int, needles: tuple[bytes, ...]) -> bool:
    """Whether a process holds any of these bytes."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if "rw" not in rights:
                continue
            start, end = (int(word, 16) for word in span.split("-"))
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue
            if any(needle in data for needle in needles):
                return True
    return False


# --- Health, metrics, logs ---------------------------------------------------------------------------------------


def test_health_and_readiness(service: Running) -> None:
    assert get(service, "/healthz")[0] == 200
    status, body = get(service, "/readyz")
    assert status == 200
    assert json.loads(body)["parts"] == {"database": True, "signer": True, "disk": True, "accepting": True}


def test_metrics_for_prometheus(service: Running) -> None:
    service.client().moderations.create(input="a fox")
    _, text = get(service, "/metrics")
    assert 'guardrails_http_requests_total{method="POST",route="/v1/moderations",status="200"}' in text
    assert 'guardrails_component_up{component="signer"} 1.0' in text
    assert "guardrails_moderations_total" in text


def test_no_word_of_a_prompt_and_no_key_reaches_logs_metrics_manifests_or_errors(service: Running) -> None:
    canary = "canarymwvpglbdwm"
    client = service.client(max_retries=0)
    item = client.images.generate(prompt=f"a red apple {canary}", user=canary, extra_body={canary: canary}).data[0]
    data = base64.b64decode(item.b64_json)
    client.moderations.create(input=f"a fox {canary}")
    for options in ({"n": 99}, {"size": canary}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.images.generate(**{"prompt": canary, **options})
        assert canary not in refused.value.response.text
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt=f"a n4k3d woman {canary}")
    get(service, f"/v1/log/proof?index={canary}")
    get(service, f"/{canary}")
    # The last line; those before it have arrived with it.
    last = client.moderations.with_raw_response.create(input="a fox").headers["x-request-id"]
    until = time.monotonic() + 60
    while not any(last in line for line in service.lines):
        assert time.monotonic() < until, "the last request was not logged"
        time.sleep(0.05)
    logged = "\n".join(service.lines)
    assert canary not in logged
    assert service.key not in logged
    assert canary not in get(service, "/metrics")[1]
    assert canary.encode() not in data
    assert any(line.get("route") == "/v1/images/generations" for line in service.log())


def test_an_unknown_page_is_an_error_in_our_shape(service: Running) -> None:
    status, body = get(service, "/v1/nothing")
    assert status == 404
    assert json.loads(body)["error"]["code"] == "not_found"


# --- Crashes and stops -------------------------------------------------------------------------------------------


@pytest.fixture
def own(home: Path) -> Any:
    """Starts services that a test may break."""
    started: list[Running] = []

    def start(**settings: Any) -> Running:
        running = start_service(home, **settings)
        running.key = running.admin.keys.create("acme", ("generate", "verify", "moderate"))[0]
        started.append(running)
        return running

    from service.administration import Administration

    Administration.open(Settings(home=home), actor="test").tenants.add("acme")
    yield start
    for running in started:
        running.stop()


def children(running: Running) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(running.process.pid)], capture_output=True, text=True)
    return [int(word) for word in done.stdout.split()]


def test_killed_parts_are_started_again_and_a_stop_finishes_what_runs(own: Any, home: Path) -> None:
    running = own(lease_seconds=2)
    client = running.client(max_retries=3)
    client.images.generate(prompt=PROMPT)
    for child in children(running):
        os.kill(child, signal.SIGKILL)
    answer = client.images.generate(prompt=PROMPT, n=2, timeout=120)
    assert len(answer.data) == 2
    raw = client.images.with_raw_response.generate(prompt=PROMPT, n=4, extra_headers={"Prefer": "respond-async"})
    id = raw.headers["location"].rpartition("/")[2]
    while client.get(f"/jobs/{id}", cast_to=object)["status"] == "queued":  # type: ignore[index]
        time.sleep(0.01)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(90) == 0
    row = running.admin.tenants._database.one("SELECT status FROM jobs WHERE id = ?", id)
    assert row is not None
    assert row["status"] == "succeeded"
    with Ledger.open(homes.ledger_folder(home), create=False) as ledger:
        assert ledger.fsck() >= 7


def test_a_stop_signal_in_the_middle_of_a_wait_does_not_stand_still() -> None:
    """The signal arrives while the main thread holds the lock of the very event that it waits for."""
    code = (
        "import os, signal, time\n"
        "from service.processes import _stop_by_signal\n"
        "stopping = _stop_by_signal()\n"
        "with stopping._cond:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.2)\n"
        "print(stopping.wait(60))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_a_stop_leaves_no_job_half_done(own: Any) -> None:
    running = own(batch_pictures=4, batch_wait_ms=200)
    client = running.client(max_retries=0)
    client.images.generate(prompt=PROMPT)
    ids = []
    for seed in range(8):
        body = {"guardrails": {"seed": seed, "respond_async": True}}
        raw = client.images.with_raw_response.generate(prompt=PROMPT, extra_body=body)
        ids.append(raw.headers["location"].rpartition("/")[2])
    while client.get(f"/jobs/{ids[0]}", cast_to=object)["status"] == "queued":  # type: ignore[index]
        time.sleep(0.01)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(120) == 0
    marks = ", ".join("?" * len(ids))
    rows = running.admin.tenants._database.all(f"SELECT status, attempts FROM jobs WHERE id IN ({marks})", *ids)
    assert {row["status"] for row in rows} <= {"succeeded", "queued"}
    assert [row["attempts"] for row in rows] == [int(row["status"] == "succeeded") for row in rows]


def test_while_it_drains_it_lives_is_not_ready_and_takes_nothing_new(own: Any) -> None:
    running = own(workers=0, drain_seconds=20)
    ends: list[str] = []

    def ask() -> None:
        try:
            running.client(max_retries=0).images.generate(prompt=PROMPT, timeout=100)
        except openai.APIError as error:
            ends.append(type(error).__name__)

    waiting = threading.Thread(target=ask)
    waiting.start()
    while not running.admin.tenants._database.all("SELECT id FROM jobs"):
        time.sleep(0.05)
    stopped = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    while get(running, "/readyz")[0] != 503:
        time.sleep(0.05)
    assert get(running, "/healthz")[0] == 200
    assert json.loads(get(running, "/readyz")[1])["parts"]["accepting"] is False
    with pytest.raises(openai.InternalServerError) as refused:
        running.client(max_retries=0).images.generate(prompt="a blue boat")
    assert (refused.value.status_code, refused.value.code) == (503, "draining")
    assert running.process.wait(120) == 0
    # Nobody made the picture that was waited for, so the whole time was given.
    assert time.monotonic() - stopped > 19
    waiting.join(60)
    assert len(ends) == 1


@pytest.mark.parametrize("role", ["all", "signer"])
def test_serve_says_as_json_where_it_answers(role: str, home: Path) -> None:
    command = [sys.executable, "-m", "guardrails.cli", "serve", "--json", "--port", "0", "--role", role]
    environment = {**os.environ, "GUARDRAILS_SERVICE_WORKERS": "0", "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(
        [*command, "--home", str(home)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
        assert said["role"] == role
        if role == "all":
            with urllib.request.urlopen(f"{said['address']}/healthz", timeout=60) as answer:
                assert answer.status == 200
        else:
            assert SignerClient(Path(said["address"])).is_alive()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "")


@pytest.mark.slow
def test_the_service_on_postgresql(postgresql: str, home: Path) -> None:
    running = start_service(home, database=postgresql)
    try:
        running.key = running.add_key("acme")
        answer = running.client().images.generate(prompt=PROMPT, n=2)
        assert len(answer.data) == 2
        assert get(running, "/readyz")[0] == 200
    finally:
        running.stop()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_embedded_model_draws_for_an_openai_client(home: Path) -> None:
    running = start_service(
        home, guard="service.jobs.guards:installed", screens="guardrails.screens:default_screens", workers=1
    )
    try:
        running.key = running.add_key("acme")
        options: Any = {"extra_body": {"guardrails": {"steps": 4, "seed": 7}}, "timeout": 900}
        item = running.client().images.generate(prompt="a red apple on a blue background", **options).data[0]
        shown = item.model_extra["guardrails"]
        assert (shown["model"], shown["c2pa"]) == ("pocket", "trusted")
        edited = running.client().images.edit(
            image=base64.b64decode(item.b64_json), prompt="a green apple on a blue background", **options
        )
        assert edited.data[0].model_extra["guardrails"]["c2pa"] == "trusted"
    finally:
        running.stop()


CRASHES = [sys.executable, str(CHECKOUT / "benchmarks" / "service_crashes.py"), "--json"]


def crashes(*words: str) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [*CRASHES, *words], env=environment, capture_output=True, text=True, timeout=3000, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_after_a_kill_at_every_named_point_nothing_is_released_unrecorded() -> None:
    found = crashes("--kills", str(len(POINTS)))
    assert found["broken_promises"] == []
    assert found["kills"] == dict.fromkeys(POINTS, 1)
    assert found["pictures"] >= found["jobs"] > 0


def test_a_worker_that_does_not_die_is_told_of_instead_of_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "latest_use", lambda point: 10**9)
    monkeypatch.setattr(harness, "_SLOWEST", 20.0)
    settings = Settings(home=home, guard=DRAWING, lease_seconds=0.4, max_attempts=10, log_level="error")
    with pytest.raises(harness.StalledError, match="waited 20 s for: gone") as stalled:
        harness.kill_workers(settings, kills=1)
    for part in ("process", "State|thread", "file locks:", "open jobs:"):
        assert re.search(part, stalled.value.message)
    # The worker's own stack, as it wrote it.
    assert "run_worker" in capfd.readouterr().err


def test_a_crash_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    first = crashes("--kills", "2", "--home", str(tmp_path))
    second = crashes("--kills", "4", "--home", str(tmp_path))
    assert first["kills"] == dict.fromkeys(POINTS[:2], 1)
    assert second["kills"] == dict.fromkeys(POINTS[:4], 1)
    assert second["jobs"] > first["jobs"]
    assert first["broken_promises"] == second["broken_promises"] == []


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("database", ["", "postgresql"])
def test_after_a_hundred_kills_nothing_is_released_unrecorded(database: str) -> None:
    found = crashes("--kills", "100", *(["--database", database] if database else []))
    assert found["broken_promises"] == []
    assert sum(found["kills"].values()) == 100
    assert set(found["kills"]) == set(POINTS)
