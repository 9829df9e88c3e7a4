"""Where the data folders `policies/` and `datasets/` are, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from guardrails.errors import DatasetUnavailable

_PACKAGE = Path(__file__).resolve().parent


def policies_path(*parts: str) -> Path:
    """The path of a file or folder under `policies/`.

    Raises:
        DatasetUnavailable: it does not exist in this installation.
    """
    return _locate("policies", parts)


def datasets_path(*parts: str) -> Path:
    """The path of a file or folder under `datasets/`.

    Raises:
        DatasetUnavailable: it does not exist in this installation.
    """
    return _locate("datasets", parts)


def _locate(folder: str, parts: tuple[str, ...]) -> Path:
    # A wheel carries the data inside the package; a checkout and an editable install have it beside the package.
    bundled = _PACKAGE / "_bundled" / folder
    root = bundled if bundled.is_dir() else _PACKAGE.parent / folder
    path = root.joinpath(*parts)
    if not path.exists():
        raise DatasetUnavailable(
            f"{'/'.join((folder, *parts))} is not part of this installation (looked in {root})",
            hint="reinstall latent-guardrails, or run from a complete checkout",
        )
    return path
