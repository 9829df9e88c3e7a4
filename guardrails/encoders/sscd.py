"""SSCD descriptors for copy detection, from a TorchScript file that its user has.

Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection" (CVPR 2022). The published files are
`sscd_*.torchscript.pt`; their licence is for non-commercial use, so none comes with this package, and none is fetched.

A TorchScript file is a program, and loading it runs it. The door is narrow: only a file whose SHA-256 the caller names
is opened, the very bytes that were hashed are loaded, and the digest of a file that was refused is not told, because it
has to come from whoever published it.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrails.encoders.offline_clip import check_pixels
from guardrails.encoders.protocol import unit_rows
from guardrails.errors import ModelUnavailable, OptionError
from guardrails.imaging import Pixels

# The preprocessing that its authors recommend for batches: a square, whatever the proportions were.
SIDE = 320
# ImageNet's channel means and deviations of pixel values in 0..1.
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Sscd:
    """An `ImageEncoder` around a loaded file.

    Args:
        id: names the file's digest and the preprocessing.
        dim: length of a descriptor; 512, and 1024 for the large model.
    """

    def __init__(self, *, id: str, dim: int, model: Any) -> None:
        self.id = id
        self.dim = dim
        self._model = model

    def embed(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        """Embed pictures; see `ImageEncoder.embed`."""
        return unit_rows(_run(self._model, np.stack([preprocess(pixels) for pixels in images])), self.id)


def preprocess(pixels: Pixels) -> NDArray[np.float32]:
    """A picture as the network wants it, float32 of shape (3, 320, 320).

    Raises:
        ImageError: not RGB uint8.
    """
    check_pixels(pixels)
    square = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    values = (np.asarray(square, dtype=np.float32) / 255 - _MEAN) / _DEVIATION
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def load_sscd(path: Path, sha256: str) -> Sscd:
    """Load a file.

    Args:
        sha256: of the file, hexadecimal, from whoever published it.

    Raises:
        OptionError: no digest was named.
        ModelUnavailable: there is no such file, it is another one, or it is no network from pictures to descriptors.
    """
    wanted = sha256.lower()
    if not _SHA256.fullmatch(wanted):
        raise OptionError(
            "a TorchScript file is a program, and is not loaded without its SHA-256",
            hint='write "sscd:<path>@<sha256>" with the digest that its publisher names',
        )
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ModelUnavailable(f"cannot read {path}: {error.strerror or error}", hint="check the path") from error
    if not hmac.compare_digest(hashlib.sha256(raw).hexdigest(), wanted):
        raise ModelUnavailable(
            f"{path} is not the file with this SHA-256", hint="fetch it anew; do not run a file that nobody vouches for"
        )
    import torch

    try:
        with warnings.catch_warnings():
            # TorchScript is old, and is what these files are.
            warnings.simplefilter("ignore", FutureWarning)
            model = torch.jit.load(io.BytesIO(raw), map_location="cpu").eval()
        blank = _run(model, np.zeros((1, 3, SIDE, SIDE), np.float32))
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelUnavailable(
            f"{path} is no TorchScript network: {reason}", hint="give an sscd_*.torchscript.pt"
        ) from error
    if blank.ndim != 2 or len(blank) != 1:
        raise ModelUnavailable(f"{path} gives {blank.shape} for one picture", hint="give an sscd_*.torchscript.pt")
    return Sscd(id=f"sscd:{wanted[:16]}:skew320", dim=blank.shape[1], model=model)


def _run(model: Any, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        found: NDArray[np.float32] = model(torch.from_numpy(batch)).float().numpy()
    return found
