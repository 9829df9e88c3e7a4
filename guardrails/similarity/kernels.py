"""The inner loops of the index, compiled by numba; `vectorised` has the same functions for where numba is missing.

Importing this module imports numba (about a second). Compiled code is cached on disk beside this file, or in the user's
cache folder where that cannot be written. All functions release the GIL.
"""

# numba is not looked into by mypy.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

OVER_BUDGET, DAMAGED = -1, -2
_CHUNK = 1024
_U64 = np.uint64
_WORD = 64


@intrinsic
def _popcount(context: Any, word: Any) -> Any:
    """Set bits of a 64-bit word, by the processor's own instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def _prefetch(context: Any, array: Any, index: Any) -> Any:
    """Ask for a cache line before it is needed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from numba.core import cgutils

        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = cgutils.get_item_pointer(
            context,
            builder,
            signature.args[0],
            made,
            [arguments[1]] + [ir.Constant(ir.IntType(64), 0)] * (array.ndim - 1),
        )
        byte = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        flags = [ir.Constant(number, value) for value in (0, 3, 1)]
        builder.call(function, [builder.bitcast(pointer, byte), *flags])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@njit(cache=True, nogil=True, inline="always")
def _slot_value(codes: Any, row: int, start: int, width: int) -> Any:
    word, shift = start // _WORD, start % _WORD
    value = codes[row, word] >> _U64(shift)
    if shift + width > _WORD:
        value |= codes[row, word + 1] << _U64(_WORD - shift)
    return value & ((_U64(1) << _U64(width)) - _U64(1))


@njit(cache=True, nogil=True, inline="always")
def _distance(codes: Any, row: Any, query: Any) -> Any:
    if query.shape[0] == 4:
        return (
            _popcount(codes[row, 0] ^ query[0])
            + _popcount(codes[row, 1] ^ query[1])
            + _popcount(codes[row, 2] ^ query[2])
            + _popcount(codes[row, 3] ^ query[3])
        )
    total = _U64(0)
    for word in range(query.shape[0]):
        total += _popcount(codes[row, word] ^ query[word])
    return total


@njit(cache=True, nogil=True)
def fill_slot(codes: Any, start: int, width: int, offsets: Any, ids: Any) -> None:
    """Counting sort of all rows by one slot's value: bucket k is `ids[offsets[k]:offsets[k + 1]]`, rows ascending.

    Args:
        codes: uint64 (n, words).
        offsets: uint32 (2**width + 1,), zeros; filled.
        ids: uint32 (n,); filled.
    """
    rows = codes.shape[0]
    for row in range(rows):
        offsets[_slot_value(codes, row, start, width) + _U64(1)] += 1
    for bucket in range(1, offsets.shape[0]):
        offsets[bucket] += offsets[bucket - 1]
    # Writing backwards from each bucket's end leaves `offsets` one bucket off, which is put right by walking on.
    cursor = offsets[:-1].copy()
    for row in range(rows):
        bucket = _slot_value(codes, row, start, width)
        ids[cursor[bucket]] = row
        cursor[bucket] += 1


@njit(cache=True, nogil=True)
def probe(
    codes: Any,
    offsets: Any,
    begins: Any,
    ids: Any,
    masks: Any,
    mask_begins: Any,
    starts: Any,
    widths: Any,
    reaches: Any,
    query: Any,
    radius: int,
    budget: int,
    found: Any,
    distances: Any,
) -> int:
    """Look a query up in all slots.

    Args:
        offsets: uint32, the tables of all slots side by side; slot j begins at `begins[j]`.
        ids: uint32 (slots, n).
        budget: candidates to compare at most.
        found, distances: uint32 and uint16; the first rows within the radius are written there.

    Returns:
        How many rows are within the radius, also when `found` holds fewer; -1 when the budget does not suffice;
        -2 when the tables name rows that do not exist.
    """
    rows = codes.shape[0]
    count = 0
    spent = 0
    first = np.empty(_CHUNK, np.uint32)
    last = np.empty(_CHUNK, np.uint32)
    pending = np.empty(_CHUNK, np.uint32)
    single = query.reshape(1, query.shape[0])
    for slot in range(starts.shape[0]):
        key = np.uint32(_slot_value(single, 0, starts[slot], widths[slot]))
        table, members = begins[slot], ids[slot]
        for block in range(mask_begins[slot], mask_begins[slot + 1], _CHUNK):
            # Loads that wait for nothing but memory go side by side: first all bucket ends, then all candidates.
            size = min(_CHUNK, mask_begins[slot + 1] - block)
            for number in range(size):
                bucket = table + np.int64(key ^ masks[block + number])
                first[number] = offsets[bucket]
                last[number] = offsets[bucket + 1]
            waiting = 0
            for number in range(size):
                if first[number] > last[number] or last[number] > rows:
                    return DAMAGED
                spent += last[number] - first[number]
                if spent > budget:
                    return OVER_BUDGET
                for position in range(first[number], last[number]):
                    row = members[position]
                    if row >= rows:
                        return DAMAGED
                    pending[waiting] = row
                    _prefetch(codes, np.int64(row))
                    waiting += 1
                    if waiting == _CHUNK:
                        count = _keep(
                            codes,
                            pending,
                            waiting,
                            query,
                            radius,
                            slot,
                            starts,
                            widths,
                            reaches,
                            count,
                            found,
                            distances,
                        )
                        waiting = 0
            count = _keep(
                codes, pending, waiting, query, radius, slot, starts, widths, reaches, count, found, distances
            )
    return count


@njit(cache=True, nogil=True)
def _keep(
    codes: Any,
    pending: Any,
    waiting: int,
    query: Any,
    radius: int,
    slot: int,
    starts: Any,
    widths: Any,
    reaches: Any,
    count: int,
    found: Any,
    distances: Any,
) -> int:
    for number in range(waiting):
        row = np.int64(pending[number])
        distance = _distance(codes, row, query)
        if distance <= radius and not _seen_before(codes, row, query, slot, starts, widths, reaches):
            if count < found.shape[0]:
                found[count] = row
                distances[count] = distance
            count += 1
    return count


@njit(cache=True, nogil=True)
def _seen_before(codes: Any, row: int, query: Any, slot: int, starts: Any, widths: Any, reaches: Any) -> bool:
    """True when an earlier slot has led to this row, so that no list of visited rows is needed."""
    single = query.reshape(1, query.shape[0])
    for earlier in range(slot):
        mine = _slot_value(codes, row, starts[earlier], widths[earlier])
        asked = _slot_value(single, 0, starts[earlier], widths[earlier])
        if np.int64(_popcount(mine ^ asked)) <= reaches[earlier]:
            return True
    return False


@njit(cache=True, nogil=True)
def scan(codes: Any, query: Any, radius: int, found: Any, distances: Any) -> int:
    """Compare a query with every row; arguments and result as for `probe`."""
    count = 0
    for row in range(codes.shape[0]):
        distance = _distance(codes, row, query)
        if distance <= radius:
            if count < found.shape[0]:
                found[count] = row
                distances[count] = distance
            count += 1
    return count
