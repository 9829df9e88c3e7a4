"""The radius search on PostgreSQL (14 or later), for those who keep everything there. Needs the extra `postgresql`.

Distances come from `bit_count(a # b)` over all rows: exact, and linear in the rows. pgvector is not needed: its
approximate index (`bit_hamming_ops`) misses about a fifth of the entries within a radius of near-duplicates, which a
search that must not miss cannot use; its operator `<~>` gives the same distances and is slower.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from guardrails.errors import IndexFormatError, OptionError, StorageError
from guardrails.similarity.answers import Answer, Found, RadiusIndex, check_entry, duplicate, unknown
from guardrails.similarity.fingerprints import Region
from guardrails.similarity.hashes import HASH_BYTES
from guardrails.similarity.parts import NewEntry, State
from guardrails.similarity.pointer import Pointer

if TYPE_CHECKING:
    from psycopg import Connection

_CREATE = """
CREATE TABLE IF NOT EXISTS {meta} (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE IF NOT EXISTS {entries} (
    id text PRIMARY KEY COLLATE "C",
    state text NOT NULL DEFAULT 'active',
    reason text NOT NULL DEFAULT '',
    facts jsonb NOT NULL
);
CREATE TABLE IF NOT EXISTS {rows} (
    entry text NOT NULL COLLATE "C" REFERENCES {entries},
    region smallint NOT NULL,
    code bit({bits}) NOT NULL
);
"""
_SEARCH = """
WITH asked AS (
    SELECT query, code::bit({bits}) AS code FROM unnest(%(queries)s::int[], %(codes)s::text[]) AS t(query, code)
),
near AS (
    SELECT DISTINCT ON (r.entry) r.entry, r.region, a.query, bit_count(r.code # a.code) AS distance
    FROM {rows} r CROSS JOIN asked a JOIN {entries} e ON e.id = r.entry
    WHERE bit_count(r.code # a.code) <= coalesce((%(radii)s::jsonb ->> r.region::text)::int, %(radius)s)
      AND e.state <> 'disabled'
    ORDER BY r.entry, distance, a.query, r.region
)
SELECT n.entry, n.distance, n.region, n.query, e.state, e.facts, count(*) OVER () AS total
FROM near n JOIN {entries} e ON e.id = n.entry
ORDER BY n.distance, n.entry LIMIT %(limit)s
"""


class PostgresIndex(RadiusIndex):
    """One schema of a database; each call is one transaction.

    Args:
        dsn: for example "postgresql://user@host/database".
        algorithm: of the codes; made so when the schema is empty.
        schema: one for each index.

    Raises:
        OptionError: the hash is not known.
        IndexFormatError: the schema holds codes of another hash or of other procedures.
        StorageError: the database cannot be reached.
    """

    def __init__(self, dsn: str, algorithm: str, schema: str = "similarity") -> None:
        if algorithm not in HASH_BYTES:
            raise OptionError(f"{algorithm!r} is no known hash", hint=f"use one of {', '.join(sorted(HASH_BYTES))}")
        self._dsn = dsn
        self._algorithm = algorithm
        self._schema = schema
        with self._connected() as connection:
            # "IF NOT EXISTS" alone fails where two make the same at once.
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"similarity {schema}"])
            connection.execute(self._sql("CREATE SCHEMA IF NOT EXISTS {schema}"))
            connection.execute(self._sql(_CREATE))
            made_by = json.dumps({"hash": algorithm, **Pointer(algorithm, (), "").procedures}, sort_keys=True)
            connection.execute(self._sql("INSERT INTO {meta} VALUES ('made_by', %s) ON CONFLICT DO NOTHING"), [made_by])
            found = connection.execute(self._sql("SELECT value FROM {meta} WHERE name = 'made_by'")).fetchone()
        if found is None or found[0] != made_by:
            raise IndexFormatError(f"the schema {schema} was hashed by other procedures: {found}", hint="use another")

    @property
    def algorithm(self) -> str:
        """The hash of all codes."""
        return self._algorithm

    def _search(self, codes: NDArray[np.uint8], radius: int, region_radii: Mapping[Region, int], limit: int) -> Answer:
        radii = {str(int(region)): min(own, radius) for region, own in region_radii.items()}
        values = {
            "queries": list(range(len(codes))),
            "codes": [_bits(code.tobytes()) for code in codes],
            "radii": json.dumps(radii),
            "radius": radius,
            "limit": limit,
        }
        with self._connected() as connection:
            rows = connection.execute(self._sql(_SEARCH), values).fetchall()
            counted = connection.execute(self._sql("SELECT count(*) FROM {entries} WHERE state <> 'disabled'"))
            searched = (counted.fetchone() or (0,))[0]
        found = tuple(
            Found(id=name, distance=distance, region=Region(region), query=query, state=State(state), facts=facts)
            for name, distance, region, query, state, facts, _ in rows
        )
        return Answer(found=found, total=rows[0][-1] if rows else 0, searched=searched, radius=radius)

    def add(self, entries: Iterable[NewEntry]) -> int:
        """See `answers.RadiusIndex.add`."""
        from psycopg.errors import UniqueViolation

        added = list(entries)
        seen: set[str] = set()
        for entry in added:
            check_entry(entry, self._algorithm)
            if entry.id in seen:
                raise duplicate(entry.id)
            seen.add(entry.id)
        with self._connected() as connection, connection.cursor() as cursor:
            try:
                with cursor.copy(self._sql("COPY {entries} (id, facts) FROM STDIN")) as copy:
                    for entry in added:
                        copy.write_row((entry.id, json.dumps(dict(entry.facts))))
            except UniqueViolation as error:
                raise duplicate(str(error.diag.message_detail)) from error
            with cursor.copy(self._sql("COPY {rows} (entry, region, code) FROM STDIN")) as copy:
                for entry in added:
                    for region, code in entry.rows:
                        copy.write_row((entry.id, int(region), _bits(code)))
        return len(added)

    def set_state(self, entry_id: str, state: State, reason: str = "") -> None:
        """See `answers.RadiusIndex.set_state`."""
        with self._connected() as connection:
            changed = connection.execute(
                self._sql("UPDATE {entries} SET state = %s, reason = %s WHERE id = %s"), [state.value, reason, entry_id]
            )
            if not changed.rowcount:
                raise unknown(entry_id)

    @contextmanager
    def _connected(self) -> Iterator[Connection[Any]]:
        import psycopg

        try:
            with psycopg.connect(self._dsn) as connection:
                yield connection
        except psycopg.Error as error:
            raise StorageError(f"PostgreSQL: {error}", hint="check the server and the address") from error

    def _sql(self, text: str) -> Any:
        from psycopg import sql

        names = {name: sql.Identifier(self._schema, name) for name in ("meta", "entries", "rows")}
        bits = sql.Literal(HASH_BYTES[self._algorithm] * 8)
        return sql.SQL(text).format(schema=sql.Identifier(self._schema), bits=bits, **names)


def _bits(code: bytes) -> str:
    return f"{int.from_bytes(code, 'big'):0{len(code) * 8}b}"
