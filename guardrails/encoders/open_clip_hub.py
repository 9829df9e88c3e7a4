"""Any open_clip model, by name and pretrained tag, with weights from the model hub or its local cache."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.encoders.protocol import unit_rows
from guardrails.errors import ModelUnavailable, OptionError
from guardrails.imaging import Pixels

if TYPE_CHECKING:
    import torch
    from open_clip.model import CLIP

PROBE_SECONDS = 5.0


class OpenClipText:
    """The text tower of an open_clip model; a `TextEncoder` that keeps the vectors of texts it has seen.

    Args:
        id: names model, tag and weights.
        tokenizer: open_clip's own for this model.
    """

    def __init__(self, *, id: str, dim: int, model: CLIP, tokenizer: Callable[[list[str]], torch.Tensor]) -> None:
        self.id = f"{id}:text"
        self.dim = dim
        self._model = model
        self._tokenizer = tokenizer
        self._known: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; see `TextEncoder.embed`."""
        import torch

        for text in texts:
            if text not in self._known:
                # One by one: with integers or bfloat16 a vector would depend on the texts beside it.
                with torch.inference_mode():
                    vector = self._model.encode_text(self._tokenizer([text]))
                self._known[text] = unit_rows(vector.float().numpy(), self.id)[0]
        return np.stack([self._known[text] for text in texts])


class OpenClipEncoder:
    """An open_clip model: an `ImageEncoder` with its own text tower.

    Args:
        id: names model, tag and weights.
        model: in evaluation mode.
        transform: open_clip's own preprocessing of one PIL picture into a (3, side, side) tensor.
        tokenizer: of the text tower.
    """

    def __init__(
        self,
        *,
        id: str,
        model: CLIP,
        transform: Callable[[Image.Image], torch.Tensor],
        tokenizer: Callable[[list[str]], torch.Tensor],
    ) -> None:
        self.id = id
        self.dim = int(model.visual.output_dim)
        self.text = OpenClipText(id=id, dim=self.dim, model=model, tokenizer=tokenizer)
        self._model = model
        self._transform = transform

    def embed(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """Embed pictures; see `ImageEncoder.embed`."""
        import torch

        batch = torch.stack([self._transform(Image.fromarray(pixels)) for pixels in images])
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            projections = self._model.encode_image(batch)
        return unit_rows(projections.float().numpy(), self.id)


def load_open_clip(model: str, tag: str) -> OpenClipEncoder:
    """Load an open_clip model from the local hub cache, or from the hub.

    Raises:
        OptionError: open_clip knows no such model or tag.
        ModelUnavailable: the weights are not cached and the hub cannot be reached (or must not be).
    """
    import open_clip

    config: Mapping[str, Any] = open_clip.get_pretrained_cfg(model, tag)
    if not config.get("hf_hub"):
        raise OptionError(
            f"open_clip has no hub weights for {model}/{tag}", hint="choose one of open_clip.list_pretrained()"
        )
    weights = find_weights(config["hf_hub"])
    network, _, transform = open_clip.create_model_and_transforms(
        model,
        pretrained=str(weights),
        force_quick_gelu=config.get("quick_gelu", False),
        image_mean=config.get("mean"),
        image_std=config.get("std"),
        image_interpolation=config.get("interpolation"),
        image_resize_mode=config.get("resize_mode"),
    )
    return OpenClipEncoder(
        id=f"open_clip:{model}/{tag}:{file_digest(weights)[:16]}",
        model=network.eval(),
        transform=transform,
        tokenizer=open_clip.get_tokenizer(model),
    )


def load_folder(folder: Path) -> OpenClipEncoder:
    """Load a model that lies in a folder in open_clip's own form, with no hub.

    Raises:
        ModelUnavailable: the configuration or the weights are not there, or do not fit each other; pickled weights are
            not read.
    """
    import open_clip
    from safetensors import SafetensorError

    weights = folder / "open_clip_model.safetensors"
    for needed in (folder / "open_clip_config.json", weights):
        if not needed.is_file():
            raise ModelUnavailable(
                f"there is no {needed.name} in {folder}", hint="save the model with open_clip's push or save functions"
            )
    name = f"local-dir:{folder}"
    try:
        network, _, transform = open_clip.create_model_and_transforms(name)
    except (ValueError, TypeError, KeyError, RuntimeError, OSError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelUnavailable(
            f"{folder} holds no model of open_clip: {reason}", hint="save the model with open_clip's save functions"
        ) from error
    return OpenClipEncoder(
        id=f"folder:{folder.name}:{file_digest(weights)[:16]}",
        model=network.eval(),
        transform=transform,
        tokenizer=open_clip.get_tokenizer(name),
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_weights(location: str) -> Path:
    """The weight file of a hub location such as "owner/name/" or "owner/name/file.bin"; safetensors are preferred.

    The cache is asked first and the hub is probed once, because the hub client itself retries a dead network for
    the better part of a minute.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    repository, _, name = location.rpartition("/")
    names = (
        (Path(name).with_suffix(".safetensors").name, name)
        if name
        else (
            "open_clip_model.safetensors",
            "open_clip_pytorch_model.bin",
        )
    )
    for candidate in names:
        try:
            return Path(hf_hub_download(repository, candidate, local_files_only=True))
        except LocalEntryNotFoundError:
            continue
    if constants.HF_HUB_OFFLINE:
        raise ModelUnavailable(
            f"the weights of {repository} are not in the local hub cache, and HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE and run it once with a network, or use the encoder offline-clip",
        )
    probe_hub(constants.ENDPOINT, repository)
    for candidate in names:
        try:
            return Path(hf_hub_download(repository, candidate, etag_timeout=PROBE_SECONDS))
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as error:
            raise ModelUnavailable(
                f"the model hub refused {repository}/{candidate}: {error}", hint="check the name and your access rights"
            ) from error
    raise ModelUnavailable(f"{repository} holds none of {', '.join(names)}", hint="choose another pretrained tag")


def probe_hub(endpoint: str, repository: str) -> None:
    """Ask the hub for anything once.

    Raises:
        ModelUnavailable: no answer within `PROBE_SECONDS`.
    """
    request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 (the address is the hub client's own setting)
    try:
        urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:
        return  # an answer, whatever it says, is a hub that can be reached
    except OSError as error:
        raise ModelUnavailable(
            f"the model hub at {endpoint} cannot be reached for {repository}: {error}",
            hint="connect to the network once to fill the cache, or use the encoder offline-clip",
        ) from error
