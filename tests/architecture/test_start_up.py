"""Cheap paths stay cheap: what importing a part and running a command loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

# Seconds of start-up each, or hundreds of megabytes.
BANNED = frozenset(
    {
        "accelerate",
        "diffusers",
        "fastapi",
        "imwatermark",
        "onnx",
        "onnxruntime",
        "open_clip",
        "pandas",
        "psycopg",
        "pydantic",
        "ray",
        "scipy",
        "tokenizers",
        "torch",
        "torchvision",
        "transformers",
    }
)

_IMPORT = """
import importlib, json, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(json.dumps(sorted(set(sys.modules) - before)))
"""

_COMMAND = """
import json, sys
before = set(sys.modules)
from guardrails.cli.main import main
status = main(sys.argv[1:])
print("\\n" + json.dumps([status, sorted(set(sys.modules) - before)]))
"""

RunPython = Callable[..., str]


def _banned(modules: list[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules} & BANNED


# The ceilings leave about a quarter of room above what was counted; the interpreter's own modules are not counted.
@pytest.mark.parametrize(
    ("module", "ceiling"),
    [
        ("guardrails", 5),
        ("guardrails.policy", 75),
        ("guardrails.prompts", 108),
        ("guardrails.cli.policy", 110),
        ("guardrails.cli.verify", 110),
        ("guardrails.audit", 430),
    ],
)
def test_importing_loads_nothing_heavy(run_python: RunPython, module: str, ceiling: int) -> None:
    loaded = json.loads(run_python(_IMPORT, module))
    assert not _banned(loaded)
    assert len(loaded) <= ceiling, f"{module} loads {len(loaded)} modules"


def _run_command(run_python: RunPython, *words: object) -> tuple[int, Any, list[str]]:
    """The command's status, its JSON document, and the modules it loaded."""
    document, _, last = run_python(_COMMAND, *words).strip().rpartition("\n")
    status, modules = json.loads(last)
    return status, json.loads(document), modules


def test_checking_a_policy_loads_nothing_heavy(run_python: RunPython) -> None:
    status, report, modules = _run_command(run_python, "policy", "check", "--json")
    assert (status, report["ok"]) == (0, True)
    assert not _banned(modules)
    # Not even pixels are needed to judge words.
    assert not {"numpy", "cv2", "PIL", "c2pa"} & set(modules)
    assert len(modules) <= 160, f"{len(modules)} modules"


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A home with keys and a ledger, so that verifying goes all the way."""
    from guardrails import home as homes
    from guardrails.ledger import Ledger
    from guardrails.provenance import create_dev_chain
    from guardrails.watermark.keys import Keyring

    home = tmp_path / "home"
    create_dev_chain(homes.keys_folder(home), now=datetime.now(UTC))
    Keyring.load_or_create(homes.keys_folder(home))
    Ledger.open(homes.ledger_folder(home)).close()
    return home


def test_verifying_a_file_loads_nothing_heavy(run_python: RunPython, checkout: Path, installation: Path) -> None:
    picture = checkout / "tests" / "unit" / "watermark" / "marked-by-release-1.jpg"
    status, (report,), modules = _run_command(
        run_python, "verify", picture, "--mode", "deep", "--home", installation, "--json"
    )
    # Another installation's mark: every layer was asked, none answered.
    assert (status, report["verdict"], report["problem"]) == (4, "not_found", "")
    assert (report["mark"]["verdict"], report["ledger"]["status"]) == ("not_detected", "no_record")
    assert not _banned(modules)
    assert len(modules) <= 480, f"{len(modules)} modules"


def test_the_ban_would_be_noticed(run_python: RunPython) -> None:
    """Control: the same measurement does see a heavy module."""
    assert _banned(json.loads(run_python(_IMPORT, "scipy"))) == {"scipy"}
