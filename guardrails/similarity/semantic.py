"""Semantic neighbours: which works mean the same, by the embeddings of an encoder. A side index, never a verdict.

A folder of `vectors.npy`, float16 (n, dimensions) of unit length, `ids.txt`, and `manifest.json`. Exact inner-product
search in numpy, piece by piece over the memory-mapped file; one million vectors of 512 dimensions are 1 GB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrails.encoders.protocol import ImageEncoder
from guardrails.errors import GuardrailsError, IndexFormatError, OptionError
from guardrails.files import write_atomically
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.similarity.ingest import Unreadable
from guardrails.similarity.sources import Item

FORMAT = 1
_VECTORS, _IDS, _MANIFEST = "vectors.npy", "ids.txt", "manifest.json"
_REBUILD = "build the side index again with this encoder"
_CHUNK = 1 << 16
_BATCH = 16


def write_vectors(folder: Path, ids: Sequence[str], vectors: NDArray[np.float32], encoder: str) -> None:
    """Write a side index, its manifest last.

    Args:
        ids: one line each.
        vectors: float32 (n, dimensions), of unit length.
        encoder: name and version; vectors of different encoders cannot be compared.

    Raises:
        OptionError: ids that come twice or span lines, or not one for each vector of unit length.
        StorageError: the folder cannot be written.
    """
    if len(ids) != len(vectors) or len(set(ids)) != len(ids) or any(not one.isprintable() for one in ids):
        raise OptionError("one printable id is needed for each vector, and none twice", hint="check the ids")
    if len(vectors) and np.abs(np.linalg.norm(vectors, axis=1) - 1).max() > 1e-3:
        raise OptionError("the vectors are not of unit length", hint="take them from `guardrails.encoders`")
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{one}\n" for one in ids).encode("utf-8")
    write_atomically(folder / _IDS, text)
    np.save(folder / _VECTORS, vectors.astype(np.float16), allow_pickle=False)
    manifest = {
        "format": FORMAT,
        "encoder": encoder,
        "vectors": len(ids),
        "sha256": {name: _digest(folder / name) for name in (_IDS, _VECTORS)},
    }
    write_atomically(folder / _MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode("utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticReport:
    """What became of a collection.

    Attributes:
        embedded: works in the index.
        repeated: ids that came twice; the first counts.
        unreadable: not in the index.
    """

    embedded: int
    repeated: int
    unreadable: tuple[Unreadable, ...]


def build_semantic(
    folder: Path,
    items: Iterable[Item],
    encoder: ImageEncoder,
    progress: Callable[[int], None] = lambda done: None,
) -> SemanticReport:
    """Embed a collection into a side index, in place of an older one.

    Args:
        progress: told after each batch how many items are done.

    Raises:
        EmbeddingError: the encoder gave no vector.
        StorageError: the folder cannot be written.
    """
    vectors: dict[str, NDArray[np.float32]] = {}
    unreadable: list[Unreadable] = []
    repeated = done = 0
    stream = iter(items)
    while batch := list(islice(stream, _BATCH)):
        fresh: dict[str, Pixels] = {}
        for item in batch:
            if item.id in vectors or item.id in fresh:
                repeated += 1
                continue
            try:
                fresh[item.id] = decode(item.read()).pixels
            except GuardrailsError as error:
                unreadable.append(Unreadable(item.id, error.code, error.message))
        if fresh:
            vectors |= dict(zip(fresh, encoder.embed(list(fresh.values())), strict=True))
        done += len(batch)
        progress(done)
    stacked = np.stack(list(vectors.values())) if vectors else np.empty((0, encoder.dim), np.float32)
    write_vectors(folder, list(vectors), stacked, encoder.id)
    return SemanticReport(embedded=len(vectors), repeated=repeated, unreadable=tuple(unreadable))


class SemanticIndex:
    """An opened side index.

    Raises:
        IndexFormatError: missing, damaged, of another format, or of another encoder.
    """

    def __init__(self, folder: Path, encoder: str) -> None:
        try:
            manifest = json.loads((folder / _MANIFEST).read_bytes())
            if manifest.get("format") != FORMAT or manifest.get("encoder") != encoder:
                raise IndexFormatError(f"{folder} holds vectors of {manifest.get('encoder')!r}", hint=_REBUILD)
            if any(_digest(folder / name) != digest for name, digest in manifest["sha256"].items()):
                raise IndexFormatError(f"{folder} is not what was published", hint=_REBUILD)
            self._vectors: NDArray[np.float16] = np.load(folder / _VECTORS, mmap_mode="r", allow_pickle=False)
            self._ids = (folder / _IDS).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise IndexFormatError(f"cannot open {folder}: {error}", hint=_REBUILD) from error

    def __len__(self) -> int:
        return len(self._ids)

    def nearest(self, vector: NDArray[np.float32], count: int) -> list[tuple[str, float]]:
        """The `count` most alike works and their cosines, best first, then by id.

        Args:
            vector: float32 (dimensions,), of unit length.
        """
        scores = np.concatenate(
            [
                self._vectors[begin : begin + _CHUNK].astype(np.float32) @ vector
                for begin in range(0, len(self._ids), _CHUNK)
            ]
            or [np.empty(0, np.float32)]
        )
        best = np.argsort(-scores, kind="stable")[:count]
        return [(self._ids[int(row)], float(scores[row])) for row in best]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
