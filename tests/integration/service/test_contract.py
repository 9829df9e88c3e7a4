"""The service keeps its own OpenAPI document: every case that can be derived from it, and none ends in a fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request

import pytest

from service.testing import Running


@pytest.fixture(scope="module")
def document(service: Running) -> dict[str, object]:
    with urllib.request.urlopen(f"{service.url}/openapi.json") as answer:
        found: dict[str, object] = json.load(answer)
    return found


def test_every_operation_documents_its_errors_in_our_shape(document: dict[str, object]) -> None:
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()  # type: ignore[attr-defined]
        for method, operation in methods.items()
        if path.startswith("/v1")
    ]
    assert len(operations) >= 16
    for path, method, operation in operations:
        missing = {"400", "401", "403", "413", "429", "500"} - set(operation["responses"])
        assert not missing, (path, method, missing)
        assert "422" not in operation["responses"] or "/images/" in path, (path, method)


def check(service: Running, cases: int, *words: str) -> None:
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json",
        "--header", f"Authorization: Bearer {service.key}",
        "--max-examples", str(cases), "--seed", "20", "--exclude-path-regex", "^/(metrics|v1/jobs/.job_id./events)",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        "--no-color", "--request-timeout", "60", "--suppress-health-check", "all", *words,
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=3000, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_a_few_cases_of_every_operation(service: Running) -> None:
    check(service, 5, "--phases", "examples,coverage,fuzzing", "--exclude-path-regex", "^/v1/images|^/metrics|/events$")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_hundred_cases_of_every_operation(service: Running) -> None:
    check(service, 500, "--phases", "examples,coverage,fuzzing")
