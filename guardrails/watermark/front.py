"""The learned front end: a small network that guesses which pattern a mark may have added to a picture.

It has never seen a key, so what a keyed pilot finds behind it has the same null distribution as behind the whitening
filter. `front_training` made it; `datasets/watermark/README.md` is its card. OpenCV runs it.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np

from guardrails.resources import datasets_path
from guardrails.watermark.frame import Plane
from guardrails.watermark.front_features import OUTPUTS, features, scatter

# A network object keeps its last input, so threads must not share one.
_THREAD = threading.local()


def guess_pattern(frame: Plane) -> Plane:
    """The pattern that was probably added to a canonical luma frame: the whitened frame, corrected by the network.

    Args:
        frame: float32 of shape (height, width), 0..255.

    Returns:
        float32 of the same shape; larger where, and at the radii where, it is surer.
    """
    if not hasattr(_THREAD, "network"):
        _THREAD.network = cv2.dnn.readNetFromONNX(str(datasets_path("watermark", "front.onnx")))
    seen = features(frame)
    _THREAD.network.setInput(seen)
    return scatter(seen[:, :OUTPUTS] + np.asarray(_THREAD.network.forward(), np.float32), *frame.shape)
