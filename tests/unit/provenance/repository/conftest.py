"""Signed files and what is kept of them."""

from __future__ import annotations

import io
import uuid
from types import SimpleNamespace

import numpy as np
import pytest

from guardrails.provenance import Signer
from guardrails.provenance.placement import locate
from guardrails.provenance.repository import Entry, Fingerprints, to_entry


def made_up(number: int, seed: int = 0) -> Entry:
    """An entry without a file behind it; equal numbers give equal entries."""
    rng = np.random.default_rng([number, seed])
    identifier = uuid.UUID(bytes=rng.bytes(16), version=4)
    body = rng.bytes(900)
    return Entry(
        manifest_id=f"urn:c2pa:{identifier}",
        mark_id=identifier.hex[:16],
        fingerprints=Fingerprints(iscc=rng.bytes(8), pdq=rng.bytes(32)),
        container=body,
        pieces=((4, 600), (700, 100)),
        start=33,
        rest_sha256=rng.bytes(32),
        file_sha256=rng.bytes(32),
    )


def stripped(data: bytes) -> bytes:
    """The file as a tool leaves it that cuts the manifest out and nothing else."""
    placement = locate(io.BytesIO(data))
    assert placement is not None
    rest = data[: placement.start] + data[placement.start + placement.length :]
    return rest[:4] + (len(rest) - 8).to_bytes(4, "little") + rest[8:] if rest.startswith(b"RIFF") else rest


@pytest.fixture(scope="session")
def kept(signer: Signer, make: SimpleNamespace) -> SimpleNamespace:
    """`entry(number, seed)`, `stripped(data)`, and `signed(format, seed)` -> (file, entry)."""

    def signed(format: str, seed: int = 1) -> tuple[bytes, Entry]:
        spec = make.spec(seed)
        done = signer.sign(make.file(seed, format), f"image/{format.lower()}", spec)
        entry = to_entry(io.BytesIO(done.data), manifest_id=done.manifest_id, mark_id="", fingerprints=Fingerprints())
        assert entry.store == done.manifest
        return done.data, entry

    return SimpleNamespace(entry=made_up, stripped=stripped, signed=signed)
