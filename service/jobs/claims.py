"""What must stand in a C2PA claim before the key is used for it.

The signer is given the very bytes that COSE signs (RFC 9052, section 4.4: the Sig_structure), and reads the claim in
them. So a worker cannot have a picture signed whose manifest lacks the watermark's binding, the hash over the file or
the policy's decision, whatever it says about itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guardrails.errors import SigningError

# Assertions that every picture of ours carries, see `guardrails.provenance.manifest`.
REQUIRED = ("c2pa.actions.v2", "c2pa.soft-binding", "org.guardrails.policy-decision")
# One of these ties the manifest to the file's bytes (C2PA 2.4, section 9.2).
HARD_BINDINGS = ("c2pa.hash.data", "c2pa.hash.bmff.v3", "c2pa.hash.bmff.v2", "c2pa.hash.boxes")
_PREFIX = "self#jumbf=c2pa.assertions/"


def check_claim(to_be_signed: bytes) -> None:
    """Refuse whatever is no complete claim of a guarded picture.

    Raises:
        SigningError: names what is missing.
    """
    labels = _labels(_claim(to_be_signed))
    missing = [label for label in REQUIRED if label not in labels]
    if not labels & set(HARD_BINDINGS):
        missing.append("a hash over the file")
    if missing:
        raise SigningError(f"the claim lacks {', '.join(missing)}", hint="have pictures signed by the guard alone")


def _claim(to_be_signed: bytes) -> Mapping[str, Any]:
    import cbor2

    try:
        context, _, external, payload = cbor2.loads(to_be_signed)
        claim = cbor2.loads(payload)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise SigningError("this is no claim", hint="the signer signs C2PA claims only") from error
    if context != "Signature1" or external != b"" or not isinstance(claim, Mapping):
        raise SigningError("this is no claim", hint="the signer signs C2PA claims only")
    return claim


def _labels(claim: Mapping[str, Any]) -> set[str]:
    """Labels of the assertions that the claim holds, without the number of a repeated one."""
    assertions = [*(claim.get("created_assertions") or ()), *(claim.get("gathered_assertions") or ())]
    urls = [str(assertion.get("url", "")) for assertion in assertions if isinstance(assertion, Mapping)]
    return {url.removeprefix(_PREFIX).partition("__")[0] for url in urls if url.startswith(_PREFIX)}
