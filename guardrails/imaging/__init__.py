"""Pixels: one contract (RGB, uint8, height x width x 3), guarded decoding, encoding, metadata."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
