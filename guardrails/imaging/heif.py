"""HEIC, which Pillow reads and writes only with the optional `pillow-heif` (extra `heic`)."""

from __future__ import annotations

import functools

# ISO/IEC 23008-12, annexes B and F: brands of files whose pictures are coded in HEVC, or not named by the first brand.
_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def looks_like_heif(data: bytes) -> bool:
    """Whether the file begins with a `ftyp` box of a HEIF brand; nearly all AVIF files begin with their own."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS


@functools.cache
def enable_heif() -> bool:
    """Teach Pillow the format once; False where the extra is not installed."""
    try:
        import pillow_heif
    except ModuleNotFoundError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True
