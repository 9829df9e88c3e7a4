"""Image encoders: pictures to unit vectors, computed once and shared by every head."""

from __future__ import annotations

import threading
from pathlib import Path

from guardrails.encoders.protocol import ImageEncoder, TextEncoder
from guardrails.errors import OptionError

__all__ = ["ImageEncoder", "load_encoder", "text_side"]

_loaded: dict[str, ImageEncoder] = {}
_loading = threading.Lock()


def load_encoder(spec: str) -> ImageEncoder:
    """Load an encoder, or return the one that is already loaded in this process.

    Args:
        spec: "offline-clip" (CLIP ViT-B/16 out of an installed package, no network) or
            "open_clip:<model>/<pretrained tag>", for example "open_clip:ViT-B-32/laion2b_s34b_b79k", or
            "folder:<path>", a folder with open_clip_config.json and open_clip_model.safetensors, or
            "sscd:<path>@<sha256>", a TorchScript file whose digest is named, see `sscd`.

    Raises:
        ModelUnavailable: the weights are not here and cannot be fetched.
        OptionError: the specification names no known kind of encoder.
    """
    with _loading:
        if spec not in _loaded:
            _loaded[spec] = _load(spec)
        return _loaded[spec]


def _load(spec: str) -> ImageEncoder:
    kind, _, rest = spec.partition(":")
    if spec == "offline-clip":
        from guardrails.encoders.offline_clip import load_offline_clip

        return load_offline_clip()
    if kind == "folder" and rest:
        from guardrails.encoders.open_clip_hub import load_folder

        return load_folder(Path(rest))
    if kind == "sscd" and rest:
        from guardrails.encoders.sscd import load_sscd

        path, _, digest = rest.rpartition("@")
        return load_sscd(Path(path or rest), digest if path else "")
    model, _, tag = rest.partition("/")
    if kind == "open_clip" and model and tag:
        from guardrails.encoders.open_clip_hub import load_open_clip

        return load_open_clip(model, tag)
    raise OptionError(
        f"unknown encoder {spec!r}",
        hint='write "offline-clip", "open_clip:<model>/<pretrained tag>", "folder:<path>" or "sscd:<path>@<sha256>"',
    )


def text_side(encoder: ImageEncoder) -> TextEncoder | None:
    """What turns words into vectors for the pictures of `encoder`: its own text tower, or the trained one of the
    offline tower; None when there is none.

    Raises:
        ModelUnavailable: the weights of the trained one are not installed.
    """
    from guardrails.encoders.lit_text import LitText, load_lit_text

    if encoder.id == LitText.images:
        return load_lit_text()
    return getattr(encoder, "text", None)
