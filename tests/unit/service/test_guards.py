from pathlib import Path
from typing import Any

import pytest

from guardrails import home as homes
from guardrails.domain.records import Record
from guardrails.ledger import Ledger
from guardrails.pipeline.stages import Sealed
from guardrails.policy import default_policy
from guardrails.provenance import Signer, TrustStore, Verifier
from guardrails.provenance.repository import Repository
from guardrails.testing.doubles import ShapeGenerator, passing_screens
from service.jobs.guards import installed


def test_a_workers_guards_look_for_the_persons_who_are_enrolled_in_its_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | None] = []

    def screens(*, gallery: Path | None = None) -> Any:
        asked.append(gallery)
        return passing_screens()

    monkeypatch.setattr("guardrails.screens.default_screens", screens)
    monkeypatch.setattr("guardrails.cli.generate.load", lambda *_, **__: ShapeGenerator())
    keys = homes.keys_folder(tmp_path)
    with Ledger.open(homes.ledger_folder(tmp_path)) as ledger:
        guard = installed(
            home=tmp_path,
            model="",
            device="cpu",
            batch_size=1,
            signer=Signer.dev(keys),
            verifier=Verifier(TrustStore.dev(keys)),
            ledger=ledger,
            manifests=Repository(homes.manifests_folder(tmp_path)),
        )(default_policy())
        outcome = guard.generate("a red ball", seed=1)
        assert isinstance(outcome, Sealed)
        assert isinstance(ledger.record(str(outcome.id)), Record)
    assert asked == [homes.faces_folder(tmp_path)]
