"""`guardrails verify --rubric`: how manifests are formed, by the conformance programme's rubric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrails.cli.output import print_facts, print_heading, print_json
from guardrails.cli.status import NOT_CONFIRMED

if TYPE_CHECKING:
    from guardrails.provenance import Verifier


def check_files(paths: list[Path], verifier: Verifier, *, as_json: bool) -> int:
    """Judge and show each file; 0 when each meets every statement."""
    results = [_judge(path, verifier) for path in paths]
    if as_json:
        print_json(results)
    else:
        for result in results:
            _show(result)
    return 0 if all(result["passed"] for result in results) else NOT_CONFIRMED


def _judge(path: Path, verifier: Verifier) -> dict[str, Any]:
    from guardrails.imaging.decoding import read_image_bytes

    statements = verifier.conformance(read_image_bytes(path))
    return {
        "source": str(path),
        "passed": bool(statements) and all(statement.passed for statement in statements),
        "met": sum(statement.passed for statement in statements),
        "statements": statements,
    }


def _show(result: dict[str, Any]) -> None:
    statements = result["statements"]
    if not statements:
        print_heading("NO MANIFEST", result["source"], style="yellow", explanation="There is nothing to judge.")
        return
    warnings = sum(statement.warns and not statement.passed for statement in statements)
    word, style = ("CHECK PASSED", "green") if result["passed"] else ("CHECK FAILED", "red")
    score = f"{result['met']} of {len(statements)} statements, {warnings or 'no'} warning{'s' * (warnings != 1)}"
    print_heading(word, result["source"], style=style, explanation=f"Asset conformance 0.2 for C2PA 2.4: {score}.")
    failed = [statement for statement in statements if not statement.passed]
    print_facts((statement.id, ", ".join(statement.found)) for statement in failed)
