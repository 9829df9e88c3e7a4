"""Linear concept heads on the offline CLIP tower, from the data file `datasets/screens/clip-concepts.json`."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardrails.domain.findings import Component
from guardrails.encoders import ImageEncoder, load_encoder
from guardrails.errors import ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.resources import datasets_path
from guardrails.screens.heads import LinearHead
from guardrails.screens.views import views

PACK_FILE = ("screens", "clip-concepts.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptPack:
    """The heads of one data file.

    Attributes:
        thresholds: by concept, as calibrated; a policy states them in its rules.
        error_rates: by concept, the sentence that goes with the threshold.
    """

    id: str
    digest: str
    encoder: str
    heads: tuple[LinearHead, ...]
    thresholds: Mapping[str, float]
    error_rates: Mapping[str, str]


def read_pack(path: Path) -> ConceptPack:
    """Read a data file written by `screens.training`.

    Raises:
        ScreenUnavailable: it is no such file.
    """
    try:
        raw = path.read_bytes()
        document = json.loads(raw)
        concepts = document["concepts"]
        heads = tuple(
            LinearHead(
                concept=concept,
                encoder=document["encoder"],
                vector=np.frombuffer(base64.b64decode(entry["vector"], validate=True), dtype="<f2"),
                bias=float(entry["bias"]),
            )
            for concept, entry in concepts.items()
        )
        return ConceptPack(
            id=document["id"],
            digest=hashlib.sha256(raw).hexdigest(),
            encoder=document["encoder"],
            heads=heads,
            thresholds={concept: float(entry["threshold"]) for concept, entry in concepts.items()},
            error_rates={concept: str(entry["error_rate"]) for concept, entry in concepts.items()},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ScreenUnavailable(f"{path} holds no concept heads: {error}", hint="reinstall the package") from error


class ClipConcepts:
    """A `Screen` with one score a concept: the worst over all views of the picture.

    Args:
        pack: heads; the shipped ones by default.
        encoder: the offline tower by default, loaded at the first picture.
    """

    def __init__(self, *, pack: ConceptPack | None = None, encoder: ImageEncoder | None = None) -> None:
        self._pack = pack or read_pack(datasets_path(*PACK_FILE))
        self._encoder = encoder
        self.component = Component(name="clip-concepts", version=self._pack.id, digest=self._pack.digest)

    def score(self, pixels: Pixels) -> Mapping[str, float]:
        """Score one picture; see `Screen.score`."""
        encoder = self._encoder or load_encoder("offline-clip")
        vectors = encoder.embed(views(pixels))
        return {head.concept: float(head.scores(vectors, encoder.id).max()) for head in self._pack.heads}
