"""latent-guardrails: no image leaves without an allowed prompt, screened pixels, a mark, a manifest and a record.

The public names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardrails.version import __version__

if TYPE_CHECKING:
    from guardrails.audit import Auditor, FileReport, verify_bytes
    from guardrails.domain.records import Refusal
    from guardrails.domain.requests import PromptRequest
    from guardrails.pipeline import Guard, Sealed
    from guardrails.policy import Policy, load_policy

__all__ = [
    "Auditor",
    "FileReport",
    "Guard",
    "Policy",
    "PromptRequest",
    "Refusal",
    "Sealed",
    "__version__",
    "load_policy",
    "verify_bytes",
]

_HOMES = {
    "Auditor": "guardrails.audit",
    "FileReport": "guardrails.audit",
    "Guard": "guardrails.pipeline",
    "Policy": "guardrails.policy",
    "PromptRequest": "guardrails.domain.requests",
    "Refusal": "guardrails.domain.records",
    "Sealed": "guardrails.pipeline",
    "load_policy": "guardrails.policy",
    "verify_bytes": "guardrails.audit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'guardrails' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
