"""Where a picture is asked for: ISO 3166 codes of countries ("US"), of parts of them ("US-CA") and of unions ("EU")."""

from __future__ import annotations

import functools
import re

from guardrails.errors import OptionError
from guardrails.policy.jurisdictions import read_jurisdiction, shipped_jurisdictions

_CODE = re.compile(r"([A-Z]{2}(-[A-Z0-9]{1,3})?)?")


def check_place(code: str) -> None:
    """Accept a code, or "" for a place that is not known.

    Raises:
        OptionError: it is neither.
    """
    if not _CODE.fullmatch(code):
        raise OptionError(f"{code!r} is no ISO 3166 code", hint="write it in capitals, as CN or US-CA")


def country_of(code: str) -> str:
    """The country of a place."""
    return code.partition("-")[0]


def may_lie_in(place: str, jurisdiction: str) -> bool:
    """Whether what is asked for in `place` may be asked for in `jurisdiction`.

    A part of a country lies in it, and a member in its union; of a country or union that is named alone it may be any
    part or member; a place that is not known may be every place.
    """
    country, theirs = country_of(place), country_of(jurisdiction)
    if not place or jurisdiction in (place, country) or theirs == place:
        return True
    return country in _members(jurisdiction) or theirs in _members(place)


@functools.cache
def _members(union: str) -> frozenset[str]:
    """The countries of a union that has a file in `policies/jurisdictions`; none of a country."""
    name = union.lower()
    if name not in shipped_jurisdictions():
        return frozenset()
    return frozenset(read_jurisdiction(name).texts("countries")) - {union}
