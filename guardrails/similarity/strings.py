"""Texts of millions of entries in memory-mapped columns: one blob, its texts' ends, and an order to find them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import IndexFormatError


def string_columns(name: str, texts: Sequence[str], *, searchable: bool) -> dict[str, NDArray[Any]]:
    """The columns of a table of texts.

    Args:
        name: prefix of the columns' names.
        searchable: add what `StringTable.find` needs.
    """
    encoded = [text.encode("utf-8") for text in texts]
    columns: dict[str, NDArray[Any]] = {
        name: np.frombuffer(b"".join(encoded), dtype=np.uint8),
        f"{name}-ends": np.cumsum([len(text) for text in encoded], dtype=np.uint64),
    }
    if searchable:
        checksums = np.fromiter(map(crc32, encoded), dtype=np.uint32, count=len(encoded))
        order = np.argsort(checksums, kind="stable").astype(np.uint32)
        columns |= {f"{name}-order": order, f"{name}-checksums": checksums[order]}
    return columns


class StringTable:
    """Reads what `string_columns` made.

    Raises:
        IndexFormatError: columns are missing or do not belong together.
    """

    def __init__(self, name: str, columns: Mapping[str, NDArray[Any]], size: int) -> None:
        try:
            self._blob, self._ends = columns[name], columns[f"{name}-ends"]
        except KeyError as error:
            raise IndexFormatError(f"the index lacks the column {error}", hint="restore it from a copy") from error
        self._order = columns.get(f"{name}-order")
        self._checksums = columns.get(f"{name}-checksums")
        if self._ends.shape != (size,) or (size and int(self._ends[-1]) != len(self._blob)):
            raise IndexFormatError(f"the column {name} does not fit the index", hint="restore it from a copy")

    def __getitem__(self, number: int) -> str:
        begin = int(self._ends[number - 1]) if number else 0
        try:
            return self._blob[begin : int(self._ends[number])].tobytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise IndexFormatError("a text of the index is damaged", hint="restore it from a copy") from error

    def find(self, text: str) -> int | None:
        """The number of a text, or None."""
        if self._order is None or self._checksums is None:
            return None
        checksum = crc32(text.encode("utf-8"))
        first, last = np.searchsorted(self._checksums, np.array([checksum, checksum + 1], dtype=np.uint64))
        for number in self._order[first:last]:
            if self[int(number)] == text:
                return int(number)
        return None
