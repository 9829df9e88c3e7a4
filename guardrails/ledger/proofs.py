"""An inclusion proof as a text that carries its checkpoint with it (C2SP tlog-proof, version 1)."""

from __future__ import annotations

import base64

from guardrails.domain.records import InclusionProof

_HEADER = "c2sp.org/tlog-proof@v1"


def format_tlog_proof(proof: InclusionProof, checkpoint: str) -> str:
    """Header, index, the hashes of the audit path in base64 one a line, an empty line, the signed checkpoint.

    Args:
        checkpoint: the signed note over the tree of `proof.size` leaves.
    """
    hashes = [base64.b64encode(node).decode("ascii") for node in proof.path]
    return "\n".join([_HEADER, f"index {proof.index}", *hashes, "", checkpoint])
