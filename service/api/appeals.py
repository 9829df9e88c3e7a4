"""`/v1/appeals`: a thread between whoever was refused and the reviewers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from guardrails.errors import OptionError
from service.api.auth import needs
from service.api.context import Caller, Context, context_of
from service.api.errors import NO_RETRY, ApiError, documented
from service.review import LONGEST_TEXT
from service.stores import Row

router = APIRouter(prefix="/v1/appeals", tags=["appeals"])

AppealId = Annotated[str, Path(pattern=r"^apl_[0-9a-f]{24}$")]
# A database that keeps text cannot keep the character zero.
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT, pattern=r"^[^\x00]*\S[^\x00]*$")]


class AppealRequest(BaseModel):
    """Why a refusal was wrong."""

    decision_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$", description="From the refusal.")]
    text: Text


class MessageRequest(BaseModel):
    """One more message."""

    text: Text


class Message(BaseModel):
    """One message of the thread; `author` is "tenant" or "reviewer"."""

    author: str
    text: str
    created_at: int


class Appeal(BaseModel):
    """An appeal and its thread."""

    id: str
    object: str = "appeal"
    decision_id: str
    status: str
    created_at: int
    deadline: int
    messages: list[Message]


@router.post("", status_code=201, responses=documented(404))
def open_appeal(
    body: AppealRequest, caller: Caller = needs("generate"), context: Context = Depends(context_of)
) -> Appeal:
    """Appeal against a decision; a second appeal goes on with the first one's thread."""
    try:
        return _shown(context.appeals.open(body.decision_id, caller.tenant.id, body.text))
    except OptionError as error:
        raise _absent(error, "decision_id") from error


@router.get("/{appeal_id}", responses=documented(404))
def get_appeal(
    appeal_id: AppealId, caller: Caller = needs("generate"), context: Context = Depends(context_of)
) -> Appeal:
    """One appeal."""
    try:
        return _shown(context.appeals.get(appeal_id, caller.tenant.id))
    except OptionError as error:
        raise _absent(error, "appeal_id") from error


@router.post("/{appeal_id}/messages", responses=documented(404))
def reply(
    appeal_id: AppealId,
    body: MessageRequest,
    caller: Caller = needs("generate"),
    context: Context = Depends(context_of),
) -> Appeal:
    """Add to the thread; a closed appeal is open again."""
    tenant = caller.tenant.id
    try:
        return _shown(context.appeals.reply(appeal_id, f"tenant:{tenant}", body.text, tenant=tenant))
    except OptionError as error:
        raise _absent(error, "appeal_id") from error


def _shown(row: Row) -> Appeal:
    messages = [
        Message(
            author="reviewer" if message["author"].startswith("person:") else "tenant",
            text=message["text"],
            created_at=int(message["at"]),
        )
        for message in row["messages"]
    ]
    return Appeal(
        id=row["id"],
        decision_id=row["decision"],
        status=row["status"],
        created_at=int(row["created_at"]),
        deadline=int(row["deadline"]),
        messages=messages,
    )


def _absent(error: OptionError, param: str) -> ApiError:
    return ApiError(404, "not_found", error.message, param=param, headers=NO_RETRY)
