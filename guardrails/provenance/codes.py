"""C2PA validation status codes (Technical Specification 2.4, "Validation") sorted by what they mean for a verdict."""

from __future__ import annotations

EXPIRED = "signingCredential.expired"
SIGNER_TRUSTED = "signingCredential.trusted"
SIGNATURE_VALIDATED = "claimSignature.validated"
TIME_STAMP_TRUSTED = "timeStamp.trusted"
STAMPED = "timeStamp.validated"

# Our own: a manifest in the file that nothing refers to, and an ancestor that could not be checked again.
UNREFERENCED = "org.guardrails.manifest.unreferenced"
ANCESTOR_UNREADABLE = "org.guardrails.ancestor.unreadable"

# Identity assertions of the CAWG are judged by other trust lists; they are shown and change no verdict.
_IDENTITY = "cawg."
# Who signed and when, as opposed to what was signed.
_TRUST = ("signingCredential.", "timeStamp.", "timeOfSigning.", "claimSignature.outsideValidity")
# The tie between a manifest and the bytes of its file.
_HARD_BINDING = (
    "assertion.dataHash.",
    "assertion.bmffHash.",
    "assertion.boxesHash.",
    "assertion.collectionHash.",
    "assertion.multiAssetHash.",
)
# Claims of version 1 record successes and failures of an ingredient in one list.
_SUCCESS = (".match", ".validated", ".trusted", ".insideValidity", ".accessible", ".notRevoked", ".skipped")


def concerns_integrity(code: str) -> bool:
    """True for a failure that means: this is not what was signed. Unknown failures count as such."""
    return not code.startswith((_IDENTITY, *_TRUST)) and not code.endswith(_SUCCESS)


def concerns_trust(code: str) -> bool:
    """True for a failure that leaves open who signed, or when."""
    return code.startswith(_TRUST) and not code.endswith(_SUCCESS)


def concerns_signature(code: str) -> bool:
    """True for a failure that means: not made with the key of the certificate that is named."""
    return code.startswith("claimSignature.") and concerns_integrity(code)


def concerns_file(code: str) -> bool:
    """True for a code about the tie to the file's bytes, which says nothing where that file is not at hand."""
    return code.startswith(_HARD_BINDING)
