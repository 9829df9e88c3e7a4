"""What the service says of files that come back to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guardrails import home as homes
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.ledger import Ledger
from guardrails.pipeline import Guard, Sealed
from guardrails.provenance import Signer, Verifier, create_dev_chain
from guardrails.provenance.certificates import KEY_FOLDER, ROOT_FILE
from guardrails.provenance.timestamps import TimeStampAuthority, create_authority_keys
from guardrails.testing.doubles import draw_shapes
from service.api.context import Context
from service.api.provenance import examine
from service.jobs.signer import operators_trust
from service.settings import Settings


def verdict(context: Context, data: bytes) -> Any:
    return examine(context, data, "standard")["guardrails"]["verdict"]


def test_a_question_before_the_first_picture_does_not_blind_the_service(
    tmp_path: Path, guard_in: Callable[..., Guard]
) -> None:
    """An installation has a ledger as soon as it starts, and its watermark key with its first picture."""
    context = Context.open(Settings(home=tmp_path))
    Ledger.open(homes.ledger_folder(tmp_path))
    assert verdict(context, encode(draw_shapes(1), ImageFormat.PNG)) == "not_found"
    sealed = guard_in(tmp_path).generate("a red apple", seed=1)
    assert isinstance(sealed, Sealed)
    assert verdict(context, sealed.data) == "confirmed"


def test_what_is_signed_with_the_operators_key_is_trusted_by_the_operators_anchors(
    home: Path, tmp_path: Path, guard_in: Callable[..., Guard]
) -> None:
    own = tmp_path / "own"
    create_dev_chain(own, now=datetime.now(UTC))
    create_authority_keys(homes.keys_folder(home), now=datetime.now(UTC))
    anchors = str(own / KEY_FOLDER / ROOT_FILE)
    settings = Settings(home=home, signing_chain="chain.pem", signing_anchors=anchors)
    signer = Signer.dev(own).stamped_by(TimeStampAuthority.open(homes.keys_folder(home)))
    verifier = Verifier(operators_trust(settings))
    sealed = guard_in(home, signer=signer, verifier=verifier).generate("a red apple", seed=1)
    assert isinstance(sealed, Sealed)
    assert sealed.manifest.time_stamped
    evidence = examine(Context.open(settings), sealed.data, "standard")["guardrails"]
    assert (evidence["verdict"], evidence["c2pa"]["time_stamped"]) == ("confirmed", True)
