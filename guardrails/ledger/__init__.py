"""The record of everything that was generated, refused or lost: an append-only Merkle log on SQLite.

::

    log.py          Ledger: append, release, recover, find, prove, verify, fsck
      store.py      the tables, the transactions, the lock between processes; SQL lives here only
      entries.py    Record <-> the canonical JSON bytes that are hashed as a leaf
      notes.py      signed notes and checkpoints (C2SP), the log's Ed25519 key
      merkle.py     RFC 6962 hashes, roots and proofs; RFC 9162 verification
      proofs.py     an inclusion proof with its checkpoint as one text (C2SP tlog-proof)
    commitments.py  salted digests that stand for private values in a record

A ledger is a folder::

    ledger.db       leaves, tree nodes, erasable payloads, the outbox of releases, the signed checkpoint
    checkpoint      the last checkpoint once more, outside the database: a restored backup is noticed by it
    log.key         Ed25519 private key, PKCS#8 PEM, mode 0600
    log.vkey        the public key as a C2SP verifier key
    lock            held while one process writes
    staging/        a checkpoint on its way to its name

What it proves: whoever holds a checkpoint can tell later whether any record up to it was changed, removed or moved.
What it cannot prove alone: whoever controls the whole folder, key included, can write another history. Publishing
checkpoints, or having them cosigned by a witness, closes that gap.
"""

from __future__ import annotations

from guardrails.ledger.commitments import commit, opens
from guardrails.ledger.log import Ledger, LoggedRecord, Recovery, RecoveryOutcome
from guardrails.ledger.merkle import verify_consistency, verify_inclusion
from guardrails.ledger.notes import Checkpoint, LogKey, NoteVerifier

__all__ = [
    "Checkpoint",
    "Ledger",
    "LogKey",
    "LoggedRecord",
    "NoteVerifier",
    "Recovery",
    "RecoveryOutcome",
    "commit",
    "opens",
    "verify_consistency",
    "verify_inclusion",
]
