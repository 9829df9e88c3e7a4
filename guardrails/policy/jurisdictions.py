"""The files of `policies/jurisdictions`: what the law of one place asks for, each part read by whom it concerns."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from guardrails.errors import PolicyError
from guardrails.policy.fields import Fields
from guardrails.policy.yamlio import read_yaml
from guardrails.resources import policies_path


def shipped_jurisdictions() -> dict[str, Path]:
    """The shipped files by id, in alphabetical order."""
    return {file.stem: file for file in sorted(policies_path("jurisdictions").glob("*.yaml"))}


def read_jurisdiction(name: str | Path) -> Fields:
    """The top of one file; whoever reads a part asks for it by name.

    Args:
        name: id of a shipped file, or path of a `.yaml` file of one's own.

    Raises:
        PolicyError: there is none of that name, or it does not parse.
    """
    path = Path(name)
    if path.suffix != ".yaml":
        known = shipped_jurisdictions()
        if str(name) not in known:
            raise PolicyError(f"no jurisdiction {str(name)!r}", hint=f"known: {', '.join(known)}, or a .yaml file")
        path = known[str(name)]
    return Fields(read_yaml(path))


def review_day(top: Fields) -> date:
    """The day after which nobody has checked that the file is still the law.

    Raises:
        PolicyError: it is missing or no date.
    """
    day = top.day("review_by")
    return date.fromisoformat(day) if day else top.need("review_by").fail("expected a date", hint="as 2027-02-01")
