"""A folder or a hub id as a generator."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from guardrails.errors import ModelUnavailable
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.placement import choose_placement
from guardrails.generation.weights import weights_sha256

# Long enough for a slow line, short enough for someone who waits at a terminal without one.
HUB_TIMEOUT_SECONDS = 3.0
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_generator(
    model: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    batch_size: int = 1,
    compile: bool = False,
) -> DiffusersGenerator:
    """Load a text-to-image model.

    Weights are read from safetensors files alone, never from pickles, and no code that comes with a model is run. A
    model from the hub is looked up there, and taken from the local cache when the hub does not answer within
    `HUB_TIMEOUT_SECONDS`.

    Args:
        model: a folder in the diffusers format (with model_index.json), or a hub id "owner/name".
        device, dtype, batch_size, compile: see `DiffusersGenerator`.
        revision: branch, tag or commit on the hub; the record names the commit.

    Raises:
        ModelUnavailable: no such folder or hub id, the hub cannot be reached, or what is there cannot be loaded.
        OptionError: an option makes no sense, or the model is not text-to-image.
    """
    folder = Path(model)
    # Not Path.exists, which raises for names that are too long for the file system.
    if os.path.exists(folder):
        name, commit = folder.resolve().name, ""
    elif _HUB_ID.fullmatch(model):
        folder = _fetch(model, revision)
        # The hub's cache names a snapshot's folder after the commit.
        name, commit = model, folder.name
    else:
        raise ModelUnavailable(
            f"{model!r} is neither a folder nor a hub id", hint='give a folder that exists, or a hub id "owner/name"'
        )
    # After the search for the folder: torch takes seconds to import, a misspelt name is answered without it.
    placement = choose_placement(device, dtype)
    pipeline = _load_folder(folder, placement.weights_dtype)
    return DiffusersGenerator(
        pipeline,
        name=name,
        revision=commit,
        weights_sha256=weights_sha256(folder),
        device=placement.device,
        dtype=placement.dtype,
        batch_size=batch_size,
        compile=compile,
    )


def _load_folder(folder: Path, weights_dtype: Any) -> Any:
    if not (folder / "model_index.json").is_file():
        raise ModelUnavailable(
            f"{folder} has no model_index.json",
            hint="give a folder in the diffusers format; convert single-file checkpoints with diffusers first",
        )
    import diffusers
    from safetensors import SafetensorError

    # What diffusers, transformers and safetensors raise for missing, damaged or foreign files.
    defects = (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, SafetensorError)
    try:
        return diffusers.DiffusionPipeline.from_pretrained(
            folder, dtype=weights_dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    except defects as error:
        raise ModelUnavailable(
            f"{folder} cannot be loaded: {_first_line(error)}",
            hint="the folder must hold a complete diffusers pipeline with safetensors weights and no code of its own",
        ) from error


def _fetch(model: str, revision: str | None) -> Path:
    """The folder of a hub model: downloaded, or from the cache when the hub cannot be reached."""
    from huggingface_hub import HfApi, errors, try_to_load_from_cache

    http_error = errors.HTTPError  # type: ignore[attr-defined]  # of whichever HTTP library the hub client is built on
    reachable = True
    try:
        # One short question first: the download itself would retry for minutes.
        HfApi().model_info(model, revision=revision, timeout=HUB_TIMEOUT_SECONDS)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ModelUnavailable(
            f"the hub has no model {_label(model, revision)} that you may read",
            hint="check the spelling; for a private or gated model, log in and accept its terms on the hub",
        ) from error
    except (http_error, OSError):
        reachable = False
    if not reachable and not isinstance(try_to_load_from_cache(model, "model_index.json", revision=revision), str):
        raise ModelUnavailable(
            f"model {_label(model, revision)} is not in the local cache, and the hub cannot be reached",
            hint="check the network, download the model on another machine, or give a local folder",
        )
    # After the question whether there is such a model: it takes seconds to import.
    import diffusers

    try:
        folder = diffusers.DiffusionPipeline.download(
            model, revision=revision, use_safetensors=True, trust_remote_code=False, local_files_only=not reachable
        )
    except (http_error, OSError, ValueError) as error:
        where = "could not be downloaded" if reachable else "is not complete in the local cache"
        raise ModelUnavailable(
            f"model {_label(model, revision)} {where}: {_first_line(error)}",
            hint="check the network, download the model on another machine, or give a local folder",
        ) from error
    return Path(folder)


def _label(model: str, revision: str | None) -> str:
    return model if revision is None else f"{model} at {revision}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
