"""Signed notices (Standard Webhooks) to the hosts that the operator allows.

A notice is queued in the same transaction that ends the job, and sent by the API process until it is taken or has
failed too often. The name is resolved once; the connection goes to that very address, and a private one is refused:
so neither a redirect nor a second answer of the name server leads inside (server-side request forgery).
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import socket
import ssl
import time
import urllib.parse
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from guardrails.errors import OptionError
from service.jobs.model import Job, Status
from service.settings import Settings
from service.stores import Database, Row, Transaction

_log = logging.getLogger(__name__)

# Seconds to wait before each further try; after the last one the notice is dead.
BACKOFF = (5.0, 30.0, 300.0, 1800.0, 7200.0, 36000.0)
_SECONDS = 10.0
# While one process tries, no other does.
_TRYING_SECONDS = 60.0
# After so many the process looks whether it is to stop.
_TRIES = 20
_TYPES = {
    Status.SUCCEEDED: "job.completed",
    Status.FAILED: "job.failed",
    Status.QUARANTINED: "job.failed",
    Status.CANCELLED: "job.cancelled",
    Status.REFUSED: "generation.blocked",
    Status.HELD: "generation.held",
}


def enqueue(transaction: Transaction, job: Job, status: Status, result: Mapping[str, Any]) -> None:
    """Queue the notice about the end of a job, when its tenant wants notices."""
    categories = sorted({category for entry in result["blocked"] for category in entry["categories"]})
    data = {"job_id": job.id, "request_id": job.request_id, "status": status.value, "categories": categories}
    enqueue_event(transaction, job.tenant, _TYPES[status], data)


def enqueue_event(transaction: Transaction, tenant: str, type: str, data: Mapping[str, Any]) -> None:
    """Queue one notice for a tenant; does nothing when it wants none."""
    row = transaction.one("SELECT webhook_url FROM tenants WHERE id = ?", tenant)
    if row is None or not row["webhook_url"]:
        return
    now = time.time()
    stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    transaction.run(
        "INSERT INTO deliveries (id, tenant, url, type, body, created_at, attempts, next_at, status, error)"
        " VALUES (?, ?, ?, ?, ?, ?, 0, ?, 'waiting', '')",
        f"msg_{uuid.uuid4().hex}",
        tenant,
        row["webhook_url"],
        type,
        json.dumps({"type": type, "timestamp": stamp, "data": data}),
        now,
        now,
    )


class Courier:
    """Sends what waits."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def send_due(self) -> int:
        """Try notices whose time has come, as many as `_TRIES`; the number of tries."""
        for tries in range(_TRIES):
            row = self._claim()
            if row is None:
                return tries
            self._try(row)
        return _TRIES

    def _claim(self) -> Row | None:
        """One notice at a time: while others wait for a slow host, their claims would run out."""
        now = time.time()
        due = "SELECT * FROM deliveries WHERE status = 'waiting' AND next_at <= ? ORDER BY next_at LIMIT 1"
        if self._database.one(due, now) is None:
            return None
        with self._database.transaction() as transaction:
            row = transaction.one(due + self._database.claiming, now)
            if row is not None:
                transaction.run("UPDATE deliveries SET next_at = ? WHERE id = ?", now + _TRYING_SECONDS, row["id"])
        return row

    def _try(self, row: Row) -> None:
        error = ""
        try:
            tenant = self._database.one("SELECT webhook_secrets FROM tenants WHERE id = ?", row["tenant"])
            secrets = json.loads(tenant["webhook_secrets"]) if tenant else []
            self._post(row["url"], row["body"].encode(), signed_headers(secrets, row["id"], row["body"]))
        except (OptionError, OSError, ValueError, http.client.HTTPException) as failure:
            error = f"{type(failure).__name__}: {failure}"[:300]
        attempts = row["attempts"] + 1
        dead = bool(error) and attempts > len(BACKOFF)
        status = "dead" if dead else "waiting" if error else "delivered"
        next_at = time.time() + (BACKOFF[attempts - 1] if status == "waiting" else 0)
        if error:
            _log.warning("notice %s not taken, try %d", row["id"], attempts)
        with self._database.transaction() as transaction:
            transaction.run(
                "UPDATE deliveries SET attempts = ?, status = ?, next_at = ?, error = ? WHERE id = ?",
                attempts,
                status,
                next_at,
                error,
                row["id"],
            )

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        parts = check_address(url, self._settings.webhook_hosts)
        host, secure = str(parts.hostname), parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        address = resolve(host, port, private=self._settings.webhook_private)
        connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
        connection.sock = socket.create_connection((address, port), timeout=_SECONDS)
        if secure:
            connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
        try:
            path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            connection.request("POST", path, body, dict(headers))
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:
            # A redirect is no success either: it is not followed.
            raise ValueError(f"answered {status}")


def check_address(url: str, allowed: tuple[str, ...]) -> urllib.parse.SplitResult:
    """The parts of an address that notices may be sent to.

    Raises:
        OptionError: not http(s), with credentials, or a host that the operator did not name.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username is not None:
        raise OptionError("a webhook needs a plain http(s) address", hint="leave out user and password")
    if parts.hostname not in allowed:
        raise OptionError(f"{parts.hostname} is not an allowed host", hint="the operator sets `webhook_hosts`")
    return parts


def resolve(host: str, port: int, *, private: bool) -> str:
    """The address of a host, looked up once.

    Raises:
        OptionError: it is not one of the open internet, and `private` is not set.
        OSError: the name does not resolve.
    """
    address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    ip = ipaddress.ip_address(address)
    if not private and (not ip.is_global or ip.is_multicast):
        raise OptionError(f"{host} leads to an address that is not public", hint="the operator sets `webhook_private`")
    return address


def signed_headers(secrets: list[str], id: str, body: str) -> dict[str, str]:
    """The headers of Standard Webhooks 1.0, with one signature for each secret.

    Raises:
        OptionError: the tenant has no secret.
    """
    from standardwebhooks import Webhook

    if not secrets:
        raise OptionError("the tenant has no webhook secret", hint="`guardrails admin tenant webhook` makes one")
    now = datetime.now(UTC)
    signatures = " ".join(Webhook(secret).sign(id, now, body) for secret in secrets)
    return {
        "Content-Type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signatures,
    }
