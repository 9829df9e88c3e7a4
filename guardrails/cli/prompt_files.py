"""Files of prompts: JSON Lines with a `text` or `prompt`, or one prompt a line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guardrails.errors import InputError


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, in order.

    Raises:
        InputError: the file cannot be read or a line holds no prompt; names the line.
    """
    if path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return [_prompt_of(path, number, row) for number, row in enumerate(read_json_lines(path), start=1)]
    return [line for line in _text(path).splitlines() if line.strip()]


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, plain or gzip-compressed.

    Raises:
        InputError: the file cannot be read or a line is no JSON object; names the line.
    """
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: this is not JSON", hint="write one JSON object a line") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: this is not a JSON object", hint="write one JSON object a line")
        yield row


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}", hint="give a UTF-8 text file") from error


def _prompt_of(path: Path, number: int, row: dict[str, Any]) -> str:
    prompt = row.get("prompt", row.get("text"))
    if not isinstance(prompt, str):
        raise InputError(f"{path}:{number}: there is no `text` and no `prompt`", hint="add one of the two")
    return prompt
