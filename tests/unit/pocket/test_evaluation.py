"""What an evaluation says of a model that draws its drawings, and of one that draws others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from guardrails.imaging import Pixels
from guardrails.pocket import evaluation
from guardrails.pocket.dataset import Picture
from guardrails.pocket.scenes import UNNAMED_STYLE
from guardrails.pocket.training import Library
from guardrails.testing.doubles import ShapeGenerator, draw_shapes

WORKS = 8


class Thumbnails:
    """An encoder whose vectors are small pictures."""

    id = "thumbnails"
    dim = 192

    def embed(self, images: Sequence[Pixels]) -> NDArray[np.float32]:
        small = np.stack([image.reshape(8, 32, 8, 32, 3).mean((1, 3)).ravel() - 200 for image in images])
        return (small / np.linalg.norm(small, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("shift", "recognised"), [(0, 1.0), (1, 0.0)])
def test_a_picture_is_recognised_by_its_nearest_drawing(
    monkeypatch: pytest.MonkeyPatch, shift: int, recognised: float
) -> None:
    monkeypatch.setattr(evaluation, "load_generator", lambda model: ShapeGenerator())
    row = Picture(**dict.fromkeys(Picture.__dataclass_fields__, "x") | {"style": UNNAMED_STYLE})
    opaque = np.full((256, 256, 1), 255, np.uint8)
    drawings = np.stack([np.dstack([draw_shapes((number + shift) % WORKS), opaque]) for number in range(WORKS)])
    told: list[int] = []
    measures = evaluation.recognition(
        Path("model"), Library([row] * WORKS, drawings), Thumbnails(), lambda done, total: told.append(done)
    )
    assert measures["names"] == WORKS
    assert measures["recognised"] == recognised
    assert told == list(range(1, WORKS + 1))
