"""Codes, rights and evidence as a Lance table: a folder or an object-store address that many machines read.

Needs the extra `distributed`. The table is for reading by others and for looking up rights; its own exact scan is the
independent check of the index, some hundred times slower.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import IndexFormatError
from guardrails.similarity.hashes import HASH_BYTES
from guardrails.similarity.parts import State
from guardrails.similarity.store import Store

_BATCH = 10_000


def write_table(store: Store, uri: str) -> int:
    """Write every row of an index with its entry's facts and state, in place of an older table.

    Args:
        uri: a folder ending in ".lance", or an address such as "s3://bucket/works.lance".

    Returns:
        The number of rows.
    """
    import lance
    import pyarrow

    schema = pyarrow.schema(
        [
            ("id", pyarrow.string()),
            ("region", pyarrow.uint8()),
            ("code", pyarrow.list_(pyarrow.uint8(), HASH_BYTES[store.algorithm])),
            ("state", pyarrow.string()),
            ("facts", pyarrow.string()),
        ],
        metadata={"hash": store.algorithm},
    )
    reader = pyarrow.RecordBatchReader.from_batches(schema, _batches(store, schema))
    return int(lance.write_dataset(reader, uri, schema=schema, mode="overwrite").count_rows())


def read_facts(uri: str, ids: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """The facts of some entries; those that are not there are absent.

    Raises:
        IndexFormatError: no such table.
    """
    quoted = ", ".join("'" + entry_id.replace("'", "''") + "'" for entry_id in ids)
    table = _open(uri).to_table(columns=["id", "facts"], filter=f"id IN ({quoted})") if ids else None
    return {} if table is None else {row["id"]: json.loads(row["facts"]) for row in table.to_pylist()}


def scan_table(uri: str, code: NDArray[np.uint8], radius: int) -> dict[str, int]:
    """Entries within `radius` (inclusive) of one code and their least distance, by Lance's own exact scan."""
    dataset = _open(uri)
    nearest = {
        "column": "code",
        "q": np.asarray(code, dtype=np.uint8),
        # It returns at most k rows, and its upper bound is exclusive.
        "k": max(1, dataset.count_rows()),
        "metric": "hamming",
        "distance_range": (0, radius + 1),
        "use_index": False,
    }
    least: dict[str, int] = {}
    for row in dataset.to_table(columns=["id", "state", "_distance"], nearest=nearest).to_pylist():
        if row["state"] != State.DISABLED.value:
            least[row["id"]] = min(int(row["_distance"]), least.get(row["id"], int(row["_distance"])))
    return least


def _batches(store: Store, schema: Any) -> Iterator[Any]:
    import pyarrow

    for part in store.parts:
        for begin in range(0, len(part.regions), _BATCH):
            rows = range(begin, min(begin + _BATCH, len(part.regions)))
            numbers = [int(part.entry[row]) for row in rows]
            codes = np.frombuffer(b"".join(part.code(row) for row in rows), np.uint8)
            yield pyarrow.record_batch(
                [
                    pyarrow.array([part.name(number) for number in numbers]),
                    pyarrow.array(np.asarray(part.regions[begin : begin + _BATCH])),
                    pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(codes), HASH_BYTES[store.algorithm]),
                    pyarrow.array([part.states.get(number, State.ACTIVE).value for number in numbers]),
                    pyarrow.array([json.dumps(dict(part.facts(number)), sort_keys=True) for number in numbers]),
                ],
                schema=schema,
            )


def _open(uri: str) -> Any:
    import lance

    try:
        return lance.dataset(uri)
    except (ValueError, OSError) as error:
        raise IndexFormatError(f"{uri} is no Lance table: {error}", hint="write it with `write_table`") from error
