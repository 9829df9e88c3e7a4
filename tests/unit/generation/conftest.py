from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guardrails.domain.requests import PromptRequest
from guardrails.testing.pipelines import Kind, tiny_pipeline

KINDS: tuple[Kind, ...] = ("sd1", "sd2", "sdxl", "sd3", "flux")


def request_of(**changes: Any) -> PromptRequest:
    """A small request that every tiny pipeline can fulfil."""
    fields = {"prompt": "asked", "seed": 7, "count": 2, "steps": 2, "width": 64, "height": 64} | changes
    return PromptRequest(**fields)


@pytest.fixture(scope="session")
def ask() -> Callable[..., PromptRequest]:
    return request_of


@pytest.fixture(scope="session")
def shared_pipeline() -> Callable[[Kind], Any]:
    """One pipeline of each kind for all tests that leave it as it is."""
    return functools.cache(tiny_pipeline)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """The folder of a saved tiny pipeline; not to be changed."""

    @functools.cache
    def save(kind: Kind) -> Path:
        folder = tmp_path_factory.mktemp("models") / f"tiny-{kind}"
        tiny_pipeline(kind).save_pretrained(folder)
        return folder

    return save
