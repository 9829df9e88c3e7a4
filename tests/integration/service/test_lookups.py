"""Resolution of manifests and the time-stamp authority, where the settings switch them on."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from guardrails.errors import KeyMaterialError, TimeStampError
from guardrails.provenance.timestamps import TimeStampClient, create_authority_keys
from service.app import create_app
from service.settings import Settings
from service.testing import Running, start_service

PUBLIC_PER_MINUTE = 2


@pytest.fixture(scope="module")
def lookups(keyed_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that resolves for keys, and stamps."""
    home = Path(shutil.copytree(keyed_home, tmp_path_factory.mktemp("lookups") / "home"))
    create_authority_keys(home / "keys", now=datetime.now(UTC))
    running = start_service(home, resolution="keys", time_stamps="true", public_per_minute=PUBLIC_PER_MINUTE)
    running.key = running.add_key("acme")
    yield running
    running.stop()


def ask(running: Running, path: str, body: bytes | None = None, *, key: str = "", kind: str = "image/jpeg") -> Any:
    headers = ({"Authorization": f"Bearer {key}"} if key else {}) | ({"Content-Type": kind} if body else {})
    request = urllib.request.Request(f"{running.url}{path}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_stripped_picture_leads_to_its_manifest(lookups: Running) -> None:
    made = lookups.client().images.generate(prompt="a red apple").data[0]
    stripped = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(made.b64_json))).convert("RGB").save(stripped, "JPEG", quality=80)
    status, body = ask(lookups, "/v1/matches/byContent", stripped.getvalue(), key=lookups.key)
    manifest = made.model_extra["guardrails"]["gen_uid"]
    assert (status, json.loads(body)["matches"][0]["manifestId"]) == (200, manifest)
    status, store = ask(lookups, f"/v1/manifests/{manifest}", key=lookups.key)
    assert status == 200
    assert manifest.encode() in store


def test_who_may_not_look_up(lookups: Running) -> None:
    path = "/v1/manifests/urn:c2pa:x"
    assert ask(lookups, path)[0] == 401
    assert ask(lookups, path, key=lookups.admin.keys.create("acme", ("generate",))[0])[0] == 403
    assert ask(lookups, path, key=lookups.key)[0] == 404


def test_they_are_switched_off_by_default(service: Running) -> None:
    assert ask(service, "/v1/manifests/urn:c2pa:x", key=service.key)[0] == 404
    assert ask(service, "/v1/services/supportedAlgorithms", key=service.key)[0] == 404
    assert ask(service, "/tsa", b"x", kind="application/timestamp-query")[0] == 404


def test_time_stamps_within_the_public_limit(lookups: Running) -> None:
    roots = (lookups.home / "keys" / "tsa" / "root.pem").read_bytes()
    client = TimeStampClient(f"{lookups.url}/tsa", anchors=roots)
    message = b"what was there"
    assert hashlib.sha256(message).digest() in client.stamp(message)
    client.stamp(message)
    with pytest.raises(TimeStampError):
        client.stamp(message)
    status, body = ask(lookups, "/tsa", b"x", kind="application/timestamp-query")
    assert (status, json.loads(body)["error"]["code"]) == (429, "rate_limit_exceeded")


def test_without_keys_there_is_no_authority(tmp_path: Path) -> None:
    with pytest.raises(KeyMaterialError) as refused:
        create_app(Settings(home=tmp_path, time_stamps=True))
    assert refused.value.hint


def test_anyone_may_look_up_where_that_is_wanted(keyed_home: Path, tmp_path: Path) -> None:
    app = create_app(Settings(home=Path(shutil.copytree(keyed_home, tmp_path / "home")), resolution="public"))
    paths = app.openapi()["paths"]
    assert {"/v1/matches/byBinding", "/v1/matches/byContent", "/v1/manifests/{manifest_id}"} <= set(paths)
