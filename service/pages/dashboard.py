"""What happens: volumes, reasons, latency, false positives as reviews show them, and whether every detector ran."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from guardrails.domain.calibration import clopper_pearson_upper
from service.access.persons import Session
from service.api.context import Context, context_of
from service.pages import charts
from service.pages.site import page, signed_in
from service.stores import Row

router = APIRouter(prefix="/dashboard")

_Session = signed_in("auditor")
_HOURS = 24
_LEAVES = 200


@router.get("")
def show(request: Request, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    since = time.time() - _HOURS * 3600
    rows = context.database.all("SELECT * FROM decisions WHERE at >= ? ORDER BY at", since)
    milliseconds = sorted(row["milliseconds"] for row in rows if row["kind"] == "generation")
    reviews, appeals = context.reviews.statistics(), context.appeals.statistics()
    return page(
        request,
        "dashboard.html",
        session=session,
        title="Dashboard",
        released=sum(row["kind"] == "generation" for row in rows),
        refused=sum(row["kind"] == "refusal" for row in rows),
        faults=sum(bool(row["fault"]) for row in rows),
        jobs=context.table.counts(),
        volumes=_volumes(rows, since),
        reasons=_reasons(rows),
        latency=_latency(milliseconds),
        overturned=_overturned(reviews["overturned"], appeals["overturned"]),
        health=_health(context),
        parts={"signer": context.signer.is_alive(), "database": True, "accepting": not context.draining},
    )


def _volumes(rows: Sequence[Row], since: float) -> Any:
    hours = [since + number * 3600 for number in range(_HOURS)]
    counted = {kind: [0.0] * _HOURS for kind in ("released", "refused")}
    for row in rows:
        hour = min(_HOURS - 1, int((row["at"] - since) // 3600))
        counted["released" if row["kind"] == "generation" else "refused"][hour] += 1
    labels = [datetime.fromtimestamp(hour + 3600, UTC).strftime("%H:00") for hour in hours]
    return charts.columns("Pictures released and refused by hour, last day", labels, list(counted.items()))


def _reasons(rows: Sequence[Row]) -> Any:
    counts = Counter(
        name
        for row in rows
        if row["kind"] == "refusal"
        for name in (row["categories"].split(",") if row["categories"] else [row["fault"] or "unknown"])
    )
    return charts.bars("Refusals by category", counts.most_common(10)) if counts else None


def _latency(milliseconds: Sequence[float]) -> Any:
    if not milliseconds:
        return None
    shares = (0.5, 0.9, 0.95, 0.99, 1.0)
    rows = [
        ("slowest" if share == 1 else f"{share:.0%} within", round(milliseconds[int((len(milliseconds) - 1) * share)]))
        for share in shares
    ]
    return charts.bars(f"Time to finish a request, {len(milliseconds)} pictures", rows, " ms")


def _overturned(reviews: Mapping[str, Any], appeals: Mapping[str, Any]) -> Any:
    """The share of decisions of each rule that people found wrong, with its upper bound."""
    decided: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for rule, counts in reviews.items():
        decided[rule] += counts["decided"]
        wrong[rule] += counts["released"]
    for rule, counts in appeals.items():
        decided[rule] += counts["answered"]
        wrong[rule] += counts["overturned"]
    rows = [
        (f"{rule} (n={n})", wrong[rule] / n, clopper_pearson_upper(wrong[rule], n))
        for rule, n in sorted(decided.items())
        if n
    ]
    return charts.intervals("Share of decisions that people overturned", rows) if rows else None


def _health(context: Context) -> list[dict[str, Any]]:
    """How each detector fared in the newest records."""
    ledger = context.ledger()
    counts: dict[str, Counter[str]] = {}
    if ledger is not None:
        size = len(ledger)
        for index in range(max(0, size - _LEAVES), size):
            logged = ledger.find_by_index(index)
            for check in () if logged is None else logged.record.facts.get("checks", ()):
                counts.setdefault(check["component"]["name"], Counter())[check["status"]] += 1
    return [
        {"name": name, "ran": c["ran"], "missing": c["unavailable"], "failed": c["failed"]}
        for name, c in counts.items()
    ]
