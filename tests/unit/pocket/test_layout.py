"""The text encoder's first lesson: patches in their places, and a loss that falls."""

from __future__ import annotations

import numpy as np
import pytest

from guardrails.pocket.layout import PATCHES, layout_loss, patch_size, to_patches
from guardrails.pocket.text import LAYOUT_TOKENS, PROMPT_TOKENS, WIDTH, new_text_encoder

torch = pytest.importorskip("torch")


def test_every_layout_token_has_a_patch() -> None:
    assert PATCHES**2 == LAYOUT_TOKENS


def test_patches_are_cut_row_by_row() -> None:
    latents = np.arange(2 * 12 * 16 * 16, dtype=np.float32).reshape(2, 12, 16, 16)
    patches = to_patches(latents)
    assert patches.shape == (2, 16, patch_size(latents.astype(np.float16)))
    np.testing.assert_array_equal(patches[1, 6].reshape(12, 4, 4), latents[1, :, 4:8, 8:12])


def test_the_lesson_is_learnt_when_two_captions_are_repeated() -> None:
    class Tokenizer:
        bos_token_id, eos_token_id, pad_token_id = 0, 1, 1

        def __len__(self) -> int:
            return 50

    torch.manual_seed(0)
    text, head = new_text_encoder(Tokenizer()), torch.nn.Linear(WIDTH, 192)
    optimiser = torch.optim.AdamW([*text.parameters(), *head.parameters()], 1e-3)
    ids = torch.ones(2, PROMPT_TOKENS, dtype=torch.long)
    ids[:, 0] = 0
    ids[0, 1], ids[1, 1] = 7, 8
    target = torch.randn(2, LAYOUT_TOKENS, 192)
    losses = []
    for _ in range(40):
        loss = layout_loss(text, head, ids, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
