"""The trained parts as one diffusers folder that `DiffusionPipeline.from_pretrained` loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guardrails.errors import DatasetUnavailable
from guardrails.pocket.diffusion import new_scheduler, new_unet
from guardrails.pocket.latents import trained_autoencoder
from guardrails.pocket.text import new_text_encoder, open_tokenizer
from guardrails.pocket.training import load_checkpoint

# Small shards keep every file under the size that code hosts warn about.
SHARD_SIZE = "7MB"


def assemble(work: Path) -> Any:
    """A `StableDiffusionPipeline` of the averaged weights in float32."""
    from diffusers import StableDiffusionPipeline

    state = load_checkpoint(work / "diffusion.pt")
    if state is None:
        raise DatasetUnavailable(f"no trained denoiser in {work}", hint="run `guardrails pocket train diffusion`")
    tokenizer = open_tokenizer(work / "tokenizer")
    unet, text = new_unet(), new_text_encoder(tokenizer)
    unet.load_state_dict(state["average"][0])
    text.load_state_dict(state["average"][1])
    vae = trained_autoencoder(work)
    vae.register_to_config(scaling_factor=state["scale"])
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(work: Path, folder: Path) -> None:
    """Write the pipeline in float16 safetensors."""
    import torch

    assemble(work).to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True, max_shard_size=SHARD_SIZE)
