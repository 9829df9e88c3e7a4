"""Client and server over real HTTP on loopback, and servers that mean no good."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from guardrails.errors import OptionError, TimeStampError
from guardrails.provenance.timestamps import TimeStampAuthority, TimeStampClient, verify_token
from guardrails.provenance.timestamps.authority import MAX_REQUEST_BYTES
from guardrails.provenance.timestamps.keys import load_authority_key
from guardrails.provenance.timestamps.messages import REPLY_TYPE, REQUEST_TYPE, Request, granted, token_of

MESSAGE = b"blue boats"
Hostile = Callable[[Callable[[Any, bytes], None]], str]


def _reply(handler: Any, body: bytes, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("content-type", REPLY_TYPE)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _post(url: str, body: bytes, method: str = "POST", kind: str = REQUEST_TYPE) -> tuple[int, str, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=5)
    try:
        connection.request(method, parts.path, body, {"Content-Type": kind})
        response = connection.getresponse()
        return response.status, str(response.getheader("content-type")), response.read()
    finally:
        connection.close()


def test_a_token_comes_back_verified(served: str, anchors: bytes) -> None:
    token = TimeStampClient(served, anchors=anchors).stamp(MESSAGE)
    assert abs(verify_token(token, MESSAGE, anchors=anchors).time - datetime.now(UTC)) < timedelta(seconds=30)


def test_the_server_speaks_http_as_the_standard_says(served: str) -> None:
    status, kind, body = _post(served, Request.over(MESSAGE, 1).to_der(), kind=f"{REQUEST_TYPE}; x=y")
    assert (status, kind) == (200, REPLY_TYPE)
    verify_token(token_of(body), MESSAGE, nonce=1)
    status, kind, body = _post(served, b"junk")
    assert (status, kind) == (200, REPLY_TYPE)
    with pytest.raises(TimeStampError, match="rejection"):
        token_of(body)


@pytest.mark.parametrize(
    ("method", "kind", "body", "status"),
    [
        ("GET", REQUEST_TYPE, b"", 405),
        ("POST", "application/json", b"{}", 415),
        ("POST", REQUEST_TYPE, b"\0" * (MAX_REQUEST_BYTES + 1), 413),
    ],
)
def test_what_is_no_request_at_all_is_an_http_error(
    served: str, method: str, kind: str, body: bytes, status: int
) -> None:
    assert _post(served, body, method, kind)[0] == status


def test_a_foreign_authority_is_refused_where_anchors_are_given(served: str, keys: Path) -> None:
    client = TimeStampClient(served, anchors=(keys / "c2pa" / "root.pem").read_bytes())
    with pytest.raises(TimeStampError, match="no chain leads"):
        client.stamp(MESSAGE)


def test_a_redirect_is_not_followed(hostile: Hostile, served: str) -> None:
    def answer(handler: Any, _: bytes) -> None:
        handler.send_response(307)
        handler.send_header("location", served)
        handler.end_headers()

    with pytest.raises(TimeStampError, match="HTTP 307"):
        TimeStampClient(hostile(answer)).stamp(MESSAGE)


def test_a_replayed_token_is_refused(hostile: Hostile, authority: TimeStampAuthority) -> None:
    old = granted(authority.stamp(MESSAGE))
    with pytest.raises(TimeStampError, match="nonce"):
        TimeStampClient(hostile(lambda handler, _: _reply(handler, old))).stamp(MESSAGE)


def test_an_authority_with_a_wrong_clock_is_refused(hostile: Hostile, authority_folder: Path) -> None:
    late = datetime.now(UTC) + timedelta(hours=2)
    wrong = TimeStampAuthority(load_authority_key(authority_folder), clock=lambda: late)
    client = TimeStampClient(hostile(lambda handler, body: _reply(handler, wrong.answer(body))))
    with pytest.raises(TimeStampError, match="the clock of guardrails TSA says"):
        client.stamp(MESSAGE)


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"<html>", 200, "cannot be read"),
        (b"", 200, "cannot be read"),
        (b"", 503, "HTTP 503"),
        (b"\0" * 70_000, 200, "more than 65536 bytes"),
    ],
)
def test_what_is_no_answer_is_an_error_that_says_so(hostile: Hostile, body: bytes, status: int, why: str) -> None:
    with pytest.raises(TimeStampError, match=why):
        TimeStampClient(hostile(lambda handler, _: _reply(handler, body, status))).stamp(MESSAGE)


def test_a_server_that_drips_does_not_hold_us(hostile: Hostile) -> None:
    def answer(handler: Any, _: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(800):
                handler.wfile.write(b"\0")
                time.sleep(0.05)
        except OSError:
            pass

    # A busy machine may let each piece wait for a moment, which is not what ends this.
    began = time.monotonic()
    with pytest.raises(TimeStampError, match="did not end in time"):
        TimeStampClient(hostile(answer), timeout=2).stamp(MESSAGE)
    assert time.monotonic() - began < 10


def test_nobody_there_is_an_error_that_names_the_address() -> None:
    with pytest.raises(TimeStampError, match=r"no time-stamp from http://127\.0\.0\.1:9/") as caught:
        TimeStampClient("http://127.0.0.1:9/").stamp(MESSAGE)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "url", ["", "tsa.example", "ftp://host/", "file:///etc/passwd", "http://", "http://a:b@host/", "http://host:x/"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(OptionError):
        TimeStampClient(url)


def test_a_timeout_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(OptionError, match="time-out"):
        TimeStampClient("http://host/", timeout=0)
