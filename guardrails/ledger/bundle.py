"""Export: what an auditor needs to check part of a log without the log, as one zip archive (see `offline.py`)."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from guardrails.errors import LedgerError
from guardrails.files import writing_atomically
from guardrails.ledger import offline
from guardrails.ledger.log import Ledger
from guardrails.ledger.offline import to_base64

_README = """\
Part of a log, to be checked without it:

    python verify.py --vkey log.vkey bundle.zip

Python's standard library is enough. Take log.vkey, and verify.py (guardrails/ledger/offline.py), from a source that you
trust more than this archive: whoever forges one forges the other.

checkpoint           the signed root of the whole log
records.jsonl        the records, each with the hashes that lead from it to that root
earlier-checkpoint   where there: an older root, and in consistency.json the hashes that show that the log only grew
"""

# Archives of one log must not differ by the day they were made on.
_ANY_TIME = (1980, 1, 1, 0, 0, 0)


def export_bundle(ledger: Ledger, path: Path, start: int, stop: int, *, earlier: str = "") -> int:
    """Write the records from index `start` to before `stop` with their proofs to a zip archive.

    Args:
        earlier: an older checkpoint of the log; the archive then shows that the log only grew since.

    Returns:
        The number of records.

    Raises:
        LedgerError: the log has no such records.
        LedgerCorrupt: the log does not continue the earlier checkpoint.
        StorageError: the file cannot be written.
    """
    count, checkpoint = 0, ""
    consistency = ledger.prove_consistency(earlier) if earlier else ()
    with writing_atomically(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(_entry("records.jsonl"), "w", force_zip64=True) as binary:
            lines = io.TextIOWrapper(binary, encoding="utf-8", newline="\n")
            for note, entry, proof in ledger.proofs(start, stop):
                checkpoint, count = note, count + 1
                record = {
                    "index": proof.index,
                    "entry": entry.decode(),
                    "path": [to_base64(node) for node in proof.path],
                }
                lines.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
            lines.flush()
            lines.detach()
        if not count:
            raise LedgerError(f"the log has no records from {start} to {stop}", hint="see `guardrails ledger list`")
        archive.writestr(_entry("checkpoint"), checkpoint)
        archive.writestr(_entry("log.vkey"), ledger.vkey + "\n")
        if earlier:
            archive.writestr(_entry("earlier-checkpoint"), earlier)
            archive.writestr(_entry("consistency.json"), json.dumps([to_base64(node) for node in consistency]))
        archive.writestr(_entry("verify.py"), Path(offline.__file__).read_bytes())
        archive.writestr(_entry("README.txt"), _README)
    return count


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _ANY_TIME)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info
