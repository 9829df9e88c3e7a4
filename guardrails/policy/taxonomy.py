"""One table from our categories to those of others: OpenAI moderation, MLCommons AILuminate, OVERT and the DSA."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass

from guardrails.resources import policies_path

SCHEMES = ("openai", "mlcommons", "overt", "dsa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One of our categories.

    Attributes:
        openai: category names of the OpenAI moderation endpoint.
        mlcommons: hazard codes of AILuminate 1.0.
        overt: categories of the OVERT benchmark.
        dsa: statement categories of the DSA Transparency Database.
    """

    name: str
    description: str
    openai: tuple[str, ...]
    mlcommons: tuple[str, ...]
    overt: tuple[str, ...]
    dsa: tuple[str, ...]


@functools.cache
def load_taxonomy() -> Mapping[str, Category]:
    """The table `policies/taxonomy.csv`, by category. An empty cell means that a scheme has no such category."""
    with policies_path("taxonomy.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        row["category"]: Category(
            name=row["category"],
            description=row["description"],
            openai=_ids(row["openai"]),
            mlcommons=_ids(row["mlcommons"]),
            overt=_ids(row["overt"]),
            dsa=_ids(row["dsa"]),
        )
        for row in rows
    }


def _ids(cell: str) -> tuple[str, ...]:
    return tuple(filter(None, cell.split("|")))
