"""Taking manifests into the repository: what is kept is what was verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guardrails import home as homes
from guardrails.audit.keeping import Keeper
from guardrails.pipeline import Guard, Sealed
from guardrails.provenance import TrustStore, Verifier
from guardrails.provenance.repository import Repository


def test_a_file_that_is_replaced_after_it_was_verified_is_not_what_is_kept(
    guard: Guard, home: Path, tmp_path: Path
) -> None:
    first, second = (guard.generate("a red apple", seed=seed) for seed in (1, 2))
    assert isinstance(first, Sealed)
    assert isinstance(second, Sealed)
    path = tmp_path / "given.png"
    path.write_bytes(first.data)
    verifier = Verifier(TrustStore.dev(homes.keys_folder(home)))

    class Slow:
        def verify(self, data: bytes) -> Any:
            verdict = verifier.verify(data)
            path.write_bytes(second.data)
            return verdict

    with Repository(homes.manifests_folder(home)) as repository:
        expected = repository.by_manifest(first.id.urn)
        kept = Keeper(repository, Slow()).keep(path)  # type: ignore[arg-type]
        found = repository.by_manifest(first.id.urn)
    assert (kept.kept, kept.manifest_id) == (True, first.id.urn)
    assert expected is not None
    assert found is not None
    assert found.container == expected.container
