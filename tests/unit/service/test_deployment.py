"""The files for operators name what exists, and grant no more than is needed."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings

FOLDER = Path(__file__).resolve().parents[3] / "service" / "deploy"


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


def test_every_variable_is_a_setting(compose: Any) -> None:
    names = {name for one in compose["services"].values() for name in one.get("environment", {})}
    settings = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert {name for name in names if name.startswith(PREFIX)} <= settings


def test_every_secret_and_volume_is_declared(compose: Any) -> None:
    for one in compose["services"].values():
        for secret in one.get("secrets", ()):
            assert (secret if isinstance(secret, str) else secret["source"]) in compose["secrets"]
        for volume in one.get("volumes", ()):
            assert volume.partition(":")[0] in compose["volumes"]


def test_the_signer_alone_is_given_the_key_and_has_no_network(compose: Any) -> None:
    services = compose["services"]
    holders = [name for name, one in services.items() if "key" in str(one.get("secrets", ()))]
    assert holders == ["signer"]
    assert services["signer"]["network_mode"] == "none"
    for name in ("signer", "worker", "api"):
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]


def test_the_container_does_not_run_as_root() -> None:
    lines = (FOLDER / "Containerfile").read_text(encoding="utf-8").splitlines()
    assert "USER guardrails" in lines
    assert 'ENTRYPOINT ["guardrails", "serve"]' in lines


@pytest.mark.parametrize("unit", sorted(FOLDER.glob("*.service")), ids=lambda path: path.name)
def test_units_run_a_role_with_few_rights(unit: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    service = parser["Service"]
    assert service["ExecStart"].split()[-2:-1] == ["--role"]
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["User"] == "guardrails"
    reads_the_key = "LoadCredential" in service
    assert reads_the_key is (unit.name == "guardrails-signer.service")
    assert ("PrivateNetwork" in service) is reads_the_key


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("unit", sorted(FOLDER.glob("*.service")), ids=lambda path: path.name)
def test_systemd_understands_every_line_of_a_unit(unit: Path, tmp_path: Path) -> None:
    for other in FOLDER.glob("*.service"):
        # The program is not where it will be; everything else is as shipped.
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", other.read_text(encoding="utf-8"), flags=re.M)
        (tmp_path / other.name).write_text(text, encoding="utf-8")
    name = unit.name.replace("@.", "@0.")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.replace("\n", "")) == (0, "")


def test_the_signer_without_a_network_sends_no_traces(compose: Any) -> None:
    assert compose["services"]["signer"]["environment"]["OTEL_SDK_DISABLED"] == "true"
    unit = (FOLDER / "guardrails-signer.service").read_text(encoding="utf-8")
    assert "Environment=OTEL_SDK_DISABLED=true" in unit
