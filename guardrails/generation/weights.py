"""A digest over the weights of a model, so that the record says which ones drew a picture."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from guardrails.errors import ModelUnavailable

WEIGHT_FILES = "*.safetensors"


def weights_sha256(source: Path | str | Any) -> str:
    """SHA-256 over all weights of a model, 64 hexadecimal digits.

    The digest of a folder is over the sorted lines "name NUL sha256-of-the-file LF", one for each safetensors file
    below it; the files' own digests are kept while the process runs, by path, time and size. The digest of a pipeline
    in memory is over name, dtype, shape and bytes of every tensor, so it changes with the precision. The two are never
    equal to each other.

    Costs one reading of the weights at the speed of SHA-256 or of the disk, whichever is less: on one core with SHA
    instructions about 1 to 2 GB/s, so some seconds for the 7 GB of SDXL in float16.

    Args:
        source: a folder, or a pipeline in memory.

    Raises:
        ModelUnavailable: no such folder, or no safetensors file in it.
    """
    if isinstance(source, str | Path):
        return _of_folder(Path(source))
    return _of_pipeline(source)


def _of_folder(folder: Path) -> str:
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob(WEIGHT_FILES) if path.is_file())
    if not files:
        raise ModelUnavailable(
            f"{folder} holds no {WEIGHT_FILES} file", hint="save the model with safe_serialization=True"
        )
    total = hashlib.sha256()
    for name, path in files:
        status = path.stat()
        total.update(f"{name}\0{_of_file(path.resolve(), status.st_mtime_ns, status.st_size)}\n".encode())
    return total.hexdigest()


@functools.lru_cache(maxsize=4096)
def _of_file(path: Path, modified_ns: int, size: int) -> str:
    """The file's SHA-256; time and size are there to be part of the cache key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_pipeline(pipeline: Any) -> str:
    import torch

    total = hashlib.sha256()
    for part, component in sorted(pipeline.components.items()):
        if not isinstance(component, torch.nn.Module):
            continue
        for name, tensor in sorted(component.state_dict().items()):
            total.update(json.dumps([part, name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
            # As bytes, because numpy has no bfloat16; one tensor at a time leaves the accelerator.
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
