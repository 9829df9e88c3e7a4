"""C2PA manifests: what a finished picture says about its origin, signed, and what a file from anywhere proves.

::

    lineage.py       how a picture came about, and what it was made from (Lineage, Source)
    manifest.py      facts about one picture -> the manifest definition (ManifestSpec)
    signer.py        bytes + ManifestSpec -> signed bytes, in memory, verified (Signer)
    verifier.py      any bytes -> ManifestVerdict, as a numbered list of rules (Verifier)
    ancestry.py      the pictures that a picture was made from, and what is wrong with them
    rubric.py        the 31 statements of the conformance rubric
    strict.py        bytes that no signature covers; containers.py finds the store in a file
    declarations.py  what a manifest says: model, policy, watermark id; foreign manifests included
    certificates.py  development keys, and keys from PEM files
    services.py      keys that a KMS or HSM holds; signatures.py tries them out
    opening.py       the signer that command-line options name
    diagnosis.py     why a certificate chain can or cannot sign (doctor)
    trust.py         whose signatures count (TrustStore)
    backend.py       the only file that imports the C2PA SDK

Importing this package does not load the SDK; the first signature or verification does. Nothing here opens a network
connection.
"""

from __future__ import annotations

from guardrails.imaging.iscc import code_distance, image_code
from guardrails.provenance.certificates import create_dev_chain, rotate_dev_leaf
from guardrails.provenance.diagnosis import Diagnosis, doctor
from guardrails.provenance.lineage import Lineage, Process, Source
from guardrails.provenance.manifest import ManifestSpec
from guardrails.provenance.signer import Signed, Signer
from guardrails.provenance.trust import TrustStore
from guardrails.provenance.verifier import Verifier

__all__ = [
    "Diagnosis",
    "Lineage",
    "ManifestSpec",
    "Process",
    "Signed",
    "Signer",
    "Source",
    "TrustStore",
    "Verifier",
    "code_distance",
    "create_dev_chain",
    "doctor",
    "image_code",
    "rotate_dev_leaf",
]
