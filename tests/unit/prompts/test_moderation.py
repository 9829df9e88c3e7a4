"""The external moderation service: only where the operator says, and silence is never a pass."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from guardrails.errors import ModelUnavailable, OptionError
from guardrails.prompts.moderation import ModerationEndpoint, endpoint_from_environment

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a service on this machine that gives one answer to everything; `serve.seen` is what it was asked."""
    servers: list[http.server.HTTPServer] = []

    def start(body: bytes = b"", *, status: int = 200, wait: float = 0, headers: dict[str, str] | None = None) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                seen.append((self.headers.get("Authorization"), json.loads(self.rfile.read(length))))
                time.sleep(wait)
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1/moderations"

    seen: list[tuple[str | None, Any]] = []
    start.seen = seen  # type: ignore[attr-defined]
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answer(scores: Any) -> bytes:
    return json.dumps({"results": [{"category_scores": scores}]}).encode()


def test_scores_are_read_and_the_key_is_sent(serve: Serve) -> None:
    endpoint = ModerationEndpoint(url=serve(answer({"violence": 0.9, "hate": 0})), key="secret")
    assert endpoint.score("a prompt") == {"violence": 0.9, "hate": 0.0}
    assert serve.seen == [("Bearer secret", {"input": "a prompt"})]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"results": []}',
        answer({}),
        answer([]),
        answer({"a": 2}),
        answer({"a": "high"}),
        answer({"a": float("nan")}),
    ],
)
def test_an_answer_that_cannot_be_read_is_unavailable(serve: Serve, body: bytes) -> None:
    with pytest.raises(ModelUnavailable):
        ModerationEndpoint(url=serve(body)).score("p")


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_refusal_is_unavailable(serve: Serve, status: int) -> None:
    with pytest.raises(ModelUnavailable):
        ModerationEndpoint(url=serve(answer({"a": 0}), status=status)).score("p")


def test_a_late_answer_is_unavailable(serve: Serve) -> None:
    with pytest.raises(ModelUnavailable):
        ModerationEndpoint(url=serve(answer({"a": 0}), wait=1), seconds=0.1).score("p")


def test_a_redirect_is_not_followed(serve: Serve) -> None:
    elsewhere = serve(answer({"a": 0}))
    with pytest.raises(ModelUnavailable):
        ModerationEndpoint(url=serve(status=307, headers={"Location": elsewhere})).score("p")
    assert len(serve.seen) == 1  # type: ignore[attr-defined]


def test_nobody_at_the_address_is_unavailable() -> None:
    with pytest.raises(ModelUnavailable):
        ModerationEndpoint(url="http://127.0.0.1:9/", seconds=0.5).score("p")


@pytest.mark.parametrize("url", ["http://example.org/", "ftp://example.org/", "file:///etc/hosts", "example.org"])
def test_only_https_leaves_this_machine(url: str) -> None:
    with pytest.raises(OptionError):
        ModerationEndpoint(url=url)


def test_secrets_stay_out_of_records_and_logs() -> None:
    endpoint = ModerationEndpoint(url="https://user:pass@example.org/v1?key=abc", key="secret")
    assert endpoint.component.version == "example.org/v1"
    assert "secret" not in repr(endpoint)


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUARDRAILS_MODERATION_URL", raising=False)
    assert endpoint_from_environment() is None
    monkeypatch.setenv("GUARDRAILS_MODERATION_URL", "https://example.org/v1")
    assert endpoint_from_environment() == ModerationEndpoint(url="https://example.org/v1")
