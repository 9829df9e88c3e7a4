"""Receipts and the public log: whoever holds one can check later that nothing was changed or removed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel

from guardrails.ledger import Ledger
from service.api.auth import needs
from service.api.context import Caller, Context, context_of
from service.api.errors import NO_RETRY, ApiError, documented

# A sequencer merges several times within this second.
_SOON = {"Retry-After": "1"}

router = APIRouter(prefix="/v1", tags=["log"])


class ReceiptObject(BaseModel):
    """That a record is in the log."""

    object: str = "receipt"
    record_id: str
    index: int
    leaf_hash: str
    kind: str
    image_sha256: str
    checkpoint: str
    tlog_proof: str


@router.get("/receipts/{gen_uid}", responses=documented(404))
def get_receipt(
    gen_uid: Annotated[str, Path(pattern=r"^(urn:c2pa:)?[0-9a-f-]{36}$")],
    caller: Caller = needs("verify"),
    context: Context = Depends(context_of),
) -> ReceiptObject:
    """The proof for one record, by its id or by the id of its manifest."""
    ledger = _ledger(context)
    record_id = gen_uid.removeprefix("urn:c2pa:")
    logged = ledger.find_by_id(record_id)
    if logged is None:
        if ledger.holds(record_id):
            raise ApiError(404, "not_found", "the record waits for its place in the log", headers=_SOON)
        raise _absent("there is no such record", "gen_uid")
    proof = ledger.prove(logged.index)
    return ReceiptObject(
        record_id=logged.record.id,
        index=logged.index,
        leaf_hash=proof.leaf_hash.hex(),
        kind=logged.record.kind.value,
        image_sha256=logged.record.image_sha256,
        checkpoint=ledger.checkpoint(),
        tlog_proof=ledger.tlog_proof(logged.index),
    )


_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}}}


@router.get("/log/checkpoint", response_class=Response, responses=_TEXT | documented(404))
def get_checkpoint(context: Context = Depends(context_of)) -> Response:
    """The newest checkpoint (C2SP signed note). Public: the more people keep it, the more it proves."""
    return Response(_ledger(context).checkpoint(), media_type="text/plain")


@router.get("/log/proof", response_class=Response, responses=_TEXT | documented(404))
def get_proof(
    index: Annotated[int, Query(ge=0, le=2**53 - 1)],
    caller: Caller = needs("verify"),
    context: Context = Depends(context_of),
) -> Response:
    """The inclusion proof of one leaf (C2SP tlog-proof)."""
    ledger = _ledger(context)
    if index >= len(ledger):
        raise _absent("the log has no such leaf", "index")
    return Response(ledger.tlog_proof(index), media_type="text/plain")


def _ledger(context: Context) -> Ledger:
    ledger = context.ledger()
    if ledger is None:
        raise _absent("nothing has been recorded yet", None)
    return ledger


def _absent(message: str, param: str | None) -> ApiError:
    return ApiError(404, "not_found", message, param=param, headers=NO_RETRY)
