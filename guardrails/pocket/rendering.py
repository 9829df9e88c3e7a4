"""SVG drawings to pixels."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PICTURE_SIZE = 256


def render(svg: str, size: int = PICTURE_SIZE) -> NDArray[np.uint8]:
    """Rasterise one SVG.

    Returns:
        uint8 array of shape (size, size, 4): RGBA with straight (not premultiplied) alpha. A drawing that is not
        square is centred.
    """
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True))
    with Image.open(io.BytesIO(png)) as picture:
        rgba = picture.convert("RGBA")
    if rgba.size == (size, size):
        return np.asarray(rgba)
    square = Image.new("RGBA", (size, size))
    square.paste(rgba, ((size - rgba.width) // 2, (size - rgba.height) // 2))
    return np.asarray(square)
