"""A job: one request for pictures, from its arrival to the release of the last picture."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guardrails.domain.requests import PromptRequest
from service.stores import Row


class Status(enum.Enum):
    """Where a job stands. HELD waits for reviewers; QUARANTINED took its worker with it too often."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"

    @property
    def is_over(self) -> bool:
        """Nothing more will happen; a held job can still be released by its reviewers."""
        return self not in (Status.QUEUED, Status.RUNNING)


class Stage(enum.StrEnum):
    """How far a job, or one of its pictures, has come. Each arrival is durable before the next step begins."""

    RECEIVED = "received"
    CLAIMED = "claimed"
    SCREENED = "screened"
    GENERATED = "generated"
    CHECKED = "checked"
    MARKED = "marked"
    SELF_VERIFIED = "self_verified"
    RECORDED = "recorded"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of the table.

    Attributes:
        kind: "generation" or "edit".
        request: what was asked for, checked; see `service.api.requests`.
        ids: of its pictures (UUID text), chosen on arrival: a second try can tell what the first one recorded.
        policy: name of the pack that decides.
        result: {"images": [...], "blocked": [...], "error": {...} or null} once it is over.
        attempts: how often a worker has claimed it.
        cancelled: the client asked to stop; the worker stops at the next step.
        body_sha256: of the client's request, by which a repetition is recognised.
        form: jobs of equal form can be drawn in one call of the model, see `form_of`; "" is drawn by itself.
        trace: W3C traceparent of the request that it came with; "" when nothing is traced.
    """

    id: str
    tenant: str
    api_key: str
    kind: str
    request: Mapping[str, Any]
    ids: tuple[str, ...]
    policy: str
    created_at: float
    status: Status = Status.QUEUED
    stage: str = Stage.RECEIVED
    updated_at: float = 0.0
    finished_at: float | None = None
    result: Mapping[str, Any] | None = None
    attempts: int = 0
    worker: str = ""
    lease_until: float = 0.0
    cancelled: bool = False
    idempotency_key: str | None = None
    body_sha256: str = ""
    request_id: str = ""
    form: str = ""
    trace: str = ""

    @property
    def quarantine_id(self) -> str:
        """Of the record of its refusal, once it is quarantined."""
        return str(uuid.uuid5(uuid.UUID(self.ids[0]), "quarantine"))

    @classmethod
    def from_row(cls, row: Row) -> Job:
        return cls(
            **{
                **row,
                "request": json.loads(row["request"]),
                "ids": tuple(json.loads(row["ids"])),
                "status": Status(row["status"]),
                "result": None if row["result"] is None else json.loads(row["result"]),
                "cancelled": bool(row["cancelled"]),
            }
        )

    def to_row(self) -> Row:
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "request": json.dumps(self.request),
            "ids": json.dumps(self.ids),
            "status": self.status.value,
            "stage": str(self.stage),
            "result": None if self.result is None else json.dumps(self.result),
            "cancelled": int(self.cancelled),
        }


def form_of(kind: str, request: Mapping[str, Any]) -> str:
    """What a job has in common with those that can be drawn in one call with it; "" for an edit."""
    return "" if kind == "edit" else prompt_request(request).form


def prompt_request(request: Mapping[str, Any], numbers: Sequence[int] = (0,)) -> PromptRequest:
    """What the guard is asked for: these pictures of a job's request; each has its own seed."""
    names = {field.name for field in dataclasses.fields(PromptRequest)}
    values = {name: value for name, value in request.items() if name in names}
    if values.get("seed") is not None:
        values["seed"] += numbers[0]
    return PromptRequest(**{**values, "count": len(numbers), "labels": tuple(request.get("labels", ()))})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that happened to a job; `seq` counts from 1 and is what Last-Event-ID names."""

    seq: int
    at: float
    type: str
    data: Mapping[str, Any] = field(default_factory=dict)
