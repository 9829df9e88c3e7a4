"""The text encoder that a latent diffusion pipeline brings along, as a `TextEncoder`.

At generation time the pipeline encodes the prompt anyway, so heads on these vectors cost next to nothing (the idea of
Latent Guard, ECCV 2024, and AEIOU, arXiv 2412.18123). They see what the picture is made from: the same tokens, cut at
the same place. They must be trained for each encoder (`guardrails policy train-head --pipeline <folder>`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.encoders.protocol import unit_rows
from guardrails.errors import ModelUnavailable

_BATCH = 32


class PipelineText:
    """A CLIP text encoder with its tokenizer; a `TextEncoder`.

    Args:
        id: names the weights.
        tokenizer, model: as the pipeline holds them (`pipe.tokenizer`, `pipe.text_encoder`), so that a running
            pipeline's own objects can be given.
    """

    def __init__(self, *, id: str, tokenizer: Any, model: Any) -> None:
        self.id = id
        self.dim = int(model.config.hidden_size)
        self._tokenizer = tokenizer
        self._model = model

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts by the vector of their last token; see `TextEncoder.embed`."""
        return np.concatenate([self._embed(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)])

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self._tokenizer.model_max_length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            pooled = self._model(tokens.input_ids.to(self._model.device)).pooler_output
        return unit_rows(pooled.float().cpu().numpy(), self.id)


def load_pipeline_text(folder: Path) -> PipelineText:
    """Load the text encoder of a pipeline in the diffusers format.

    Raises:
        ModelUnavailable: the folder holds no CLIP text encoder with its tokenizer.
    """
    from transformers import AutoTokenizer, CLIPTextModel

    weights = sorted((folder / "text_encoder").glob("*.safetensors"))
    if not weights:
        raise ModelUnavailable(f"{folder} holds no text encoder", hint="give the folder that holds model_index.json")
    digest = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in weights)).hexdigest()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        model = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"the text encoder of {folder} cannot be loaded: {error}") from error
    return PipelineText(id=f"pipeline-text:{digest[:16]}", tokenizer=tokenizer, model=model)
