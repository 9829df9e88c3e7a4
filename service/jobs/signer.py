"""The signer: a process of its own that alone holds the C2PA key, behind a Unix socket.

A message is four bytes of length and a CBOR map. Whoever connects must run under the signer's own account
(SO_PEERCRED); what is signed must be a complete claim (`claims`). The key is read once, when the process starts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import socketserver
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardrails import home as homes
from guardrails.errors import GuardrailsError, SigningError
from guardrails.provenance import Signer, TrustStore
from guardrails.provenance.certificates import SigningKey, load_dev_key, load_key_files
from guardrails.provenance.private_keys import raw_signer
from guardrails.provenance.timestamps import Stamper, TimeStampAuthority
from guardrails.provenance.timestamps.keys import TSA_FOLDER
from service import tracing
from service.jobs.claims import check_claim
from service.settings import Settings

_log = logging.getLogger(__name__)

# A claim has about a thousand bytes; with many ingredients a few more.
_LONGEST = 1 << 20
_SECONDS = 10.0


def load_key(settings: Settings) -> tuple[SigningKey, TrustStore, Stamper | None]:
    """The key that the settings name, else the development keys of the installation, which are made if need be.

    Raises:
        KeyMaterialError: it cannot be read.
    """
    keys = homes.keys_folder(settings.home)
    stamper = TimeStampAuthority.open(keys) if (keys / TSA_FOLDER).exists() else None
    if settings.signing_chain:
        key = load_key_files(Path(settings.signing_chain), Path(settings.signing_key), None)
        return key, operators_trust(settings), stamper
    Signer.dev(keys)
    return load_dev_key(keys), TrustStore.dev(keys), stamper


def operators_trust(settings: Settings) -> TrustStore:
    """The roots that the settings name, and that of the installation's own time-stamp authority.

    Raises:
        KeyMaterialError: they cannot be read.
    """
    named = TrustStore.pem(Path(settings.signing_anchors)) if settings.signing_anchors else TrustStore()
    return named + TrustStore.own_authority(homes.keys_folder(settings.home))


class SignerServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Signs complete claims for processes of this account.

    Args:
        path: of the socket; an old one is replaced.
        key, trust: what to sign with, and what the result is verified by; see `load_key`.
        stamper: an own time-stamp authority, whose key lives in this process too.
    """

    daemon_threads = True

    def __init__(self, path: Path, key: SigningKey, trust: TrustStore, stamper: Stamper | None = None) -> None:
        Signer(key, trust)  # refuses unfit keys
        self.sign = raw_signer(key)
        self.stamper = stamper
        self.facts = {"chain": key.chain_pem, "anchors": trust.anchors, "stamps": stamper is not None}
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        finally:
            os.umask(old)


class _Handler(socketserver.BaseRequestHandler):
    server: SignerServer

    def handle(self) -> None:
        connection: socket.socket = self.request
        connection.settimeout(_SECONDS)
        if _peer(connection) != os.geteuid():
            _log.warning("a process of another account asked for a signature")
            return
        with contextlib.suppress(OSError):
            _send(connection, self._answer(_receive(connection)))

    def _answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        match message.get("ask"):
            case "facts":
                return dict(self.server.facts)
            case "sign" if isinstance(message.get("claim"), bytes):
                try:
                    check_claim(message["claim"])
                except SigningError as error:
                    _log.warning("not signed: %s", error.message)
                    return {"error": error.message}
                parent = message.get("trace")
                with tracing.span("signer.sign", parent=parent if isinstance(parent, str) else "", kind="SERVER"):
                    return {"signature": self.server.sign(message["claim"])}
            case "stamp" if isinstance(message.get("message"), bytes) and self.server.stamper is not None:
                return {"token": self.server.stamper.stamp(message["message"])}
            case _:
                return {"error": "unknown request"}


class SignerClient:
    """Asks the signer process; one connection for each question."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sign(self, claim: bytes) -> bytes:
        """The signature over a claim.

        Raises:
            SigningError: the signer does not answer, or refuses.
        """
        with tracing.span("signer.request", kind="CLIENT"):
            question = {"ask": "sign", "claim": claim, "trace": tracing.traceparent()}
            return bytes(self._ask(question)["signature"])

    def signer(self) -> tuple[Signer, TrustStore]:
        """A `Signer` whose key is the other process's, and the trust store that its files are verified by."""
        facts = self._ask({"ask": "facts"})
        trust = TrustStore(facts["anchors"])
        with tempfile.NamedTemporaryFile(suffix=".pem") as chain:
            chain.write(facts["chain"])
            chain.flush()
            signer = Signer.from_callback(self.sign, Path(chain.name), name="signer", seconds=_SECONDS, trust=trust)
        return signer.stamped_by(self) if facts["stamps"] else signer, trust

    def chain(self) -> bytes:
        """The PEM certificates of the key, leaf first.

        Raises:
            SigningError: the signer does not answer.
        """
        return bytes(self._ask({"ask": "facts"})["chain"])

    def stamp(self, message: bytes) -> bytes:
        """See `Stamper`."""
        return bytes(self._ask({"ask": "stamp", "message": message})["token"])

    def is_alive(self) -> bool:
        try:
            return "chain" in self._ask({"ask": "facts"})
        except GuardrailsError:
            return False

    def _ask(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_SECONDS)
                connection.connect(str(self._path))
                _send(connection, message)
                answer = _receive(connection)
        except (OSError, ValueError) as error:
            raise SigningError(f"the signer does not answer: {error}", hint="start `guardrails serve`") from error
        if "error" in answer:
            raise SigningError(f"the signer refused: {answer['error']}", hint="see the signer's log")
        return answer


def _peer(connection: socket.socket) -> int:
    """The account of the other side."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", packed)
    return int(uid)


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    import cbor2

    data = cbor2.dumps(dict(message))
    connection.sendall(len(data).to_bytes(4, "big") + data)


def _receive(connection: socket.socket) -> Mapping[str, Any]:
    import cbor2

    length = int.from_bytes(_exactly(connection, 4), "big")
    if length > _LONGEST:
        raise ValueError("the message is too long")
    try:
        message = cbor2.loads(_exactly(connection, length))
    except cbor2.CBORError as error:
        raise ValueError("the message is no CBOR") from error
    if not isinstance(message, Mapping):
        raise ValueError("the message is no map")
    return message


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ValueError("the other side hung up")
        data += piece
    return data
