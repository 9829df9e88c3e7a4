"""Where a picture is asked for: ISO 3166 codes of countries ("US") and of parts of them ("US-CA")."""

from __future__ import annotations

import re

from guardrails.errors import OptionError

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

    A part of a country lies in it; of a country that is named alone it may be any part; a place that is not known may
    be every place.
    """
    return not place or jurisdiction in (place, country_of(place)) or country_of(jurisdiction) == place
