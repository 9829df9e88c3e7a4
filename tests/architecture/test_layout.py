"""What the checkout holds and what it must not hold."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

_FIND_DATASETS = "import importlib.util; print(importlib.util.find_spec('datasets'))"


@pytest.fixture(scope="module")
def repository_files(checkout: Path) -> list[Path]:
    """What is tracked, or would be with the next commit."""
    if not (checkout / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=checkout,
        capture_output=True,
        check=True,
        timeout=60,
    )
    names = filter(None, done.stdout.decode().split("\0"))
    return [path for name in names if (path := checkout / name).is_file()]


@pytest.mark.parametrize("folder", ["policies", "datasets"])
def test_data_folders_hold_no_code(checkout: Path, folder: str) -> None:
    assert list((checkout / folder).rglob("*.py*")) == []


def test_test_folders_are_no_packages(checkout: Path) -> None:
    assert list((checkout / "tests").rglob("__init__.py")) == []


def test_our_datasets_folder_does_not_pass_for_another_library(run_python: Callable[..., str]) -> None:
    assert run_python(_FIND_DATASETS).strip() == "None"
    # Control: with the current folder on the path it would.
    assert "datasets" in run_python(_FIND_DATASETS, PYTHONSAFEPATH="")


# Put together from pieces, so that this file does not hold what it looks for.
_UNWANTED = {
    "a path of one machine": re.compile(
        r"(?<![\w.~$}/-])/(?:" + "|".join(["ho" + "me", "Us" + "ers", "ro" + "ot", "wo" + "rk", "mn" + "t"]) + r")/\w"
        r"|\b[A-Z]:\\" + "Us" + r"ers\\"
    ),
    "a registry host": re.compile(
        r"\b(?:" + "|".join([r"py" + r"pi\.org", r"python" + r"hosted\.org", r"npm" + r"js\.(?:org|com)"]) + r")\b"
        r"|index-" + r"url[= ]+http"
    ),
}


@pytest.mark.parametrize("what", _UNWANTED)
def test_no_text_names(repository_files: list[Path], checkout: Path, what: str) -> None:
    found = []
    for path in repository_files:
        data = path.read_bytes()
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
            if _UNWANTED[what].search(line):
                found.append(f"{path.relative_to(checkout)}:{number}: {line[:120]}")
    assert found == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of one machine", "see /ho" + "me/someone/notes"),
        ("a path of one machine", "open('/wo" + "rk/main/x')"),
        ("a path of one machine", "C:\\Us" + "ers\\someone"),
        ("a registry host", "https://files.python" + "hosted.org/x.whl"),
        ("a registry host", "--extra-index-" + "url=https://mirror.example"),
    ],
)
def test_what_is_looked_for_would_be_found(what: str, text: str) -> None:
    assert _UNWANTED[what].search(text)
