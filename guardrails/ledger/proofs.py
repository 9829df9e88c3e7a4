"""An inclusion proof as a text that carries its record and its checkpoint with it (C2SP tlog-proof, version 1)."""

from __future__ import annotations

from guardrails.domain.records import InclusionProof
from guardrails.ledger.offline import PROOF_HEADER, to_base64


def format_tlog_proof(proof: InclusionProof, checkpoint: str, entry: bytes) -> str:
    """Header, the entry as extra data, index, the audit path one hash a line, an empty line, the signed checkpoint.

    Args:
        checkpoint: the signed note over the tree of `proof.size` leaves.
        entry: the leaf's bytes; `guardrails.ledger.offline` reads them from here and hashes them anew.
    """
    extra, hashes = f"extra {to_base64(entry)}", (to_base64(node) for node in proof.path)
    return "\n".join([PROOF_HEADER, extra, f"index {proof.index}", *hashes, "", checkpoint])
