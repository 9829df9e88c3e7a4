"""Requests and responses of RFC 3161 in DER. asn1crypto is imported on first use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from guardrails.errors import TimeStampError

REQUEST_TYPE = "application/timestamp-query"
REPLY_TYPE = "application/timestamp-reply"

# What imprints may be made with, and their lengths in bytes.
DIGESTS = {"sha256": 32, "sha384": 48, "sha512": 64}

# asn1crypto parses lazily: hostile bytes show themselves as one of these at any access.
FAULTS = (ValueError, TypeError, KeyError, OverflowError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks.

    Attributes:
        algorithm: of the imprint, a key of `DIGESTS` or a name that is not served.
        imprint: digest of what is to be stamped.
        policy: dotted OID that the token has to be issued under; "" for any.
        nonce: repeated in the token.
        wants_certificate: the token is to carry the authority's certificate.
        has_extensions: there are extensions, none of which is served.
    """

    algorithm: str
    imprint: bytes
    policy: str = ""
    nonce: int | None = None
    wants_certificate: bool = True
    has_extensions: bool = False

    @classmethod
    def over(cls, message: bytes, nonce: int) -> Request:
        """A request for a token over the SHA-256 of a message."""
        return cls(algorithm="sha256", imprint=hashlib.sha256(message).digest(), nonce=nonce)

    def to_der(self) -> bytes:
        from asn1crypto import tsp

        fields: dict[str, Any] = {
            "version": "v1",
            "message_imprint": imprint_of(self),
            "cert_req": self.wants_certificate,
        }
        if self.nonce is not None:
            fields["nonce"] = self.nonce
        if self.policy:
            fields["req_policy"] = self.policy
        return bytes(tsp.TimeStampReq(fields).dump())

    @classmethod
    def from_der(cls, data: bytes) -> Request:
        """Read a request.

        Raises:
            ValueError: these bytes are no request of version 1.
        """
        from asn1crypto import tsp

        try:
            request = tsp.TimeStampReq.load(data, strict=True)
            if request["version"].native != "v1":
                raise ValueError("only version 1 is known")
            imprint = request["message_imprint"]
            return cls(
                algorithm=str(imprint["hash_algorithm"]["algorithm"].native),
                imprint=bytes(imprint["hashed_message"].native),
                policy=request["req_policy"].dotted if request["req_policy"].native is not None else "",
                nonce=request["nonce"].native,
                wants_certificate=bool(request["cert_req"].native),
                has_extensions=bool(request["extensions"].native),
            )
        except FAULTS as error:
            raise ValueError(f"not a time-stamp request: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """The signed content of a token (`TSTInfo`)."""

    policy: str
    algorithm: str
    imprint: bytes
    serial: int
    time: datetime
    nonce: int | None


def granted(token: bytes) -> bytes:
    """The response that carries a token."""
    from asn1crypto import cms, tsp

    return bytes(
        tsp.TimeStampResp(
            {"status": {"status": "granted"}, "time_stamp_token": cms.ContentInfo.load(token, strict=True)}
        ).dump()
    )


def refused(reason: str, text: str) -> bytes:
    """The response that says why there is no token.

    Args:
        reason: a name of `PKIFailureInfo`, for example "bad_alg".
    """
    from asn1crypto import core, tsp

    status = tsp.PKIStatusInfo({"status": "rejection", "status_string": [text], "fail_info": {reason}})
    # The type of the response has no optional token, though the standard does: the outer sequence is made by hand.
    return bytes(core.SequenceOf([status], spec=tsp.PKIStatusInfo).dump())


def token_of(response: bytes) -> bytes:
    """The token in a response.

    Raises:
        TimeStampError: the authority refused, or the bytes are no response.
    """
    from asn1crypto import cms, core, tsp

    try:
        parts = core.SequenceOf.load(response, spec=core.Any, strict=True)
        status = parts[0].parse(tsp.PKIStatusInfo)
        kind = status["status"].native
        if kind not in ("granted", "granted_with_mods"):
            texts = status["status_string"].native or []
            reasons = sorted(status["fail_info"].native or [])
            raise TimeStampError(
                f"the time-stamp authority answered {kind}: {'; '.join([*reasons, *texts]) or 'no reason given'}"[:300],
                hint="check the authority's address and the policies it serves",
            )
        return bytes(parts[1].parse(cms.ContentInfo).dump())
    except (IndexError, *FAULTS) as error:
        raise TimeStampError(
            f"the time-stamp authority's answer cannot be read: {error}"[:300],
            hint="check that the address is that of an RFC 3161 authority",
        ) from error


def imprint_of(request: Request) -> dict[str, Any]:
    """`MessageImprint` as asn1crypto takes it."""
    return {"hash_algorithm": {"algorithm": request.algorithm}, "hashed_message": request.imprint}
