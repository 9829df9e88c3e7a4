"""The explorer: drop a picture, see which works it is near, whose they are, where they agree. The file is not kept."""

from __future__ import annotations

import base64
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from guardrails.domain.images import MatchState
from guardrails.domain.rights import Permission, terms_of
from guardrails.errors import GuardrailsError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.imaging.thumbnails import shrunk
from guardrails.screens.scanning import shown_as
from guardrails.similarity.exploring import Explored, Neighbour
from guardrails.similarity.keypoint_index import Box, Located
from guardrails.similarity.verification import TILES, Agreement
from service.access.persons import Session
from service.api.context import Context, context_of
from service.pages.site import PageError, page, signed_in, upload_of

router = APIRouter(prefix="/explore")

_Session = signed_in("auditor")
Name = Annotated[str, Query(max_length=2000)]

# Of the pictures on which a part is framed, in pixels.
_SIDE = 480

LIMITS = (
    "Agreement of pixels is evidence for a review, not a legal finding of copying. What is not found here may well"
    " exist elsewhere."
)
# What the surest neighbour means, and how it is coloured.
_VERDICTS = {
    MatchState.STRICT: ("Repeats a known work", "bad"),
    MatchState.CONFIRMED: ("Repeats a known work", "bad"),
    MatchState.REVIEW: ("Much like a known work", "unsure"),
    MatchState.CANDIDATE: ("Near by hash, no more", "unsure"),
}
_TONES = {state: tone for state, (_, tone) in _VERDICTS.items()} | {MatchState.CANDIDATE: ""}
_PERMISSIONS = {
    Permission.PROHIBITED: "opted out",
    Permission.CONSTRAINED: "under conditions",
    Permission.ALLOWED: "allowed by its owner",
    Permission.UNKNOWN: "nothing known, which is no permission",
}


@router.get("")
async def show(request: Request, session: Session = _Session) -> Response:
    return page(request, "explore.html", session=session, title="Explorer", report=None, limits=LIMITS)


@router.post("")
async def explore(request: Request, session: Session = _Session, context: Context = Depends(context_of)) -> Response:
    """The page with the neighbours; for our script, the neighbours alone."""
    _, data = await upload_of(request, session, context, "file")
    if not data:
        raise PageError(400, "Choose a picture first.")
    try:
        report = await run_in_threadpool(_explored, context, session, data)
    except GuardrailsError as error:
        raise PageError(error.http_status, f"{error.message[:1].upper()}{error.message[1:]}.") from error
    template = "explore_report.html" if request.headers.get("x-fragment") == "1" else "explore.html"
    return page(request, template, session=session, title="Explorer", report=report, limits=LIMITS)


@router.get("/thumbnail")
def thumbnail(
    index: Name, entry: Name, session: Session = _Session, context: Context = Depends(context_of)
) -> Response:
    """The small picture of a work."""
    webp = context.explorer().thumbnail(index, entry)
    if webp is None:
        raise PageError(404, "There is no picture of this work.")
    return Response(webp, media_type="image/webp", headers={"cache-control": "private, max-age=600"})


def _explored(context: Context, session: Session, data: bytes) -> dict[str, Any]:
    decoded = decode(data)
    person = f"person:{session.person.id}"
    listed = context.hash_lists.look(*shown_as(decoded).values())
    if listed is not None and listed.finding is not None:
        context.audit.note(person, "explore.listed", str(listed.finding.evidence["list"]))
        raise PageError(
            403, "This picture is on a list of pictures that nobody may hold. Nothing of it is shown or kept."
        )
    explored = context.explorer().look(decoded.pixels, decoded.alpha)
    context.audit.note(person, "explore", "", {"neighbours": explored.total})
    return _told(context, explored, decoded.pixels)


def _told(context: Context, explored: Explored, pixels: Pixels) -> dict[str, Any]:
    """The answer in words and places."""
    picture = _small(pixels)
    if explored.unhashable:
        name, tone = "Too plain to be searched", "unsure"
    elif explored.level is None:
        name, tone = "None found", "unsure"
    elif explored.neighbours[0].distance is None and not explored.level.confirms:
        name, tone = "Seems to show a part of a work", "unsure"
    else:
        name, tone = _VERDICTS[explored.level]
    return {
        "name": name,
        "tone": tone,
        "explanation": _explanation(explored),
        "searched": explored.searched,
        "neighbours": [_shown(context, neighbour, picture) for neighbour in explored.neighbours],
        "total": explored.total,
    }


def _explanation(explored: Explored) -> str:
    if explored.unhashable:
        return "The picture has too little detail for any hash. That is not the same as none found."
    works = sum({searched.index: searched.entries for searched in explored.searched}.values())
    if explored.level is None:
        return f"None of {works:,} works is within the threshold."
    near = f"{explored.total} of {works:,} works {'is' if explored.total == 1 else 'are'} within the threshold."
    if explored.level.confirms:
        return f"{near} The surest is borne out by pixels or by several hashes."
    return f"{near} A hash alone, or a few keypoints, accuse nobody: have somebody look."


def _shown(context: Context, neighbour: Neighbour, picture: str) -> dict[str, Any]:
    rights = neighbour.rights
    return {
        "neighbour": neighbour,
        "tone": _TONES[neighbour.level],
        "has_thumbnail": context.explorer().thumbnail(neighbour.index, neighbour.id) is not None,
        "address": rights.licence_url if rights.licence_url.startswith(("https://", "http://")) else "",
        "terms": terms_of(rights.licence).value,
        "permission": _PERMISSIONS[rights.permission],
        "part": None if neighbour.part is None else _part(neighbour.part, neighbour.work, picture),
        "tiles": None if neighbour.agreement is None else _tiles(neighbour.agreement),
    }


def _part(part: Located, work: Pixels | None, picture: str) -> dict[str, Any]:
    """Where keypoints found a work, as boxes on both pictures in hundredths of their sides."""
    return {
        "keypoints": part.agreeing,
        "orientation": part.placement.orientation.name,
        "picture": picture,
        "work": None if work is None else _small(work),
        "box": _inside(part.box),
        "shown": _inside(part.shown),
    }


def _inside(box: Box) -> dict[str, float]:
    left, top, right, bottom = (100 * min(max(edge, 0.0), 1.0) for edge in box)
    return {"left": left, "top": top, "width": right - left, "height": bottom - top}


def _small(pixels: Pixels) -> str:
    return _inline(shrunk(pixels, _SIDE))


def _tiles(agreement: Agreement) -> dict[str, Any]:
    """What was compared: both pictures as they were laid over each other, and what each tile says."""
    counts = agreement.counts
    cells = [
        {"row": row, "column": column, "says": _says(agreement, row, column)}
        for row, column in np.argwhere(agreement.counted).tolist()
    ]
    said = [cell["says"] for cell in cells]
    return {
        "cells": cells,
        "side": TILES,
        "counted": counts.counted,
        "counts": {name: said.count(name) for name in ("agrees", "recoloured", "differs", "uncovered")},
        "hypothesis": agreement.hypothesis,
        "tone": agreement.tone or "other colours",
        "picture": _inline(agreement.picture),
        "work": _inline(agreement.reference),
    }


def _says(agreement: Agreement, row: int, column: int) -> str:
    if agreement.agreeing[row, column]:
        return "agrees"
    if agreement.structure[row, column]:
        return "recoloured"
    return "differs" if agreement.covered[row, column] else "uncovered"


def _inline(pixels: Pixels) -> str:
    return base64.b64encode(encode(pixels, ImageFormat.WEBP, quality=80)).decode()
