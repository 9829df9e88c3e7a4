"""Image encoders: pictures to unit vectors, computed once and shared by every head."""

from __future__ import annotations

import threading

from guardrails.encoders.protocol import ImageEncoder
from guardrails.errors import OptionError

__all__ = ["ImageEncoder", "load_encoder"]

_loaded: dict[str, ImageEncoder] = {}
_loading = threading.Lock()


def load_encoder(spec: str) -> ImageEncoder:
    """Load an encoder, or return the one that is already loaded in this process.

    Args:
        spec: "offline-clip" (CLIP ViT-B/16 out of an installed package, no network) or
            "open_clip:<model>/<pretrained tag>", for example "open_clip:ViT-B-32/laion2b_s34b_b79k".

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
    model, _, tag = rest.partition("/")
    if kind == "open_clip" and model and tag:
        from guardrails.encoders.open_clip_hub import load_open_clip

        return load_open_clip(model, tag)
    raise OptionError(f"unknown encoder {spec!r}", hint='write "offline-clip" or "open_clip:<model>/<pretrained tag>"')
