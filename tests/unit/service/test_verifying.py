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
from guardrails.provenance import Signer, TrustStore, Verifier, create_dev_chain
from guardrails.provenance.certificates import KEY_FOLDER, ROOT_FILE
from guardrails.testing.doubles import draw_shapes
from service.api.context import Context
from service.api.provenance import examine
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
    trust = TrustStore.dev(own)
    sealed = guard_in(home, signer=Signer.dev(own), verifier=Verifier(trust)).generate("a red apple", seed=1)
    assert isinstance(sealed, Sealed)
    anchors = str(own / KEY_FOLDER / ROOT_FILE)
    context = Context.open(Settings(home=home, signing_chain="chain.pem", signing_anchors=anchors))
    assert verdict(context, sealed.data) == "confirmed"
