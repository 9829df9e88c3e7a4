"""Manifests kept beside the files, so that a file that lost its own gets it back.

::

    entries.py      one kept manifest, and how a signed file becomes one (Entry)
    store.py        the tables in SQLite, crash-safe, for many processes
    fingerprints.py exact search by Hamming distance, in memory
    repository.py   add, find by watermark id, fingerprint, digest or name (Repository)
    attachment.py   put the store back into a file, bit for bit
"""

from __future__ import annotations

from guardrails.provenance.repository.attachment import attach
from guardrails.provenance.repository.entries import Entry, Fingerprints, rest_digest, to_entry
from guardrails.provenance.repository.repository import Near, Repository

__all__ = ["Entry", "Fingerprints", "Near", "Repository", "attach", "rest_digest", "to_entry"]
