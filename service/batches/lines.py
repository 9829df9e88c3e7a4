"""The lines of an input file: JSON objects in OpenAI's shape, checked as a whole before the first one is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

GENERATIONS, MODERATIONS = "/v1/images/generations", "/v1/moderations"
ENDPOINTS = (GENERATIONS, MODERATIONS)
# Further ones would say the same.
_MOST_ERRORS = 100


class BatchLine(BaseModel):
    """One request; `body` is checked when its turn comes."""

    model_config = ConfigDict(extra="forbid")

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a line lies in its file: number from 1, and bytes."""

    number: int
    start: int
    length: int


class InvalidFile(Exception):
    """The file as a whole cannot be run; `errors` as a batch shows them."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


def check_file(path: Path, endpoint: str, most: int) -> list[Place]:
    """The places of all lines that are not blank.

    Raises:
        InvalidFile: a line is no request to `endpoint`, two have one `custom_id`, or there are none or too many.
    """
    places: list[Place] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    for place, written in _lines(path):
        places.append(place)
        if len(places) > most:
            raise InvalidFile([_error("too_many_requests", f"a batch has at most {most} requests", None, None)])
        problem = _problem(written, endpoint, seen)
        if problem is not None:
            errors.append({**problem, "line": place.number})
            if len(errors) == _MOST_ERRORS:
                break
    if not places:
        errors.append(_error("empty_file", "the input file holds no request", None, None))
    if errors:
        raise InvalidFile(errors)
    return places


def read_line(path: Path, start: int, length: int) -> BatchLine:
    """A line that `check_file` has passed."""
    with path.open("rb") as file:
        file.seek(start)
        return BatchLine.model_validate(json.loads(file.read(length)))


def _lines(path: Path) -> Iterator[tuple[Place, bytes]]:
    with path.open("rb") as file:
        start = 0
        for number, written in enumerate(file, start=1):
            if written.strip():
                yield Place(number=number, start=start, length=len(written)), written
            start += len(written)


def _problem(written: bytes, endpoint: str, seen: set[str]) -> dict[str, Any] | None:
    try:
        line = BatchLine.model_validate(json.loads(written))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _error("invalid_request", f"{where or 'line'}: {first['msg']}", where or None, None)
    except (ValueError, RecursionError):
        return _error("invalid_json_line", "this line is no JSON", None, None)
    if line.url != endpoint:
        return _error("mismatched_url", f"the url must be the batch's endpoint, {endpoint}", "url", None)
    if line.custom_id in seen:
        return _error("duplicate_custom_id", "this custom_id stands in an earlier line", "custom_id", None)
    seen.add(line.custom_id)
    return None


def _error(code: str, message: str, param: str | None, line: int | None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": line}
