"""Whose signatures count: a set of root certificates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from guardrails.provenance.certificates import KEY_FOLDER, ROOT_FILE, read_anchors
from guardrails.provenance.timestamps.keys import TSA_FOLDER


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Trust anchors; an empty store trusts nobody.

    Attributes:
        anchors: PEM certificates, one after the other.
    """

    anchors: bytes = b""

    @classmethod
    def pem(cls, *paths: Path) -> TrustStore:
        """The certificates of PEM files, for example the official C2PA trust list.

        Raises:
            KeyMaterialError: a file is missing or holds no certificate.
        """
        return cls(b"\n".join(read_anchors(path) for path in paths))

    @classmethod
    def dev(cls, folder: Path) -> TrustStore:
        """The root of the development keys in `folder`, and that of its own time-stamp authority where there is one.

        Raises:
            KeyMaterialError: there are none.
        """
        return cls.pem(folder / KEY_FOLDER / ROOT_FILE) + cls.own_authority(folder)

    @classmethod
    def own_authority(cls, folder: Path) -> TrustStore:
        """The root of the time-stamp authority whose keys lie in `folder`; nobody where there is none."""
        root = folder / TSA_FOLDER / ROOT_FILE
        return cls.pem(root) if root.exists() else cls()

    def __add__(self, other: TrustStore) -> TrustStore:
        return TrustStore(b"\n".join(filter(None, (self.anchors, other.anchors))))
