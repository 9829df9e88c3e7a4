"""Trusted time (RFC 3161): proof that a signature existed before its certificate expired or was withdrawn.

::

    messages.py      requests and responses, to and from DER
    verification.py  a token from anywhere -> the time it proves, as a numbered list of checks
    authority.py     a small authority of one's own (TimeStampAuthority)
    keys.py          its certificate and key
    client.py        an authority elsewhere, over HTTP (TimeStampClient)
    server.py        the authority behind HTTP, as an ASGI application

Both authority and client are a `Stamper`: a message in, a token out. Only the client opens a connection, only to the
address that it was given, and only when something is signed.
"""

from __future__ import annotations

from typing import Protocol

from guardrails.provenance.timestamps.authority import TimeStampAuthority
from guardrails.provenance.timestamps.client import TimeStampClient
from guardrails.provenance.timestamps.keys import create_authority_keys
from guardrails.provenance.timestamps.verification import TimeStamp, verify_token

__all__ = [
    "Stamper",
    "TimeStamp",
    "TimeStampAuthority",
    "TimeStampClient",
    "create_authority_keys",
    "verify_token",
]


class Stamper(Protocol):
    """Whoever certifies that a message exists now."""

    def stamp(self, message: bytes) -> bytes:
        """A time-stamp token (DER of the CMS ContentInfo) over the SHA-256 of the message.

        Raises:
            TimeStampError: there is none.
        """
        ...
