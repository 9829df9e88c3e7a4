"""The pocket models: their start, their text side, their training step, their folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from guardrails.pocket.dataset import read_manifest
from guardrails.resources import datasets_path

torch = pytest.importorskip("torch")


def test_an_untrained_autoencoder_already_shows_the_picture_coarsely() -> None:
    from guardrails.pocket.autoencoder import new_autoencoder

    ramp = torch.linspace(-1, 1, 128)
    picture = torch.stack([ramp[None, :].expand(128, 128), ramp[:, None].expand(128, 128), torch.zeros(128, 128)])[None]
    torch.manual_seed(0)
    with torch.no_grad():
        model = new_autoencoder()
        latents = model.encode(picture).latent_dist.mode()
        shown = model.decode(latents).sample
    assert latents.shape == (1, 12, 8, 8)
    means = torch.nn.functional.avg_pool2d(picture, 16)
    assert np.corrcoef(latents[0, 0].flatten(), means[0, 0].flatten())[0, 1] > 0.99
    for colour in (0, 1):
        assert np.corrcoef(shown[0, colour].flatten(), picture[0, colour].flatten())[0, 1] > 0.85


def test_balancing_latents_changes_no_picture() -> None:
    from guardrails.pocket.autoencoder import balance_latents, new_autoencoder

    torch.manual_seed(0)
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    model = new_autoencoder()
    with torch.no_grad():
        before = model.encode(picture).latent_dist
        shown = model.decode(before.mode()).sample
        factors = torch.linspace(0.5, 4, 12)
        balance_latents(model, factors)
        after = model.encode(picture).latent_dist
        again = model.decode(after.mode()).sample
    scale = factors.rsqrt()[:, None, None]
    torch.testing.assert_close(after.mode()[0], before.mode()[0] * scale, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.std[0], before.std[0] * scale, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(again, shown, rtol=1e-3, atol=1e-3)


def test_a_tokenizer_learns_the_words_and_reopens(tmp_path: Path) -> None:
    from guardrails.pocket.text import PROMPT_TOKENS, open_tokenizer, tokenize, train_tokenizer

    rows = [row for row in read_manifest(datasets_path("pocket", "manifest.csv")) if row.trained][:60]
    tokenizer = train_tokenizer(rows, tmp_path)
    words = tokenizer.convert_ids_to_tokens(tokenizer("a background").input_ids)
    assert words == ["<|startoftext|>", "a</w>", "background</w>", "<|endoftext|>"]
    ids = tokenize(open_tokenizer(tmp_path), ["A CAT", "a cat", ""])
    assert ids.shape == (3, PROMPT_TOKENS)
    assert torch.equal(ids[0], ids[1])
    assert not torch.equal(ids[0], ids[2])


def test_the_denoising_loss_falls_when_one_scene_is_repeated() -> None:
    from guardrails.pocket.diffusion import denoising_loss, new_scheduler, new_unet
    from guardrails.pocket.text import PROMPT_TOKENS, WIDTH, new_text_encoder

    class Tokenizer:
        bos_token_id, eos_token_id, pad_token_id = 0, 1, 1

        def __len__(self) -> int:
            return 50

    torch.manual_seed(0)
    unet, text = new_unet(), new_text_encoder(Tokenizer())
    assert unet.config.cross_attention_dim == WIDTH
    optimiser = torch.optim.AdamW([*unet.parameters(), *text.parameters()], 1e-3)
    latents = torch.randn(1, 12, 16, 16).expand(8, -1, -1, -1).contiguous()
    ids = torch.tensor([[0, 7, *[1] * (PROMPT_TOKENS - 2)]]).expand(8, -1)
    alphas = new_scheduler().alphas_cumprod
    losses = []
    for _ in range(14):
        loss = denoising_loss(unet, text, latents, ids, alphas)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.92 * np.mean(losses[:3])


def test_the_shipped_model_is_small_half_precision_and_in_the_standard_layout() -> None:
    folder = datasets_path("pocket", "model")
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert {"vae", "unet", "text_encoder", "tokenizer", "scheduler"} <= set(index)
    weights = list(folder.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in weights) < 40e6
    assert max(path.stat().st_size for path in weights) < 8 * 1024 * 1024
    from safetensors import safe_open

    with safe_open(weights[0], "pt") as tensors:
        assert all(tensors.get_tensor(name).dtype is torch.float16 for name in list(tensors.keys())[:3])


def test_the_shipped_model_obeys_background_colours() -> None:
    from guardrails.domain.requests import PromptRequest
    from guardrails.pipeline.embedded import default_generator
    from guardrails.pocket.evaluation import background_of

    generator = default_generator()
    for colour in ("blue", "yellow", "white"):
        prompt = f"a red apple on a {colour} background"
        drawn = generator.draw(PromptRequest(prompt=prompt, seed=5, steps=12), prompt)[0]
        assert drawn.facts.model == "pocket"
        assert background_of(drawn.pixels) == colour
