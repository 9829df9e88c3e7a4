"""The unmodified openai package for Node against a real server; `make test-node` installs it."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from PIL import Image

from guardrails.testing.doubles import draw_shapes
from service.testing import Running

FOLDER = Path(__file__).resolve().parents[2] / "node"
SCRIPT = FOLDER / "openai.test.mjs"
NAMES = re.findall(r'^test\("([^"]+)"', SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
# The first version whose test runner writes JUnit reports.
_OLDEST_NODE = 20


def _missing() -> str:
    node = shutil.which("node")
    if node is None:
        return "there is no node on this machine"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < _OLDEST_NODE:
        return f"node {version} is older than {_OLDEST_NODE}"
    if not (FOLDER / "node_modules" / "openai").is_dir():
        return "the openai package for node is not installed: run `make test-node`"
    return ""


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each test of the script: "" when it passed, else why not."""
    missing = _missing()
    if missing:
        if os.environ.get("GUARDRAILS_NODE_TESTS") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    service: Running = request.getfixturevalue("service")
    picture = io.BytesIO()
    Image.fromarray(draw_shapes(1)).save(picture, "PNG")
    environment = {
        "PATH": os.environ["PATH"],
        "GUARDRAILS_URL": f"{service.url}/v1",
        "GUARDRAILS_KEY": service.key,
        "GUARDRAILS_PICTURE": base64.b64encode(picture.getvalue()).decode(),
    }
    report = tmp_path_factory.mktemp("node") / "report.xml"
    command = ["node", "--test", "--test-reporter=junit", f"--test-reporter-destination={report}", str(SCRIPT)]
    done = subprocess.run(
        command, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert report.exists(), done.stdout + done.stderr
    cases = list(xml.parse(report).getroot().iter("testcase"))
    assert cases, done.stdout + done.stderr
    # Whatever stands inside a case, a failure or a skip, means that it did not pass.
    return {case.attrib["name"]: "".join(xml.tostring(one, "unicode") for one in case) for case in cases}


@pytest.mark.parametrize("name", NAMES)
def test_openai_for_node(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == ""


def test_nothing_is_left_out(outcomes: dict[str, str]) -> None:
    assert len(NAMES) >= 10
    assert set(outcomes) == set(NAMES)
