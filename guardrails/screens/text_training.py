"""Trains the text side of the offline tower: a projection of MiniLM's vectors into the locked picture space.

LiT (Zhai et al., CVPR 2022) with two kinds of targets:

1. Captioned pictures: a caption must lie nearer to its own picture than to the others of a batch, and the other way
   round. Pictures of the same thing are not held against each other.
2. Anchors: vectors that CLIP's own text tower gave for some names, published with ZegCLIP (Zhou et al., CVPR 2023, MIT)
   and SemiVL (Hoyer et al., ECCV 2024, Apache-2.0). Most of the pictures are drawings; anchors carry the text side over
   to photographs.

Words, pictures and anchors are each centred: all pictures of one kind share a direction that no word names, and so do
all vectors of a text tower. `heads.HeadSet` takes the centre from a picture in the same way.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.encoders.protocol import TextEncoder
from guardrails.screens.heads import Vectors

PHRASES = ("a photo of {}", "{}", "a drawing of {}", "a picture of {}")
SEED = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of one training.

    Attributes:
        anchor_weight: of the anchors' loss beside that of the pictures.
        decay: AdamW's.
    """

    epochs: int = 20
    batch: int = 512
    rate: float = 2e-3
    decay: float = 0.05
    temperature: float = 0.05
    anchor_weight: float = 1.0
    ridge: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Captions:
    """Words and pictures in pairs.

    Attributes:
        texts: MiniLM's vectors, shape (pairs, 384).
        images: row numbers of the picture of each pair.
        things: number of the thing that each pair shows; equal numbers are no negatives of each other.
    """

    texts: Vectors
    images: NDArray[np.int64]
    things: NDArray[np.int64]


def make_captions(
    names: Sequence[Sequence[str]], reader: TextEncoder, unseen: Collection[str] = frozenset(), most: int = 3
) -> Captions:
    """Several captions for each picture: its names in varying phrases.

    Args:
        unseen: names that no caption may have; a picture whose first name is one of them has no caption at all.
    """
    texts: list[str] = []
    images: list[int] = []
    things: list[int] = []
    known: dict[str, int] = {}
    for row, of_picture in enumerate(names):
        if of_picture[0] in unseen:
            continue
        thing = known.setdefault(of_picture[0], len(known))
        for number, name in enumerate(name for name in of_picture[:most] if name not in unseen):
            texts.append(PHRASES[(row + number) % len(PHRASES)].format(name))
            images.append(row)
            things.append(thing)
    return Captions(texts=reader.embed(texts), images=np.array(images), things=np.array(things))


def train(
    captions: Captions,
    pictures: Vectors,
    anchors: tuple[Vectors, Vectors],
    settings: Settings | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The projection, shape (384, dim), and the bias that centres it, shape (dim,).

    Args:
        pictures: unit rows, shape (n, dim).
        anchors: MiniLM's vectors of some names, and the vectors of CLIP's text tower for them.
    """
    import torch

    settings = settings or Settings()
    torch.manual_seed(SEED)
    texts, images = torch.from_numpy(captions.texts), torch.from_numpy(pictures)
    images = torch.nn.functional.normalize(images - images.mean(0), dim=1)
    things, of_picture = torch.from_numpy(captions.things), torch.from_numpy(captions.images)
    anchor_texts, anchor_vectors = (torch.from_numpy(part) for part in anchors)
    anchor_texts, anchor_vectors = anchor_texts - anchor_texts.mean(0), anchor_vectors - anchor_vectors.mean(0)
    first = torch.from_numpy(ridge(*anchors, settings.ridge))
    weight = torch.nn.Parameter(first.clone())
    optimiser = torch.optim.AdamW([weight], lr=settings.rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(texts), generator=generator).split(settings.batch):
            projected = texts[rows] @ weight
            projected = torch.nn.functional.normalize(projected - projected.mean(0), dim=1)
            logits = projected @ images[of_picture[rows]].T / settings.temperature
            same = (things[rows][:, None] == things[rows][None]).float()
            target = same / same.sum(1, keepdim=True)
            loss = _cross_entropy(logits, target) + _cross_entropy(logits.T, target)
            alike = torch.nn.functional.cosine_similarity(anchor_texts @ weight, anchor_vectors, dim=1)
            loss = loss + settings.anchor_weight * (1 - alike).mean() / settings.temperature
            loss = loss + settings.decay * (weight - first).square().sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    projection: NDArray[np.float32] = weight.detach().numpy()
    return projection, -(captions.texts @ projection).mean(axis=0)


def _cross_entropy(logits: Any, target: Any) -> Any:
    return -(target * logits.log_softmax(1)).sum(1).mean()


def ridge(texts: Vectors, vectors: Vectors, strength: float) -> NDArray[np.float32]:
    """The linear map between centred rows with the least squared error and a penalty."""
    x, y = (texts - texts.mean(0)).astype(np.float64), (vectors - vectors.mean(0)).astype(np.float64)
    weight: NDArray[np.float32] = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y).astype(np.float32)
    return weight


def to_bytes(projection: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """The file that `encoders.lit_text` reads."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, projection=projection.astype(np.float16), bias=bias.astype(np.float16))
    return buffer.getvalue()


def zero_shot(texts: Vectors, pictures: Vectors, ways: int, rounds: int = 20) -> tuple[float, float]:
    """Top-1 and top-5 accuracy of naming pictures, each of another thing, among `ways` names, over random draws.

    Args:
        texts, pictures: unit rows in the same order.
    """
    random, first, five = np.random.default_rng(SEED), [], []
    for _ in range(rounds):
        rows = random.permutation(len(texts))[:ways]
        order = np.argsort(-(pictures[rows] @ texts[rows].T), axis=1)
        right = np.arange(len(rows))[:, None]
        first.append(np.mean(order[:, :1] == right))
        five.append(np.mean((order[:, :5] == right).any(axis=1)))
    return float(np.mean(first)), float(np.mean(five))
