"""Signed notices: who gets them, how they are proven, and where they never go."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from guardrails.errors import OptionError
from service.access.tenants import Tenants
from service.jobs import webhooks
from service.jobs.model import Job, Status
from service.jobs.table import JobTable
from service.jobs.webhooks import Courier, check_address, enqueue_event, resolve
from service.settings import Settings
from service.stores import Database, open_database

SECRETS = ("whsec_" + "bmV3" * 11 + "Cg==", "whsec_" + "b2xk" * 11 + "Cg==")


class Receiver:
    """Keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, headers = outer.answers.pop(0) if outer.answers else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def settings(database_address: str, tmp_path: Path) -> Settings:
    hosts = ("127.0.0.1", "localhost", "hooks.example.org")
    return Settings(home=tmp_path, database=database_address, webhook_hosts=hosts, webhook_private=True)


@pytest.fixture
def database(settings: Settings) -> Database:
    return open_database(settings)


def queue(database: Database, url: str, secrets: tuple[str, ...] = SECRETS) -> None:
    tenants = Tenants(database)
    tenants.add("acme", webhook_url=url, webhook_secrets=secrets)
    with database.transaction() as transaction:
        enqueue_event(transaction, "acme", "job.completed", {"job_id": "job_1"})


def status(database: Database) -> tuple[str, int]:
    row = database.one("SELECT * FROM deliveries")
    assert row is not None
    return row["status"], row["attempts"]


def test_a_notice_arrives_once_and_proves_itself_by_old_and_new_secret(
    settings: Settings, database: Database, receiver: Receiver
) -> None:
    queue(database, receiver.url)
    courier = Courier(database, settings)
    assert (courier.send_due(), courier.send_due()) == (1, 0)
    ((headers, body),) = receiver.got
    for secret in SECRETS:
        data = Webhook(secret).verify(body, headers)
        assert data["type"] == "job.completed"
        assert data["data"] == {"job_id": "job_1"}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRETS[0]).verify(body + b" ", headers)
    assert status(database) == ("delivered", 1)


def test_a_job_that_is_cancelled_while_it_waits_is_noticed(database: Database) -> None:
    Tenants(database).add("acme", webhook_url="https://hooks.example.org/", webhook_secrets=SECRETS)
    job = Job(
        id="job_1",
        tenant="acme",
        api_key="key",
        kind="generation",
        request={"prompt": "a red apple"},
        ids=("picture",),
        policy="default",
        created_at=time.time(),
    )
    table = JobTable(database)
    table.submit(job)
    # The second time nothing is left to stop.
    assert [table.cancel(job.id).status, table.cancel(job.id).status] == [Status.CANCELLED] * 2
    row = database.one("SELECT type, body FROM deliveries")
    assert row is not None
    assert row["type"] == "job.cancelled"
    told = {"job_id": "job_1", "request_id": "", "status": "cancelled", "categories": []}
    assert json.loads(row["body"])["data"] == told


def test_a_notice_that_is_not_taken_is_tried_again_and_then_given_up(
    settings: Settings, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "BACKOFF", (0.0, 0.0))
    receiver.answers = [(500, {}), (302, {"location": receiver.url}), (503, {})]
    queue(database, receiver.url)
    courier = Courier(database, settings)
    for _ in range(5):
        courier.send_due()
    # Three tries, none of them along the redirect.
    assert len(receiver.got) == 3
    assert status(database) == ("dead", 3)
    ids = {headers["webhook-id"] for headers, _ in receiver.got}
    assert len(ids) == 1


def test_while_one_process_waits_for_slow_hosts_no_other_sends_what_it_has(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue(database, "http://127.0.0.1/hook")
    with database.transaction() as transaction:
        enqueue_event(transaction, "acme", "job.completed", {"job_id": "job_2"})
    clock, sent = SimpleNamespace(now=time.time() + 1), []
    monkeypatch.setattr(webhooks, "time", SimpleNamespace(time=lambda: clock.now))
    slow, other = (Courier(database, settings) for _ in range(2))

    def post(courier: Courier, _url: str, _body: bytes, headers: dict[str, str]) -> None:
        sent.append((courier, headers["webhook-id"]))
        if courier is slow:
            clock.now += 25
            other.send_due()
            clock.now += 15

    monkeypatch.setattr(Courier, "_post", post)
    slow.send_due()
    assert len({id for _, id in sent}) == len(sent) == 2
    rows = database.all("SELECT status, attempts FROM deliveries")
    assert [(row["status"], row["attempts"]) for row in rows] == [("delivered", 1)] * 2


def test_waiting_between_tries(
    settings: Settings, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=time.time())
    monkeypatch.setattr(webhooks, "time", SimpleNamespace(time=lambda: clock.now))
    receiver.answers = [(500, {})]
    queue(database, receiver.url)
    courier = Courier(database, settings)
    assert (courier.send_due(), courier.send_due()) == (1, 0)
    row = database.one("SELECT next_at FROM deliveries")
    assert row is not None
    assert row["next_at"] == pytest.approx(clock.now + 5)
    clock.now += 5.1
    assert courier.send_due() == 1


def test_a_private_address_is_not_called(settings: Settings, database: Database, receiver: Receiver) -> None:
    queue(database, receiver.url)
    Courier(database, settings.model_copy(update={"webhook_private": False})).send_due()
    assert receiver.got == []
    assert status(database) == ("waiting", 1)


def test_a_name_that_turns_private_after_the_check_is_not_called(
    settings: Settings, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the connection goes to the address that was checked, whatever the name says later."""
    answers = ["93.184.216.34", "127.0.0.1"]
    asked: list[str] = []

    def lookup(host: str, port: int, *_: Any, **__: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[min(len(asked) - 1, 1)], port))]

    called: list[Any] = []

    def connect(address: Any, timeout: float) -> socket.socket:
        called.append(address)
        raise OSError("not here")

    monkeypatch.setattr(webhooks.socket, "getaddrinfo", lookup)
    monkeypatch.setattr(webhooks.socket, "create_connection", connect)
    queue(database, f"http://hooks.example.org:{receiver.server.server_port}/")
    Courier(database, settings.model_copy(update={"webhook_private": False})).send_due()
    assert called == [("93.184.216.34", receiver.server.server_port)]
    assert receiver.got == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://elsewhere.example/",
        "http://127.0.0.1.elsewhere.example/",
        "http:///nothing",
        "//127.0.0.1/",
    ],
)
def test_addresses_that_nobody_allowed(url: str) -> None:
    with pytest.raises(OptionError):
        check_address(url, ("127.0.0.1",))


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.1.1", "::1", "fd00::1", "0.0.0.0"])
def test_private_addresses(host: str) -> None:
    with pytest.raises(OptionError, match="not public"):
        resolve(host, 80, private=False)
    assert resolve(host, 80, private=True) == host


def test_a_tenant_without_an_address_gets_nothing(database: Database) -> None:
    Tenants(database).add("quiet")
    with database.transaction() as transaction:
        enqueue_event(transaction, "quiet", "job.completed", {})
    assert database.all("SELECT * FROM deliveries") == []


def test_a_notice_holds_no_words_of_the_prompt(database: Database, settings: Settings, receiver: Receiver) -> None:
    queue(database, receiver.url)
    Courier(database, settings).send_due()
    assert set(json.loads(receiver.got[0][1])) == {"type", "timestamp", "data"}
