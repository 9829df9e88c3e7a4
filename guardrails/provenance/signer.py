"""Signing finished pictures: bytes in, signed and verified bytes out."""

from __future__ import annotations

import copy
import io
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from guardrails.errors import KeyMaterialError, SigningError, TimeStampError
from guardrails.provenance import backend, codes
from guardrails.provenance.certificates import (
    KEY_FOLDER,
    SigningKey,
    create_dev_chain,
    load_dev_key,
    load_key_files,
)
from guardrails.provenance.diagnosis import doctor
from guardrails.provenance.manifest import ManifestSpec
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
        trust: the signer's own view, by which the result is verified.

    Raises:
        KeyMaterialError: the certificates break a rule that makes signatures invalid, or have expired.
    """

    def __init__(self, key: SigningKey, trust: TrustStore) -> None:
        _refuse_unfit(key)
        leaf = key.leaf
        self._key, self._anchors = key, trust.anchors
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
    def from_pem(cls, chain: Path, key: Path, password: bytes | None = None) -> Signer:
        """Sign with your own certificate.

        Args:
            chain: PEM certificates, leaf first, root left out.
            key: PEM private key (PKCS#8 or SEC1, encrypted or not), not readable for other accounts.

        Raises:
            KeyMaterialError: names the file, what is wrong and what to do.
        """
        return cls(load_key_files(chain, key, password), TrustStore())

    def stamped_by(self, stamper: Stamper) -> Signer:
        """The same signer, with a time-stamp beside every signature: such files outlive the signing certificate."""
        signer = copy.copy(self)
        signer._stamping = Stamping(stamper)
        return signer

    def sign(self, data: bytes, mime: str, spec: ManifestSpec) -> Signed:
        """Embed the manifest. Pixels are untouched; any byte written to the file afterwards breaks the signature.

        Args:
            data: a finished file without a manifest.
            mime: its media type, for example "image/png".

        Raises:
            SigningError: the file carries a manifest already, is not of that type, or the result did not verify.
            TimeStampError: time-stamps are wanted, and there is none that verifies.
            KeyMaterialError: the certificate has expired since it was loaded.
        """
        # The chain was checked when it was loaded; a service may run longer than its certificate.
        if not self._valid_from <= datetime.now(UTC) < self._valid_until:
            _refuse_unfit(self._key)
        _refuse_laundering(data)
        target = io.BytesIO()

        def embed(spacious: bool = False) -> bytes:
            signed, store = backend.sign(
                data, mime, spec.definition, self._key, anchors=self._anchors, spacious=spacious
            )
            target.write(signed)
            return store

        if self._stamping is None:
            manifest = embed()
        else:
            manifest = self._stamping.sign(target, embed)
            _refuse_unstamped(target.getvalue(), self._anchors)
        return Signed(data=target.getvalue(), manifest_id=spec.manifest_id, manifest=manifest)


def _refuse_unstamped(data: bytes, anchors: bytes) -> None:
    """The token went in behind the SDK's back, so the SDK is asked whether it sees what we meant."""
    reading = backend.read(data, anchors)
    if not isinstance(reading, backend.Store) or codes.STAMPED not in reading.successes:
        raise TimeStampError(
            "the time-stamp does not verify in the signed file", hint="use another authority, or sign without one"
        )


def _refuse_unfit(key: SigningKey) -> None:
    for diagnosis in doctor(key.chain_pem, key.key_pem):
        if diagnosis.required and not diagnosis.passed:
            raise KeyMaterialError(f"{key.source} cannot sign: {diagnosis.why}", hint=diagnosis.fix)


def _refuse_laundering(data: bytes) -> None:
    """A new manifest in place of an old one would drop the picture's history without a trace."""
    match backend.read(data, b""):
        case backend.Store(active=label):
            raise SigningError(
                f"the file already carries the manifest {label}",
                hint="sign the picture before any other tool does, or decode its pixels and sign those as new",
            )
        case backend.NoStore(remote=True):
            raise SigningError(
                "the file already names a manifest at a remote address", hint="remove that reference knowingly first"
            )
        case backend.Unreadable(reason=reason):
            raise SigningError(
                f"it cannot be told whether the file carries a manifest already: {reason}",
                hint="encode the picture again from its pixels",
            )
