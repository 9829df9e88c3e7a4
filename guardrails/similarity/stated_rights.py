"""What the facts of an index's entry say about rights, as `domain.rights.Rights`."""

from __future__ import annotations

from collections.abc import Mapping

from guardrails.domain.rights import RESERVED, Rights

# As collections name them; the first that is there counts.
_LICENCE = ("licence", "license", "licence_spdx")
_LICENCE_URL = ("licence_url", "license_url")
_CREATOR = ("creator", "author", "artist")
_SOURCE = ("source", "package", "url")
_RESERVATION = ("reservation", "opt_out")


def stated_rights(facts: Mapping[str, str]) -> Rights:
    """Whose a work is.

    Whatever a fact called "reservation" or "opt_out" holds is an objection, so that none is overlooked; one called
    "rights" is only where it says "opt-out", because collections call their copyright notices so.
    """
    reserved = bool(_first(facts, _RESERVATION)) or facts.get("rights") == RESERVED
    return Rights(
        licence=_first(facts, _LICENCE),
        licence_url=_first(facts, _LICENCE_URL),
        creator=_first(facts, _CREATOR),
        source=_first(facts, _SOURCE),
        reservation=RESERVED if reserved else "",
        credit=facts.get("credit", ""),
        dataset=facts.get("dataset", ""),
    )


def _first(facts: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((facts[name] for name in names if facts.get(name)), "")
