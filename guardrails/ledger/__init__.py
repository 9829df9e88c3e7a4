"""The record of everything that was generated, refused or lost: an append-only Merkle log on SQLite or PostgreSQL.

::

    log.py          Ledger: append, merge, release, recover, find, prove, verify, erase, fsck
      sequencer.py  the loop that gives staged records their places, when many workers append
      groups.py     group commit: threads that append at once share one disk flush
      walk.py       what fsck recomputes
    store.py        what a database must do; checked by guardrails.testing.store_contract
      sql.py        the tables and statements
      sqlite.py     the embedded database
      postgres.py   the database of many workers
    entries.py      Record <-> the canonical JSON bytes that are hashed as a leaf
    payloads.py     private parts, each encrypted under a key of its own
    retention.py    how long private parts are kept, by jurisdiction
    receipts.py     signed promises that a durable record will be in the tree
    notes.py        signed notes and checkpoints (C2SP), the log's Ed25519 key
    merkle.py       RFC 6962 roots and proofs
      tiles.py      the tree as rows of 256 hashes
    proofs.py       an inclusion proof with its record and checkpoint as one text (C2SP tlog-proof)
    bundle.py       an archive of records with their proofs
    offline.py      the auditor's verifier: one file, standard library only
    commitments.py  salted digests that stand for private values in a record

A ledger is a folder::

    ledger.db       SQLite: records, staging area, places, tiles, encrypted payloads, the outbox of releases
    checkpoint      the last checkpoint once more, outside the database: a restored backup is noticed by it
    log.key         Ed25519 private key, PKCS#8 PEM, mode 0600
    log.vkey        the public key as a C2SP verifier key
    payload.key     the key that wraps the keys of all payloads, mode 0600
    lock            held while one process writes
    staging/        a checkpoint on its way to its name

What it proves: whoever holds a checkpoint can tell later whether any record up to it was changed, removed or moved.
What it cannot prove alone: whoever controls the whole folder, key included, can write another history. Publishing
checkpoints, or having them cosigned by a witness, closes that gap.
"""

from __future__ import annotations

from guardrails.ledger.bundle import export_bundle
from guardrails.ledger.commitments import commit, opens
from guardrails.ledger.log import Ledger, LoggedRecord, Recovery, RecoveryOutcome, Submission
from guardrails.ledger.merkle import verify_inclusion
from guardrails.ledger.notes import Checkpoint, LogKey, NoteSigner, NoteVerifier
from guardrails.ledger.offline import consistent, included
from guardrails.ledger.sequencer import Sequencer

__all__ = [
    "Checkpoint",
    "Ledger",
    "LogKey",
    "LoggedRecord",
    "NoteSigner",
    "NoteVerifier",
    "Recovery",
    "RecoveryOutcome",
    "Sequencer",
    "Submission",
    "commit",
    "consistent",
    "export_bundle",
    "included",
    "opens",
    "verify_inclusion",
]
