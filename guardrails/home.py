"""Where one installation keeps its keys, its ledger and what it downloads."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`$GUARDRAILS_HOME`, or `~/.guardrails`."""
    return Path(os.environ.get("GUARDRAILS_HOME") or Path.home() / ".guardrails")


def keys_folder(root: Path) -> Path:
    """Signing certificates and the watermark master key."""
    return root / "keys"


def ledger_folder(root: Path) -> Path:
    """The append-only log."""
    return root / "ledger"


def manifests_folder(root: Path) -> Path:
    """The repository of manifests, for files that lost theirs."""
    return root / "manifests"


def evidence_folder(root: Path) -> Path:
    """Side-by-side pictures of refused images, for reviewers; readable by the owner only."""
    return root / "evidence"


def pictures_folder(root: Path) -> Path:
    """Reference pictures of the similarity index, where they have been rebuilt."""
    return root / "pocket"


def faces_folder(root: Path) -> Path:
    """The gallery of enrolled persons: numbers of faces, readable by the owner only."""
    return root / "faces"


def hash_lists_folder(root: Path) -> Path:
    """Lists of hashes whose pictures nobody may hold; each is an index, see `guardrails similarity import`."""
    return root / "hash-lists"
