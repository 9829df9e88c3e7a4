"""The wheel: what is in it, and that it works away from the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

_USE = """
import json, os
import guardrails
from guardrails import load_policy
from guardrails.prompts import run_policy_tests
from guardrails.resources import datasets_path, policies_path
report = run_policy_tests(load_policy("default"))
data = [policies_path("packs"), datasets_path("pocket", "model"), datasets_path("pocket", "index")]
print(json.dumps([report.ok, report.checked, [guardrails.__file__, *map(os.fspath, data)]]))
"""


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from what is installed here."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-P", "-m", "build", "--wheel", "--no-isolation", "--outdir", out, checkout],
        cwd=out,
        check=True,
        capture_output=True,
        timeout=200,
    )
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_two_packages_and_nothing_else(names: list[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    (information,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {"guardrails", "service", information}
    assert {f"{information}/licenses/LICENSE", f"{information}/licenses/NOTICE"} <= set(names)


def test_the_wheel_carries_every_data_file_of_the_checkout(names: list[str], checkout: Path) -> None:
    data = {
        path.relative_to(checkout).as_posix()
        for folder in ("policies", "datasets")
        for path in (checkout / folder).rglob("*")
        if path.is_file()
    }
    prefix = "guardrails/_bundled/"
    assert {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == data
    assert "guardrails/cli/templates/demo.html" in names


def test_an_installed_wheel_works_away_from_the_checkout(
    wheel: Path, tmp_path: Path, run_python: Callable[..., str]
) -> None:
    target = tmp_path / "site"
    # A pure wheel is installed by unpacking it (binary distribution format, "Installing a wheel").
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        assert b"Root-Is-Purelib: true" in archive.read(metadata)
        archive.extractall(target)
    ok, checked, paths = json.loads(run_python(_USE, folder=tmp_path, PYTHONPATH=str(target)))
    assert ok
    assert checked > 50
    assert all(Path(path).is_relative_to(target) for path in paths), paths
