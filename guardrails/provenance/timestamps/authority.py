"""A small time-stamp authority of one's own (RFC 3161), for installations that may not call out.

What it proves is that whoever holds its key put his clock's time on a digest. An authority under the same roof as the
signer proves less than one elsewhere: say so to whoever relies on it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from guardrails.errors import KeyMaterialError, TimeStampError
from guardrails.provenance.certificates import SigningKey
from guardrails.provenance.timestamps.keys import load_authority_key
from guardrails.provenance.timestamps.messages import DIGESTS, Request, granted, imprint_of, refused

# RFC 3161 demands a policy. Drawn at random under the arc of UUIDs (ITU-T X.667), with 31 bits instead of 128, because
# there are verifiers that misread a larger arc. Whoever has an arc of his own gives a policy of his own.
POLICY = "2.25.1607216771"
MAX_REQUEST_BYTES = 4096

# Random, so that neither a restart nor a second process repeats one (RFC 3161, section 2.4.2: unique).
_SERIAL_BITS = 127
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}


class TimeStampAuthority:
    """Issues tokens with one key. Safe to share between threads, and to use after a fork.

    Args:
        key: of a certificate that is for time-stamping alone.
        policy: dotted OID under which tokens are issued.
        clock: tells the time, with its zone.

    Raises:
        KeyMaterialError: the key is of an unsupported kind, or its certificate is not for time-stamping alone.
    """

    def __init__(
        self, key: SigningKey, *, policy: str = POLICY, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        private_key = serialization.load_pem_private_key(key.key_pem, None)
        if not isinstance(private_key, ec.EllipticCurvePrivateKey) or private_key.curve.name not in _HASHES:
            raise KeyMaterialError(
                f"{key.source} holds no key that this authority can use",
                hint="use an ECDSA key on P-256, P-384 or P-521, for example from `guardrails tsa init`",
            )
        certificate = key.leaf
        _refuse_unfit(certificate, private_key, key.source)
        self._key, self._hash = private_key, _HASHES[private_key.curve.name]()
        self._certificate, self._policy, self._clock = certificate, policy, clock
        self._chain = x509.load_pem_x509_certificates(key.chain_pem)

    @classmethod
    def open(cls, folder: Path) -> TimeStampAuthority:
        """The authority whose keys are in `folder`/tsa.

        Raises:
            KeyMaterialError: there are none, or they are unusable.
        """
        return cls(load_authority_key(folder))

    def stamp(self, message: bytes) -> bytes:
        """A token over the SHA-256 of a message, without a network; implements `Stamper`.

        Raises:
            TimeStampError: the certificate does not cover the current time.
        """
        now = self._clock()
        if not self._covers(now):
            raise TimeStampError(
                f"the time-stamp authority's certificate does not cover {now:%Y-%m-%d %H:%M} UTC",
                hint="check this machine's clock; for a new certificate move the tsa folder away, keep its root.pem",
            )
        return self._issue(Request.over(message, nonce=secrets.randbits(63)), now)

    def answer(self, data: bytes) -> bytes:
        """The response to a request, both in DER; a bad request gets a rejection, never an exception."""
        if len(data) > MAX_REQUEST_BYTES:
            return refused("bad_data_format", f"a request has at most {MAX_REQUEST_BYTES} bytes")
        try:
            request = Request.from_der(data)
        except ValueError as error:
            return refused("bad_data_format", str(error)[:200])
        now = self._clock()
        objection = self._object(request)
        if objection is not None:
            return refused(*objection)
        if not self._covers(now):
            return refused("time_not_available", "the authority's certificate does not cover the current time")
        return granted(self._issue(request, now))

    def _object(self, request: Request) -> tuple[str, str] | None:
        """Why a request is not served: the name of a failure, and words."""
        length = DIGESTS.get(request.algorithm)
        if length is None:
            return "bad_alg", f"imprints are made with {', '.join(DIGESTS)}"
        if len(request.imprint) != length:
            return "bad_data_format", f"an imprint of {request.algorithm} has {length} bytes"
        if request.policy not in ("", self._policy):
            return "unaccepted_policy", f"the only policy here is {self._policy}"
        if request.has_extensions:
            return "unaccepted_extensions", "no extension is known here"
        return None

    def _covers(self, moment: datetime) -> bool:
        return self._certificate.not_valid_before_utc <= moment < self._certificate.not_valid_after_utc

    def _issue(self, request: Request, now: datetime) -> bytes:
        from asn1crypto import cms, tsp

        info: dict[str, Any] = {
            "version": "v1",
            "policy": self._policy,
            "message_imprint": imprint_of(request),
            "serial_number": secrets.randbits(_SERIAL_BITS) or 1,
            # Whole seconds, rounded down: what is stamped existed at the end of that second.
            "gen_time": now.astimezone(UTC).replace(microsecond=0),
            "accuracy": {"seconds": 1},
        }
        if request.nonce is not None:
            info["nonce"] = request.nonce
        content = tsp.TSTInfo(info)
        attributes = self._attributes(content.dump())
        # Signed as a SET OF with its own tag (RFC 5652, section 5.4).
        signature = self._key.sign(attributes.dump(), ec.ECDSA(self._hash))
        name = {"algorithm": self._hash.name}
        certificate = _asn1_certificate(self._certificate)
        signer = {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                {
                    "issuer_and_serial_number": {
                        "issuer": certificate.issuer,
                        "serial_number": self._certificate.serial_number,
                    }
                }
            ),
            "digest_algorithm": name,
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": f"{self._hash.name}_ecdsa"},
            "signature": signature,
        }
        signed: dict[str, Any] = {
            "version": "v3",
            "digest_algorithms": [name],
            "encap_content_info": {"content_type": "tst_info", "content": cms.ParsableOctetString(content.dump())},
            "signer_infos": [signer],
        }
        if request.wants_certificate:
            signed["certificates"] = [_asn1_certificate(one) for one in self._chain]
        return bytes(cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)}).dump())

    def _attributes(self, content: bytes) -> Any:
        from asn1crypto import cms, tsp

        digest = hashlib.new(self._hash.name, content).digest()
        identifier = tsp.ESSCertIDv2({"cert_hash": self._certificate.fingerprint(hashes.SHA256())})
        return cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "message_digest", "values": [digest]},
                {"type": "signing_certificate_v2", "values": [tsp.SigningCertificateV2({"certs": [identifier]})]},
            ]
        )


def _refuse_unfit(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, source: str) -> None:
    why = ""
    if certificate.public_key() != key.public_key():
        why = "the private key does not belong to the first certificate"
    elif not is_for_time_stamping_alone(certificate):
        why = "the certificate is not for time-stamping alone, with a critical extended key usage"
    if why:
        raise KeyMaterialError(
            f"{source} cannot issue time-stamps: {why}", hint="make keys with `guardrails tsa init`, or ask your CA"
        )


def is_for_time_stamping_alone(certificate: x509.Certificate) -> bool:
    """RFC 3161, section 2.3: a critical extended key usage with the one purpose id-kp-timeStamping."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return usage.critical and list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]


def _asn1_certificate(certificate: x509.Certificate) -> Any:
    from asn1crypto import x509 as asn1_x509

    return asn1_x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER))
