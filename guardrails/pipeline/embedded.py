"""The embedded default: the pocket model with the settings it was evaluated at, and the index of its works."""

from __future__ import annotations

from pathlib import Path

from guardrails import home as homes
from guardrails.generation.defaults import WithDefaults
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.editing import DiffusersEditor
from guardrails.generation.loading import load_generator
from guardrails.generation.protocol import Generator
from guardrails.pipeline.pictures import RebuiltPictures
from guardrails.resources import datasets_path
from guardrails.similarity.search import SimilarityIndex

POCKET = "pocket"
POCKET_STEPS = 20
POCKET_GUIDANCE = 3.0


def pocket_model() -> Path:
    """The folder of the embedded model, in diffusers format."""
    return datasets_path("pocket", "model")


def default_generator() -> Generator:
    """The embedded pocket model with the settings it was evaluated at."""
    return with_pocket_defaults(load_generator(str(pocket_model())))


def with_pocket_defaults(generator: DiffusersGenerator) -> Generator:
    """The pocket model as it was evaluated."""
    generator.name = POCKET
    editor = DiffusersEditor(generator)
    return WithDefaults(generator=generator, steps=POCKET_STEPS, guidance_scale=POCKET_GUIDANCE, editor=editor)


def shipped_index(home: Path) -> SimilarityIndex:
    """The index of the pocket collection, with its pictures where they have been rebuilt."""
    pictures = RebuiltPictures.open(homes.pictures_folder(home))
    return SimilarityIndex.open(datasets_path("pocket", "index"), pictures)
