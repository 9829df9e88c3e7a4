"""A time-stamp authority elsewhere, over HTTP (RFC 3161, section 3.4).

The exchange is our own and not the C2PA SDK's: it goes to the configured address and nowhere else (no redirects, no
proxies of the environment), it ends in time, and what comes back is verified before anything is signed with it.
"""

from __future__ import annotations

import contextlib
import http.client
import secrets
import ssl
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

from guardrails.errors import OptionError, TimeStampError
from guardrails.provenance.timestamps.messages import REPLY_TYPE, REQUEST_TYPE, Request, token_of
from guardrails.provenance.timestamps.verification import verify_token

DEFAULT_TIMEOUT = 10.0
MAX_RESPONSE_BYTES = 64 * 1024

_MAX_SKEW = timedelta(minutes=5)
_NONCE_BITS = 63


class TimeStampClient:
    """Asks one authority. Safe to share between threads, and to use after a fork: every token has a connection.

    Args:
        url: "http://..." or "https://..."; http is enough, because a token is signed and carries our nonce.
        anchors: PEM certificates that the authority has to lead to; empty to leave that to whoever verifies the file.
        timeout: seconds for the whole exchange.

    Raises:
        OptionError: the address or the time-out makes no sense.
    """

    def __init__(self, url: str, *, anchors: bytes = b"", timeout: float = DEFAULT_TIMEOUT) -> None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise OptionError(
                f"{url!r} is not the address of a time-stamp authority", hint="give http://host[:port]/path"
            )
        if not 0 < timeout <= 300:
            raise OptionError(f"a time-out of {timeout} s makes no sense", hint="give 1 to 300 seconds")
        self.url = url
        self._parts, self._anchors, self._timeout = parts, anchors, timeout

    def stamp(self, message: bytes) -> bytes:
        """A verified token over the SHA-256 of a message; implements `Stamper`. Only the digest leaves.

        Raises:
            TimeStampError: no answer in time, a refusal, or a token that does not verify.
        """
        nonce = secrets.randbits(_NONCE_BITS)
        token = token_of(self._post(Request.over(message, nonce).to_der()))
        stamp = verify_token(token, message, nonce=nonce, anchors=self._anchors)
        if abs(stamp.time - datetime.now(UTC)) > _MAX_SKEW:
            raise TimeStampError(
                f"the clock of {stamp.authority} says {stamp.time:%Y-%m-%d %H:%M:%S} UTC",
                hint="check this machine's clock, then the authority's",
            )
        return token

    def _post(self, body: bytes) -> bytes:
        deadline = time.monotonic() + self._timeout
        headers = {"Content-Type": REQUEST_TYPE, "Accept": REPLY_TYPE, "Connection": "close"}
        target = urlunsplit(("", "", self._parts.path or "/", self._parts.query, ""))
        try:
            with contextlib.closing(self._connect()) as connection:
                connection.request("POST", target, body, headers)
                response = connection.getresponse()
                if response.status != http.HTTPStatus.OK:
                    raise self._unanswered(f"it answered HTTP {response.status}")
                return self._read(response, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unanswered(str(error) or type(error).__name__) from error

    def _connect(self) -> http.client.HTTPConnection:
        host, port = str(self._parts.hostname), self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=ssl.create_default_context())

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        """The body in pieces: a server that sends a byte a second must not hold us."""
        body = b""
        while piece := response.read1(8192):
            body += piece
            if len(body) > MAX_RESPONSE_BYTES:
                raise self._unanswered(f"its answer has more than {MAX_RESPONSE_BYTES} bytes")
            if time.monotonic() > deadline:
                raise self._unanswered("its answer did not end in time")
        return body

    def _unanswered(self, why: str) -> TimeStampError:
        return TimeStampError(
            f"no time-stamp from {self.url}: {why}"[:300],
            hint="check the address and the connection, or sign without time-stamps",
        )
