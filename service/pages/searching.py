"""The audit search: by id, by picture, by the prompt's digest, by rule, by day."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from guardrails import home as homes
from guardrails.domain.canonical import to_plain
from guardrails.errors import LedgerError
from service.access.persons import Session
from service.api.context import Context, context_of
from service.pages.recorded import kept
from service.pages.site import PageError, page, signed_in, upload_of
from service.stores import Row

router = APIRouter(prefix="/audit")

_Session = signed_in("auditor")
_MOST = 200
# The kind of search that is for what people did.
_ACTS = "act"
Field = Annotated[str, Query(max_length=2000)]


@router.get("")
def search(
    request: Request,
    id: Field = "",
    rule: Field = "",
    day: Field = "",
    kind: Field = "",
    session: Session = _Session,
    context: Context = Depends(context_of),
) -> Response:
    asked = {"id": id.strip(), "rule": rule.strip(), "day": day.strip(), "kind": kind.strip()}
    rows = [] if asked["kind"] == _ACTS else _found(context, asked) if any(asked.values()) else _newest(context)
    acts = _acts(context, asked) if asked["kind"] in ("", _ACTS) else []
    words = "" if any(asked.values()) else "The newest decisions and acts"
    return _results(request, session, context, rows, asked, words, acts)


@router.post("")
async def search_by_content(
    request: Request, session: Session = _Session, context: Context = Depends(context_of)
) -> Response:
    """By a picture, or by a prompt, which then stands in no address and no log."""
    fields, data = await upload_of(request, session, context, "picture")
    prompt = fields.get("prompt", "").strip()
    if prompt:
        mac = context.secrets.mac("prompt", prompt)
        query = "SELECT * FROM decisions WHERE prompt_mac = ? ORDER BY at DESC LIMIT ?"
        rows = await run_in_threadpool(context.database.all, query, mac, _MOST)
        return _results(request, session, context, rows, {}, "Decisions on this very prompt")
    if not data:
        raise PageError(400, "Give a picture or a prompt.")
    rows, words = await run_in_threadpool(_by_picture, context, data)
    return _results(request, session, context, rows, {}, words)


@router.get("/{id}")
def record(request: Request, id: str, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    """One record: what was decided, by which rule, with which scores, and its proof."""
    ledger = context.ledger()
    logged = None if ledger is None else ledger.find_by_id(id)
    if ledger is None or logged is None:
        raise PageError(404, "There is no such record.")
    try:
        proof, intact = ledger.verify_record(logged), True
    except LedgerError:
        proof, intact = None, False
    row = context.database.one("SELECT * FROM decisions WHERE id = ?", id)
    private = kept(ledger, id)
    return page(
        request,
        "record.html",
        session=session,
        title="Record",
        record=logged.record,
        index=logged.index,
        intact=intact,
        size=None if proof is None else proof.size,
        facts=to_plain(logged.record.facts),
        erased=not private,
        decision=row,
        evidence=_evidence(context, private),
        act=private.get("act"),
        reviews=context.database.all("SELECT * FROM review_events WHERE review = ? ORDER BY id", id),
    )


@router.get("/{id}/evidence")
def evidence(id: str, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    """The refused picture beside the work that it repeats."""
    path = _evidence(context, kept(context.ledger(), id))
    if path is None:
        raise PageError(404, "There is no picture of this decision.")
    context.audit.note(f"person:{session.person.id}", "evidence.view", id)
    return Response(path.read_bytes(), media_type="image/png", headers={"cache-control": "no-store"})


def _newest(context: Context) -> list[Row]:
    return context.database.all("SELECT * FROM decisions ORDER BY at DESC LIMIT 50")


def _found(context: Context, asked: dict[str, str]) -> list[Row]:
    conditions: list[str] = []
    values: list[object] = []
    if asked["id"]:
        bare = asked["id"].removeprefix("urn:c2pa:")
        conditions.append("(id = ? OR job = ? OR image_sha256 = ?)")
        values += [bare, bare, bare]
    if asked["rule"]:
        conditions.append("(',' || rules || ',') LIKE ?")
        values.append(f"%,{asked['rule']},%")
    if asked["kind"]:
        conditions.append("kind = ?")
        values.append(asked["kind"])
    if asked["day"]:
        conditions.append("at >= ? AND at < ?")
        values += _bounds(asked["day"])
    where = " AND ".join(conditions)
    return context.database.all(f"SELECT * FROM decisions WHERE {where} ORDER BY at DESC LIMIT ?", *values, _MOST)  # noqa: S608


def _acts(context: Context, asked: dict[str, str]) -> list[Row]:
    """What people did, the newest first; by the id of what they did it to, or of the act's own record."""
    conditions = ["1 = 1"]
    values: list[object] = []
    if asked["id"]:
        conditions.append("(subject = ? OR details LIKE ?)")
        values += [asked["id"], f'%"{asked["id"]}"%']
    if asked["rule"]:
        conditions.append("details LIKE ?")
        values.append(f'%"{asked["rule"]}"%')
    if asked["day"]:
        conditions.append("at >= ? AND at < ?")
        values += _bounds(asked["day"])
    where = " AND ".join(conditions)
    query = f"SELECT * FROM audit WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608 - own conditions
    rows = context.database.all(query, *values, _MOST if any(asked.values()) else 50)
    return [{**row, "record": json.loads(row["details"]).get("record", "")} for row in rows]


def _bounds(day: str) -> tuple[float, float]:
    try:
        parsed = date.fromisoformat(day)
    except ValueError as error:
        raise PageError(400, "Write the day as YYYY-MM-DD.") from error
    start = datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC).timestamp()
    return start, start + 86400


def _by_picture(context: Context, data: bytes) -> tuple[list[Row], str]:
    """The record of a picture, by its bytes or by the mark that it carries."""
    query = "SELECT * FROM decisions WHERE image_sha256 = ? OR id = ? ORDER BY at DESC LIMIT ?"
    report = context.auditor().verify(data, mode=context.settings.verify_depth)
    rows = context.database.all(query, hashlib.sha256(data).hexdigest(), report.ledger.record_id or "-", _MOST)
    return rows, f"{report.verdict.value.replace('_', ' ').capitalize()}: {report.explanation}"


def _results(
    request: Request,
    session: Session,
    context: Context,
    rows: list[Row],
    asked: dict[str, str],
    words: str,
    acts: Sequence[Row] = (),
) -> Response:
    shown = {"id": "", "rule": "", "day": "", "kind": ""} | asked
    return page(request, "audit.html", session=session, title="Audit", rows=rows, asked=shown, words=words, acts=acts)


def _evidence(context: Context, private: Mapping[str, Any]) -> Path | None:
    """The file that a refusal left for reviewers, inside the installation's own folder."""
    named = private.get("evidence_file", "")
    path = Path(named) if named else Path()
    folder = homes.evidence_folder(context.settings.home).resolve()
    return path if named and path.resolve().is_relative_to(folder) and path.is_file() else None
