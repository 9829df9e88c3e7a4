"""Training of prompt heads, with a low-rank adapter of the encoder where the encoder is MiniLM.

What is learned, and why:

1. One softmax over "harmless" and the categories. An unsafe prompt pulls its own category up, its twin and every other
   harmless prompt pull all of them down.
2. An order inside every contrast pair: the unsafe prompt must score above its twin (a logistic loss on the difference;
   Burges et al., "Learning to rank using gradient descent", 2005). Pairs stand in the same batch for that.
3. An adapter of rank 16 on every linear layer (Hu et al., "LoRA", 2021). The frozen vector knows the topic of a prompt
   and little of its intent; the adapter is 1.3 MB and costs nothing at run time.

Needs torch. Deterministic for one seed, one thread and one version of the libraries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from guardrails.encoders.minilm import read_state, read_tokenizer
from guardrails.encoders.minilm_graph import HEADS, LAYERS, WIDTH, linear_keys
from guardrails.errors import OptionError
from guardrails.prompts.examples import Example
from guardrails.prompts.heads import VECTOR_SCALE, PromptHeads, as_integers
from guardrails.prompts.identities import neutral

if TYPE_CHECKING:
    import torch
    from torch import nn

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        rank: of the adapter.
        strength: factor on the adapter's product while it is learned; part of the matrices afterwards.
        plain: how many harmless captions and traffic prompts an epoch draws anew from each large set.
        tokens: longest text in training.
        pair_weight: of the order inside pairs against the softmax.
    """

    rank: int = 16
    strength: float = 2.0
    hidden: int = 128
    epochs: int = 3
    batch: int = 32
    plain: int = 2000
    tokens: int = 96
    adapter_rate: float = 1e-3
    head_rate: float = 2e-3
    pair_weight: float = 0.5
    warm_up: int = 40
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The result: an adapter for `guardrails.encoders.minilm`, empty for other encoders, and the head's weights."""

    categories: tuple[str, ...]
    adapter: dict[str, NDArray[np.float16]]
    hidden_weight: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    output_weight: NDArray[np.float32]
    output_bias: NDArray[np.float32]

    def heads(self, encoder: str, examples: Sequence[Example], vectors: NDArray[np.float32]) -> PromptHeads:
        """Heads with the examples that findings quote; `vectors` are their unit rows from the final encoder."""
        return PromptHeads(
            encoder=encoder,
            categories=self.categories,
            hidden_weight=self.hidden_weight,
            hidden_bias=self.hidden_bias,
            output_weight=self.output_weight,
            output_bias=self.output_bias,
            example_vectors=as_integers(vectors),
            example_texts=tuple(example.text for example in examples),
            example_categories=tuple(example.topic if example.is_unsafe else "" for example in examples),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What an earlier round of training left: an adapter file's arrays and the heads on it."""

    adapter: Mapping[str, NDArray[Any]]
    heads: PromptHeads


def train(
    examples: Sequence[Example],
    *,
    vectors: NDArray[np.float32] | None = None,
    recipe: Recipe | None = None,
    start: Start | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train heads.

    Args:
        examples: with at least one unsafe and one harmless prompt.
        vectors: unit rows of the examples from a frozen encoder. None trains MiniLM's adapter together with the head.
        start: go on from here instead of from the untouched encoder.
        progress: called with the batches done and the number of all.
    """
    import torch

    recipe = recipe or Recipe()
    torch.manual_seed(recipe.seed)
    categories = tuple(sorted({name for example in examples for name in example.categories}))
    encoder = _tuned_minilm(examples, recipe) if vectors is None else _frozen(vectors)
    head = _head(WIDTH if vectors is None else vectors.shape[1], len(categories), recipe)
    if start is not None:
        encoder.start_from(start.adapter)
        _start_head(head, start.heads, categories)
    optimizer = torch.optim.AdamW(
        [
            {"params": list(encoder.parameters()), "lr": recipe.adapter_rate, "weight_decay": 0.01},
            {"params": list(head.parameters()), "lr": recipe.head_rate, "weight_decay": 0.05},
        ][vectors is not None :]
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    targets = _targets(examples, categories)
    batches = [batch for epoch in range(recipe.epochs) for batch in _batches(examples, recipe, epoch)]
    encoder.train()
    head.train()
    for step, batch in enumerate(batches):
        pace = min(1.0, (step + 1) / recipe.warm_up) * max(0.02, 1 - step / len(batches))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * pace
        loss = _loss(head(VECTOR_SCALE * encoder(batch)), [examples[i] for i in batch], targets[batch], recipe)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        if progress is not None:
            progress(step + 1, len(batches))
    return _result(categories, encoder, head)


def _targets(examples: Sequence[Example], categories: Sequence[str]) -> torch.Tensor:
    """Which outputs are right for each example, bool of shape (n, 1 + categories); column 0 is harmless."""
    import torch

    return torch.tensor(
        [[not example.is_unsafe, *(name in example.categories for name in categories)] for example in examples]
    )


def _loss(logits: torch.Tensor, batch: Sequence[Example], targets: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    import torch
    from torch.nn import functional

    weights = torch.tensor([example.weight for example in batch])
    shares = functional.log_softmax(torch.cat([torch.zeros(len(batch), 1), logits], dim=1), dim=1)
    right = torch.logsumexp(shares.masked_fill(~targets, -1e9), dim=1)
    loss = -(right * weights).sum() / weights.sum()
    unsafe, benign = _pairs(batch)
    if unsafe:
        odds = torch.logsumexp(logits, dim=1)
        order = functional.softplus(odds[benign] - odds[unsafe]).mean()
        loss = loss + recipe.pair_weight * order * (2 * len(unsafe) / len(batch))
    return loss


def _pairs(batch: Sequence[Example]) -> tuple[list[int], list[int]]:
    """Positions of the unsafe prompts that have their twin in the batch, and of the twins."""
    twins = {example.pair: i for i, example in enumerate(batch) if example.pair and not example.is_unsafe}
    found = [(i, twins[example.pair]) for i, example in enumerate(batch) if example.is_unsafe and example.pair in twins]
    return [i for i, _ in found], [j for _, j in found]


def _batches(examples: Sequence[Example], recipe: Recipe, epoch: int) -> Iterator[list[int]]:
    """Indices of one epoch in random order: texts of like length together, twins side by side."""
    rng = np.random.default_rng((recipe.seed, epoch))
    units = _units(examples, recipe, rng)
    rng.shuffle(units)
    batches: list[list[int]] = []
    for start in range(0, len(units), 1024):
        chunk = sorted(units[start : start + 1024], key=lambda unit: max(len(examples[i].text) for i in unit))
        flat = [i for unit in chunk for i in unit]
        batches += [flat[i : i + recipe.batch] for i in range(0, len(flat), recipe.batch)]
    for number in rng.permutation(len(batches)):
        yield batches[number]


def _units(examples: Sequence[Example], recipe: Recipe, rng: np.random.Generator) -> list[list[int]]:
    """Pairs and single prompts; of every set without any unsafe prompt or topic, a fresh sample."""
    units: dict[str, list[int]] = {}
    plain: dict[bool, list[int]] = {}
    for i, example in enumerate(examples):
        if example.topic or example.is_unsafe or example.source == "contrast":
            units.setdefault(example.pair or f"#{i}", []).append(i)
        else:
            plain.setdefault(example.weight < 1, []).append(i)
    sampled = [int(i) for rows in plain.values() for i in rng.choice(rows, min(recipe.plain, len(rows)), replace=False)]
    return [*units.values(), *([i] for i in sampled)]


def _head(inputs: int, outputs: int, recipe: Recipe) -> nn.Sequential:
    import torch
    from torch import nn

    head = nn.Sequential(
        nn.Dropout(0.1),
        nn.Linear(inputs, recipe.hidden),
        nn.GELU(approximate="tanh"),
        nn.Dropout(0.2),
        nn.Linear(recipe.hidden, outputs),
    )
    # Most prompts are harmless: start there.
    torch.nn.init.constant_(head[4].bias, -3.0)
    return head


def _start_head(head: nn.Sequential, heads: PromptHeads, categories: Sequence[str]) -> None:
    """Copy the weights of earlier heads; the outputs are found by name.

    Raises:
        OptionError: the earlier heads have other categories or another size.
    """
    import torch

    if set(heads.categories) != set(categories) or heads.hidden_bias.shape != tuple(head[1].bias.shape):
        raise OptionError(
            "the earlier heads have other categories or another size", hint="train from the beginning instead"
        )
    order = [heads.categories.index(name) for name in categories]
    with torch.no_grad():
        head[1].weight.copy_(torch.from_numpy(heads.hidden_weight.T.copy()))
        head[1].bias.copy_(torch.from_numpy(heads.hidden_bias))
        head[4].weight.copy_(torch.from_numpy(heads.output_weight.T[order].copy()))
        head[4].bias.copy_(torch.from_numpy(heads.output_bias[order]))


def _frozen(vectors: NDArray[np.float32]) -> Any:
    """Looks up ready vectors by index."""
    import torch
    from torch import nn

    class Frozen(nn.Module):  # type: ignore[misc]
        def forward(self, batch: Sequence[int]) -> torch.Tensor:
            return torch.from_numpy(vectors[list(batch)])

    return Frozen()


def _tuned_minilm(examples: Sequence[Example], recipe: Recipe) -> Any:
    """MiniLM with frozen matrices and a trainable adapter; gives unit rows for examples by index."""
    import torch
    from tokenizers import Tokenizer
    from torch import nn
    from torch.nn import functional

    tokenizer = Tokenizer.from_str(read_tokenizer())
    tokenizer.no_padding()
    tokenizer.enable_truncation(recipe.tokens)
    ids = [encoding.ids for encoding in tokenizer.encode_batch([neutral(example.text) for example in examples])]
    state = {key: torch.from_numpy(tensor.copy()) for key, tensor in read_state().items()}

    class Tuned(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
            for key in linear_keys():
                outputs, inputs = state[f"{key}.weight"].shape
                name = key.replace(".", "/")
                self.down[name] = nn.Parameter(torch.randn(recipe.rank, inputs) / math.sqrt(inputs))
                self.up[name] = nn.Parameter(torch.zeros(outputs, recipe.rank))

        def linear(self, given: torch.Tensor, key: str) -> torch.Tensor:
            name = key.replace(".", "/")
            change = functional.linear(functional.linear(given, self.down[name]), self.up[name])
            return functional.linear(given, state[f"{key}.weight"], state[f"{key}.bias"]) + recipe.strength * change

        def norm(self, given: torch.Tensor, key: str) -> torch.Tensor:
            return functional.layer_norm(given, (WIDTH,), state[f"{key}.weight"], state[f"{key}.bias"], 1e-12)

        def drop(self, given: torch.Tensor) -> torch.Tensor:
            return functional.dropout(given, 0.1, self.training)

        def forward(self, batch: Sequence[int]) -> torch.Tensor:
            rows = [torch.tensor(ids[i]) for i in batch]
            padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
            lengths = torch.tensor([len(row) for row in rows])
            mask = torch.arange(padded.shape[1])[None] < lengths[:, None]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                last = self.layers(padded, mask[:, None, None])
            kept = mask[..., None].float()
            return functional.normalize((last.float() * kept).sum(1) / kept.sum(1), dim=1)

        def layers(self, padded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            texts, tokens = padded.shape
            last = state["embeddings.word_embeddings.weight"][padded]
            last = last + state["embeddings.position_embeddings.weight"][:tokens]
            last = self.norm(last + state["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
            for layer in range(LAYERS):
                key = f"encoder.layer.{layer}."
                query, keys, value = (
                    self.linear(last, f"{key}attention.self.{part}").view(texts, tokens, HEADS, -1).transpose(1, 2)
                    for part in ("query", "key", "value")
                )
                # Written out: the fused operator's backward pass is five times slower on a CPU.
                likeness = (query @ keys.transpose(2, 3)) / math.sqrt(query.shape[3])
                context = likeness.masked_fill(~mask, -1e4).softmax(dim=3).to(value.dtype) @ value
                context = context.transpose(1, 2).reshape(texts, tokens, WIDTH)
                attended = self.drop(self.linear(context, f"{key}attention.output.dense"))
                last = self.norm(attended + last, f"{key}attention.output.LayerNorm")
                grown = functional.gelu(self.linear(last, f"{key}intermediate.dense"))
                last = self.norm(self.drop(self.linear(grown, f"{key}output.dense")) + last, f"{key}output.LayerNorm")
            return last

        def start_from(self, adapter: Mapping[str, NDArray[Any]]) -> None:
            with torch.no_grad():
                for key in linear_keys():
                    name = key.replace(".", "/")
                    self.down[name].copy_(torch.from_numpy(adapter[f"{key}.down"].astype(np.float32)))
                    up = adapter[f"{key}.up"].astype(np.float32) / recipe.strength
                    self.up[name].copy_(torch.from_numpy(up))

        def adapter(self) -> dict[str, NDArray[np.float16]]:
            arrays = {}
            for key in linear_keys():
                name = key.replace(".", "/")
                arrays[f"{key}.down"] = self.down[name].detach().numpy().astype(np.float16)
                arrays[f"{key}.up"] = (self.up[name].detach().numpy() * recipe.strength).astype(np.float16)
            return arrays

    return Tuned()


def _result(categories: tuple[str, ...], encoder: Any, head: nn.Sequential) -> Trained:
    hidden, output = head[1], head[4]
    return Trained(
        categories=categories,
        adapter=encoder.adapter() if hasattr(encoder, "adapter") else {},
        hidden_weight=hidden.weight.detach().numpy().T.copy(),
        hidden_bias=hidden.bias.detach().numpy().copy(),
        output_weight=output.weight.detach().numpy().T.copy(),
        output_bias=output.bias.detach().numpy().copy(),
    )
