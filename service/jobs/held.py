"""What waits for people: the review of a held job, and a job of its own for each held picture of several."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service.jobs.model import Job, Status
from service.jobs.outcomes import LISTED, is_held
from service.stores import Transaction


def queue_review(
    transaction: Transaction, job: Job, blocked: Sequence[Mapping[str, Any]], *, listed: bool = False
) -> None:
    """One review for a held job, its prompt or its picture; or for a hit on a hash list, which tells neither."""
    first = blocked[0]
    transaction.run(
        "INSERT INTO reviews (id, tenant, job, image, created_at, status, stage, findings, evidence, prompt,"
        " claimed_by, claimed_until, decided_at) VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, '', 0, NULL)"
        " ON CONFLICT DO NOTHING",
        first["decision_id"],
        job.tenant,
        job.id,
        job.ids[first["index"] or 0],
        time.time(),
        LISTED if listed else first["step"],
        json.dumps(blocked),
        first["evidence"],
        "" if listed else job.request["prompt"],
    )


def set_aside(job: Job, result: Mapping[str, Any]) -> list[Job]:
    """A job of its own for each picture that is held, so that people decide on each by itself.

    What it starts from is not there before `link_inputs`.
    """
    aside = []
    for entry in result["blocked"]:
        if entry["index"] is None or not is_held([entry]):
            continue
        number = entry["index"]
        id = f"job_{uuid.uuid5(uuid.UUID(job.ids[number]), 'review').hex}"
        # Known to whoever asked for all of them.
        entry["job_id"] = id
        seed = job.request.get("seed")
        request = {
            **job.request,
            "seed": None if seed is None else seed + number,
            "count": 1,
            **_own_inputs(job, id),
        }
        blocked = [{**entry, "index": 0}]
        now = time.time()
        aside.append(
            dataclasses.replace(
                job,
                id=id,
                ids=(job.ids[number],),
                request=request,
                status=Status.HELD,
                result={"images": [], "blocked": blocked, "error": None},
                created_at=now,
                finished_at=now,
                worker="",
                # It is the repetition of no request.
                idempotency_key=None,
                body_sha256="",
            )
        )
    return aside


def link_inputs(job: Job, aside: Job, uploads: Path) -> None:
    """Give a job that was set aside the pictures that it starts from."""
    for name, own in zip(job.request.get("inputs", ()), aside.request.get("inputs", ()), strict=True):
        with contextlib.suppress(FileExistsError):
            os.link(uploads / name, uploads / own)


def _own_inputs(job: Job, id: str) -> dict[str, Any]:
    """The pictures that an edit starts from, under names of this job's own: each job removes its own at its end."""
    if "inputs" not in job.request:
        return {}
    return {"inputs": [f"{id}-{number}.bin" for number, _ in enumerate(job.request["inputs"])]}
