"""Signing finished pictures: bytes in, signed and verified bytes out."""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from cryptography.x509.oid import NameOID

from guardrails.errors import KeyMaterialError, LaunderingError, SigningError, TimeStampError
from guardrails.files import writing_atomically
from guardrails.provenance import backend, codes
from guardrails.provenance.certificates import (
    KEY_FOLDER,
    SigningKey,
    create_dev_chain,
    load_dev_key,
    load_key_files,
    load_service_key,
)
from guardrails.provenance.diagnosis import Diagnosis, doctor
from guardrails.provenance.lineage import Ingredient, Source
from guardrails.provenance.manifest import ManifestSpec
from guardrails.provenance.services import Call
from guardrails.provenance.signatures import is_signature
from guardrails.provenance.stamping import Stamping
from guardrails.provenance.timestamps import Stamper, TimeStampAuthority
from guardrails.provenance.timestamps.keys import TSA_FOLDER
from guardrails.provenance.trust import TrustStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed file.

    Attributes:
        data: the whole file; its pixels are those of the input, bit for bit.
        manifest_id: "urn:c2pa:<uuid>".
        manifest: the manifest store alone, as it lies in the file.
    """

    data: bytes
    manifest_id: str
    manifest: bytes


class Signer:
    """Signs with one key. Safe to share between threads, and to use after a fork.

    Args:
        key: loaded key material.
        trust: the signer's own view, by which ingredients are judged and the result is verified.
        service_seconds: how long a key service may take.

    Raises:
        KeyMaterialError: the certificates break a rule that makes signatures invalid, or have expired.
    """

    def __init__(
        self, key: SigningKey, trust: TrustStore, *, service_seconds: float = backend.DEFAULT_SERVICE_SECONDS
    ) -> None:
        _refuse_unfit(key)
        leaf = key.leaf
        self._key, self._anchors = key, trust.anchors
        self._service_seconds = service_seconds
        self._stamping: Stamping | None = None
        self._valid_from, self._valid_until = leaf.not_valid_before_utc, leaf.not_valid_after_utc

    @classmethod
    def dev(cls, folder: Path) -> Signer:
        """Sign with the development keys in `folder`, which are made when there are none.

        Nobody trusts these keys except who adds their root (`TrustStore.dev`). Where the folder also holds an own
        time-stamp authority (`guardrails tsa init`), that one stamps every signature.

        Raises:
            KeyMaterialError: the keys are damaged, open to other accounts, or expired.
            StorageError: they cannot be written.
        """
        is_new = not (folder / KEY_FOLDER).exists()
        create_dev_chain(folder, now=datetime.now(UTC))
        if is_new:
            _log.warning("made development signing keys in %s: not for production", folder / KEY_FOLDER)
        signer = cls(load_dev_key(folder), TrustStore.dev(folder))
        has_authority = (folder / TSA_FOLDER).exists()
        return signer.stamped_by(TimeStampAuthority.open(folder)) if has_authority else signer

    @classmethod
    def from_pem(
        cls,
        chain: Path,
        key: Path,
        password: bytes | None = None,
        *,
        trust: TrustStore | None = None,
    ) -> Signer:
        """Sign with your own certificate.

        Args:
            chain: PEM certificates, leaf first, root left out.
            key: PEM private key (PKCS#8 or SEC1, encrypted or not), not readable for other accounts.

        Raises:
            KeyMaterialError: names the file, what is wrong and what to do.
        """
        return cls(load_key_files(chain, key, password), trust or TrustStore())

    @classmethod
    def from_callback(
        cls,
        service: Callable[[bytes], bytes],
        chain: Path,
        *,
        name: str = "key service",
        seconds: float = backend.DEFAULT_SERVICE_SECONDS,
        trust: TrustStore | None = None,
    ) -> Signer:
        """Sign with a key that a KMS, an HSM or another process holds.

        Args:
            service: called once a file with the bytes to sign (not their hash), in a thread of its own; returns the
                signature: ECDSA raw (r||s) or DER, Ed25519, or RSA-PSS with SHA-256.
            chain: PEM certificates, leaf first; the leaf's key decides the algorithm.
            name: of the service, for messages.
            seconds: to wait for one signature.

        Raises:
            KeyMaterialError: the chain breaks a rule. The service is not called here; `doctor` tries it out.
        """
        key = load_service_key(chain, service, name)
        return cls(key, trust or TrustStore(), service_seconds=seconds)

    @property
    def organisation(self) -> str:
        """Whose key it is, as the leaf names them: the organisation, else the common name."""
        subject = self._key.leaf.subject
        names = [*subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME),
                 *subject.get_attributes_for_oid(NameOID.COMMON_NAME)]  # fmt: skip
        return next((str(name.value) for name in names), "")

    def doctor(self) -> tuple[Diagnosis, ...]:
        """Every rule that the chain has to meet; a key service is asked for one signature over a test message."""
        diagnoses = doctor(self._key.chain_pem, None if self._key.service else self._key.key_pem)
        return (*diagnoses, self._try_service(self._key.service)) if self._key.service else diagnoses

    def _try_service(self, service: Callable[[bytes], bytes]) -> Diagnosis:
        rule, fix = "key service", "check that it can be reached, which key it uses, and that it hashes by itself"
        message = b"guardrails key check"
        try:
            signature = Call(service, self._service_seconds)(message)
        except Exception as error:  # a service may raise anything
            return Diagnosis(rule=rule, passed=False, why=f"{type(error).__name__}: {error}", fix=fix)
        if not is_signature(self._key.leaf.public_key(), signature, message):
            why = f"its signature does not fit the leaf's key ({self._key.algorithm})"
            return Diagnosis(rule=rule, passed=False, why=why, fix=fix)
        return Diagnosis(rule=rule, passed=True)

    def stamped_by(self, stamper: Stamper) -> Signer:
        """The same signer, with a time-stamp beside every signature: such files outlive the signing certificate."""
        signer = copy.copy(self)
        signer._stamping = Stamping(stamper)
        return signer

    def sign(self, data: bytes, mime: str, spec: ManifestSpec) -> Signed:
        """Embed the manifest. Pixels are untouched; any byte written to the file afterwards breaks the signature.

        Args:
            data: a finished file. One that carries a manifest already must also be the spec's parent, byte for byte:
                then its history moves into the new manifest.
            mime: its media type, for example "image/png".

        Raises:
            LaunderingError: the manifest that the file carries would be lost.
            SigningError: the file is not of that type, or the result did not verify.
            TimeStampError: time-stamps are wanted, and there is none that verifies.
            KeyMaterialError: the certificate has expired since it was loaded.
        """
        target = io.BytesIO()
        manifest = self._sign(Source(data=data, mime=mime), target, spec)
        return Signed(data=target.getvalue(), manifest_id=spec.manifest_id, manifest=manifest)

    def sign_file(self, source: Path, target: Path, mime: str, spec: ManifestSpec) -> bytes:
        """As `sign`, from file to file and piece by piece; `target` appears whole or not at all.

        Args:
            target: another file than `source`; replaced when it exists.

        Returns:
            The manifest store.

        Raises:
            ImageError: `source` cannot be read.
            StorageError: `target` cannot be written.
            LaunderingError, SigningError, KeyMaterialError: as `sign`.
        """
        if target.exists() and target.samefile(source):
            raise SigningError(f"{source} cannot be signed in place", hint="name another file to write to")
        with writing_atomically(target) as file:
            return self._sign(Source(path=source, mime=mime), file, spec)

    def _sign(self, source: Source, target: BinaryIO, spec: ManifestSpec) -> bytes:
        # The chain was checked when it was loaded; a service may run longer than its certificate.
        if not self._valid_from <= datetime.now(UTC) < self._valid_until:
            _refuse_unfit(self._key)
        _refuse_laundering(source, spec.ingredients)

        def embed(spacious: bool = False) -> bytes:
            with source.open() as stream:
                return backend.sign_stream(
                    stream,
                    target,
                    source.mime,
                    spec.definition,
                    self._key,
                    anchors=self._anchors,
                    ingredients=spec.ingredients,
                    service_seconds=self._service_seconds,
                    spacious=spacious,
                )

        if self._stamping is None:
            return embed()
        manifest = self._stamping.sign(target, embed)
        _refuse_unstamped(target, self._anchors)
        return manifest


def _refuse_unstamped(file: BinaryIO, anchors: bytes) -> None:
    """The token went in behind the SDK's back, so the SDK is asked whether it sees what we meant."""
    file.seek(0)
    reading = backend.read_stream(file, anchors)
    if not isinstance(reading, backend.Store) or codes.STAMPED not in reading.successes:
        raise TimeStampError(
            "the time-stamp does not verify in the signed file", hint="use another authority, or sign without one"
        )


def _refuse_unfit(key: SigningKey) -> None:
    for diagnosis in doctor(key.chain_pem, None if key.service else key.key_pem):
        if diagnosis.required and not diagnosis.passed:
            raise KeyMaterialError(f"{key.source} cannot sign: {diagnosis.why}", hint=diagnosis.fix)


def _refuse_laundering(source: Source, ingredients: tuple[Ingredient, ...]) -> None:
    """A new manifest in place of an old one would drop the picture's history without a trace."""
    if any(i.relationship == "parentOf" and i.source.is_same_file(source) for i in ingredients):
        return
    with source.open() as stream:
        reading = backend.read_stream(stream, b"")
    match reading:
        case backend.Store(active=label):
            raise LaunderingError(
                f"the file already carries the manifest {label}",
                hint="give the file as parent, so that its history is kept, or decode its pixels and sign those as new",
            )
        case backend.NoStore(remote=True):
            raise LaunderingError(
                "the file already names a manifest at a remote address", hint="remove that reference knowingly first"
            )
        case backend.Unreadable(reason=reason):
            raise SigningError(
                f"it cannot be told whether the file carries a manifest already: {reason}",
                hint="encode the picture again from its pixels",
            )
