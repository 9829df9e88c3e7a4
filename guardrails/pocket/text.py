"""The pocket text side: a small byte-pair tokenizer of its own and a small `CLIPTextModel`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from guardrails.pocket.dataset import Picture
from guardrails.pocket.scenes import COLOURS

VOCABULARY = 3000
# The last positions of every prompt foretell the picture, see `layout`; prompts end before them unless very long.
LAYOUT_TOKENS = 16
PROMPT_TOKENS = 16 + LAYOUT_TOKENS
WIDTH = 192
START, END = "<|startoftext|>", "<|endoftext|>"


def corpus(pictures: Iterable[Picture]) -> list[str]:
    """Every phrase that captions are made of; names weigh more than keywords."""
    lines = [f"a {picture.name} on a white background, {picture.style} style" for picture in pictures] * 4
    lines += [" ".join(picture.keywords.split("|")) for picture in pictures]
    lines += [f"an object on a {colour} background" for colour in COLOURS] * 50
    return lines


def train_tokenizer(pictures: Iterable[Picture], folder: Path) -> Any:
    """Learn byte-pair merges in CLIP's form and return a `CLIPTokenizer` (lower case, `</w>` ends a word)."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    bpe = tokenizers.Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        end_of_word_suffix="</w>",
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[START, END],
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(pictures), trainer)
    model = json.loads(bpe.to_str())["model"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = ["#version: 0.2", *(" ".join(m) if isinstance(m, list) else m for m in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    return open_tokenizer(folder)


def open_tokenizer(folder: Path) -> Any:
    """The `CLIPTokenizer` of vocab.json and merges.txt in `folder`."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=PROMPT_TOKENS,
        pad_token=END,
    )


def new_text_encoder(tokenizer: Any) -> Any:
    """An untrained `CLIPTextModel` of the pocket size."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=WIDTH * 4,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=PROMPT_TOKENS,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokenize(tokenizer: Any, captions: list[str]) -> Any:
    """int64 tensor (n, PROMPT_TOKENS), padded and cut as the diffusers pipelines do."""
    return tokenizer(
        captions, padding="max_length", max_length=PROMPT_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
