"""The pictures that a picture was made from.

Every manifest lists its ingredients; an ingredient with a manifest of its own is an ancestor. The signer of a manifest
records what was wrong with each ingredient at that time, and goes on: the SDK reports such a file as trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from guardrails.domain.canonical import Json
from guardrails.provenance.codes import concerns_integrity, concerns_trust
from guardrails.provenance.shapes import items, members, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """One ingredient on the way back.

    Attributes:
        label: of its manifest; "" when it had none, so that its origin is unknown.
        relationship: "parentOf", "inputTo" or "componentOf".
        broken: integrity failures that the signer who used it recorded.
        doubts: trust failures that the signer who used it recorded.
    """

    label: str
    relationship: str
    broken: tuple[str, ...]
    doubts: tuple[str, ...]


def walk(active: str, manifests: Mapping[str, Json]) -> tuple[Ancestor, ...]:
    """Every ingredient reachable from the active manifest, nearest first; each manifest is entered once."""
    found: list[Ancestor] = []
    entered = {active}
    queue = [active]
    while queue:
        for ingredient in items(members(manifests.get(queue.pop(0))).get("ingredients")):
            ancestor = _read(members(ingredient))
            found.append(ancestor)
            if ancestor.label and ancestor.label not in entered:
                entered.add(ancestor.label)
                queue.append(ancestor.label)
    return tuple(found)


def unreferenced(active: str, manifests: Mapping[str, Json]) -> tuple[str, ...]:
    """Labels of manifests in the file that nothing refers to; a forged one can be there to cover up a failure."""
    reached = {active, *(ancestor.label for ancestor in walk(active, manifests))}
    return tuple(label for label in manifests if label not in reached)


def _read(ingredient: Mapping[str, Json]) -> Ancestor:
    results = members(ingredient.get("validation_results"))
    deltas = [members(members(delta).get("validationDeltas")) for delta in items(results.get("ingredientDeltas"))]
    # Claims of version 2 keep their findings in the results, claims of version 1 in the status list.
    own = [
        *_codes(members(results.get("activeManifest")).get("failure")),
        *_codes(ingredient.get("validation_status")),
    ]
    deeper = [code for delta in deltas for code in _codes(delta.get("failure"))]
    return Ancestor(
        label=text(ingredient.get("active_manifest")),
        relationship=text(ingredient.get("relationship")),
        broken=tuple(dict.fromkeys(code for code in own + deeper if concerns_integrity(code))),
        doubts=tuple(dict.fromkeys(code for code in own if concerns_trust(code))),
    )


def _codes(entries: Json) -> Iterator[str]:
    return (text(members(entry).get("code")) for entry in items(entries))
