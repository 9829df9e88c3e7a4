"""Reading `.npz` files that may be damaged or not what they seem."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import ModelUnavailable


def read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], bytes]:
    """The arrays of a file by name, and the file's bytes. Pickled objects are refused.

    Raises:
        ModelUnavailable: there is no such file, or it is not a file of arrays.
    """
    try:
        raw = path.read_bytes()
        with np.load(io.BytesIO(raw), allow_pickle=False) as file:
            return dict(file.items()), raw
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ModelUnavailable(
            f"{path} cannot be read as arrays: {error}", hint="reinstall, or train the heads again"
        ) from error
