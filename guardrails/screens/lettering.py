"""Whether there is any lettering in a picture: a small network that is asked before the slow reader.

`lettering_training` made it; `datasets/screens/lettering.md` is its card. onnxruntime runs it, as it runs the reader.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np

from guardrails.errors import DatasetUnavailable, ScreenUnavailable
from guardrails.imaging import Pixels
from guardrails.resources import datasets_path

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL = ("screens", "lettering.onnx")
MODEL_SHA256 = "48f864e9b62e11891087b3df5040912e3b669053a0e519d4793fddef23b3f908"
# From here on a picture is read; the card says what is lost below, and how many pictures without a mark pass.
THRESHOLD = 0.4
# A thinner picture than two cells of the network's map is continued at its edges.
LEAST_SIDE = 32


class Lettering:
    """The network, loaded at the first picture."""

    digest = MODEL_SHA256

    def __init__(self) -> None:
        self._session: InferenceSession | None = None
        self._loading = threading.Lock()

    def score(self, pixels: Pixels) -> float:
        """How surely there is lettering somewhere, 0..1: of the surest place, two by two cells of 16 pixels.

        Args:
            pixels: RGB, uint8, as the reader sees it: 640 pixels on the longer side.

        Raises:
            ScreenUnavailable: the weights or onnxruntime are missing, or the weights are not the shipped ones.
        """
        luma = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
        lacking = [max(0, LEAST_SIDE - side) for side in luma.shape]
        if any(lacking):
            luma = np.pad(luma, [(0, more) for more in lacking], mode="edge")
        (score,) = self._load().run(None, {"luma": luma[np.newaxis, np.newaxis].astype(np.float32) / 255})
        return float(score[0])

    def _load(self) -> InferenceSession:
        with self._loading:
            if self._session is None:
                self._session = _open()
            return self._session


def _open() -> InferenceSession:
    try:
        model = datasets_path(*MODEL).read_bytes()
    except DatasetUnavailable as error:
        raise ScreenUnavailable(
            f"no look for lettering without its weights: {error.message}", hint=error.hint
        ) from error
    found = hashlib.sha256(model).hexdigest()
    if found != MODEL_SHA256:
        raise ScreenUnavailable(
            f"datasets/{'/'.join(MODEL)} has SHA-256 {found}, expected {MODEL_SHA256}",
            hint="reinstall latent-guardrails",
        )
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ScreenUnavailable(
            "visible marks are looked for with onnxruntime, which is not installed",
            hint="pip install 'latent-guardrails[marks]'",
        ) from error
    options = onnxruntime.SessionOptions()
    # One thread: the caller decides on parallelism.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
