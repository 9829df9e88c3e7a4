"""How long private parts are kept: per jurisdiction, from data files, as a floor and a ceiling.

A profile is the `retention:` part of a file in `policies/jurisdictions`. Where several apply, the longest floor holds,
then the shortest ceiling, and a ceiling never undercuts a floor. Entries, which hold no personal data, stay for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from guardrails.errors import LedgerError, PolicyError
from guardrails.ledger.log import Ledger
from guardrails.policy.fields import Fields
from guardrails.policy.jurisdictions import read_jurisdiction, review_day

# An erasure names its records; more than this would make a leaf of many kilobytes.
_LARGEST_ERASURE = 256
_MOST_DAYS = 36_525


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What one jurisdiction, or several together, ask for.

    Attributes:
        name: the profile's id, or several joined by "+".
        keep_days: private parts younger than this may not be erased; 0 for no floor.
        erase_days: private parts older than this must be erased.
        review_by: the day after which nobody has checked that this is still the law.
    """

    name: str
    keep_days: int
    erase_days: int
    review_by: date

    def join(self, other: Retention) -> Retention:
        """What both ask for."""
        keep_days = max(self.keep_days, other.keep_days)
        return Retention(
            name=f"{self.name}+{other.name}",
            keep_days=keep_days,
            erase_days=max(keep_days, min(self.erase_days, other.erase_days)),
            review_by=min(self.review_by, other.review_by),
        )

    def check_current(self, today: date) -> None:
        """Refuse to act on what may no longer be the law.

        Raises:
            PolicyError: the day of review has passed.
        """
        if today > self.review_by:
            raise PolicyError(
                f"the retention profile {self.name} was to be reviewed by {self.review_by}",
                hint="compare it with the law of today, then move `review_by` in a copy of the file and name that file",
            )


def load_retention(names: Sequence[str | Path]) -> Retention:
    """The profiles of these jurisdictions together.

    Args:
        names: ids of files in `policies/jurisdictions`, or paths of files of one's own; at least one.

    Raises:
        PolicyError: no profile of that name, or one that does not load.
    """
    first, *others = [_load(name) for name in names]
    for other in others:
        first = first.join(other)
    return first


def sweep(ledger: Ledger, retention: Retention, now: datetime, *, dry_run: bool = False) -> list[str]:
    """Erase the private part of every record that is older than the ceiling.

    Args:
        now: aware; the clock that ages are taken by.
        dry_run: only tell which records are due, the oldest first.

    Returns:
        The ids of the records.

    Raises:
        PolicyError: the profile's day of review has passed.
    """
    retention.check_current(now.date())
    before, erased = _days_ago(retention.erase_days, now), []
    if dry_run:
        return ledger.due(before, 1 << 31)
    while due := ledger.due(before, _LARGEST_ERASURE):
        ledger.erase(due, ground=f"retention {retention.name}: {retention.erase_days} days")
        erased += due
    return erased


def check_erasable(created_at: str, retention: Retention, now: datetime) -> None:
    """Refuse the erasure of a record that must still be kept.

    Raises:
        LedgerError: it is younger than the floor.
    """
    if created_at > _days_ago(retention.keep_days, now):
        raise LedgerError(
            f"a record of {created_at[:10]} must be kept for {retention.keep_days} days ({retention.name})",
            hint="wait, or leave out the jurisdiction if its rule does not apply to this record",
        )


def _days_ago(days: int, now: datetime) -> str:
    """In the form of `Record.created_at`, so that texts compare as times do."""
    moment = now.astimezone(UTC) - timedelta(days=days)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _load(name: str | Path) -> Retention:
    # The rest of the file is for others to read.
    top = read_jurisdiction(name)
    fields = Fields(top.need("retention"))
    fields.text("source")
    fields.need("erase_days")
    retention = Retention(
        name=top.text("id"),
        keep_days=fields.number("keep_days", 0, low=0, high=_MOST_DAYS),
        erase_days=fields.number("erase_days", 0, low=1, high=_MOST_DAYS),
        review_by=review_day(top),
    )
    fields.finish()
    if retention.erase_days < retention.keep_days:
        top.need("retention").fail("`erase_days` is shorter than `keep_days`", hint="raise `erase_days`")
    return retention
