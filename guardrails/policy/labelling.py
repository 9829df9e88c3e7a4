"""Which visible labels a picture must carry: by where it is asked for, and by who wants one besides."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from guardrails.domain.labels import LabelProfile
from guardrails.errors import OptionError
from guardrails.policy.fields import Fields
from guardrails.policy.jurisdictions import read_jurisdiction, shipped_jurisdictions
from guardrails.policy.places import check_place, country_of

TC260 = "tc260"
"""The JSON of GB 45438-2025, annex E, in XMP."""

_FILE_LABELS = ("none", TC260)


@functools.cache
def label_profiles() -> dict[str, LabelProfile]:
    """The shipped profiles by id.

    Raises:
        PolicyError: a file does not load.
    """
    return {name: _profile(read_jurisdiction(name)) for name in shipped_jurisdictions()}


def wanted_labels(jurisdiction: str, asked: Iterable[str] = ()) -> tuple[LabelProfile, ...]:
    """The profiles whose labels a picture gets, in alphabetical order.

    What a jurisdiction requires is always among them; who asks can only add. A jurisdiction that is not known requires
    none: a label is drawn for a place, never for all of them.

    Args:
        jurisdiction: ISO 3166 code of a country ("US") or of a part of one ("US-CA"), or "" when not known.
        asked: ids of profiles.

    Raises:
        OptionError: one of them is no profile, or the jurisdiction is no such code.
    """
    check_place(jurisdiction)
    country = country_of(jurisdiction)
    profiles = label_profiles()
    names = set(asked)
    unknown = sorted(names - profiles.keys())
    if unknown:
        raise OptionError(f"there is no label {unknown[0]!r}", hint=f"known: {', '.join(profiles)}")
    return tuple(
        profile
        for profile in profiles.values()
        if profile.id in names or (profile.required and country in profile.countries)
    )


def _profile(top: Fields) -> LabelProfile:
    # The rest of the file is for others to read.
    fields = Fields(top.need("label"))
    fields.text("source")
    fields.need("height_percent")
    file_label = fields.choice("file_label", _FILE_LABELS, default="none")
    profile = LabelProfile(
        id=top.text("id"),
        countries=top.texts("countries"),
        required=fields.flag("required"),
        generated=fields.text("generated"),
        edited=fields.text("edited"),
        height_percent=fields.number("height_percent", 0, low=1, high=20),
        file_label="" if file_label == "none" else file_label,
        as_of=top.day("as_of"),
    )
    fields.finish()
    return profile
