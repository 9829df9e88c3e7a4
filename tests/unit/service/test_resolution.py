"""The resolution routes over real HTTP, from a stripped picture to its manifest, and every way to ask wrongly."""

from __future__ import annotations

import base64
import io
import json
import re
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.images import ManifestStatus
from guardrails.provenance import TrustStore, Verifier, image_code
from guardrails.provenance.timestamps import TimeStampClient
from guardrails.testing.doubles import draw_shapes

WATERMARK, ISCC = "org.guardrails.watermark.1", "io.iscc.v0"
Service = SimpleNamespace


def call(
    url: str, body: bytes | None = None, kind: str = "", *, method: str | None = None, **headers: str
) -> tuple[int, str, bytes]:
    request = Request(url, data=body, headers={**headers, **({"Content-Type": kind} if kind else {})}, method=method)
    try:
        with urlopen(request, timeout=20) as response:
            return response.status, response.headers.get_content_type(), response.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers.get_content_type(), error.read()


def ask(service: Service, route: str, body: bytes | None = None, kind: str = "", **query: Any) -> tuple[int, Any]:
    status, _, data = call(f"{service.url}/v1{route}?{urlencode(query)}", body, kind)
    return status, json.loads(data)


def b64(value: bytes | str) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def jpeg(pixels: np.ndarray, quality: int = 70) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_a_stripped_picture_leads_to_its_manifest(service: Service) -> None:
    first, _ = service.sealed
    status, found = ask(service, "/matches/byContent", jpeg(first.pixels), "image/jpeg")
    assert status == 200
    assert found["matches"][0] == {"manifestId": first.id.urn, "similarityScore": 100}
    status, kind, store = call(f"{service.url}/v1/manifests/{first.id.urn}")
    assert (status, kind) == (200, "application/c2pa")
    assert store in first.data
    verdict = Verifier(TrustStore.dev(service.home / "keys")).verify_store(store)
    assert (verdict.status, verdict.manifest_id) == (ManifestStatus.TRUSTED, first.id.urn)


@pytest.mark.parametrize("form", ["text", "bytes"])
def test_a_soft_binding_leads_to_its_manifest(service: Service, form: str) -> None:
    _, second = service.sealed
    code = image_code(second.pixels)
    values = {
        WATERMARK: (second.id.mark_id, bytes.fromhex(second.id.mark_id)),
        ISCC: (code, base64.b32decode(code.removeprefix("ISCC:"))),
    }
    for algorithm, (text, raw) in values.items():
        value = b64(text if form == "text" else raw)
        status, found = ask(service, "/matches/byBinding", alg=algorithm, value=value)
        assert (status, [m["manifestId"] for m in found["matches"]]) == (200, [second.id.urn])
        body = json.dumps({"alg": algorithm, "value": value}).encode()
        assert ask(service, "/matches/byBinding", body, "application/json") == (200, found)


def test_base64_for_addresses_is_understood(service: Service) -> None:
    value = base64.urlsafe_b64encode(b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8").decode().rstrip("=")
    assert ask(service, "/matches/byBinding", alg=WATERMARK, value=value) == (200, {"matches": []})


def test_results_are_limited_and_an_unknown_picture_finds_nothing(service: Service) -> None:
    first, _ = service.sealed
    status, found = ask(service, "/matches/byContent", jpeg(first.pixels), "image/jpeg", maxResults=1)
    assert (status, len(found["matches"])) == (200, 1)
    for algorithm in ({}, {"alg": WATERMARK}, {"alg": ISCC}):
        status, found = ask(service, "/matches/byContent", jpeg(draw_shapes(77)), "image/jpeg", **algorithm)
        assert (status, found) == (200, {"matches": []})


def test_a_hint_counts_only_where_the_picture_is_near(service: Service) -> None:
    first, second = service.sealed
    hint = {"hintAlg": WATERMARK, "hintValue": b64(first.id.mark_id)}
    # Too small for a watermark, and so much coarser that nothing but the hint leads to the record.
    status, found = ask(service, "/matches/byContent", jpeg(first.pixels[::4, ::4]), "image/jpeg", **hint)
    assert status == 200
    assert first.id.urn in [match["manifestId"] for match in found["matches"]]
    _, other = ask(service, "/matches/byContent", jpeg(second.pixels), "image/jpeg", **hint)
    assert first.id.urn not in [match["manifestId"] for match in other["matches"]]


def test_the_supported_algorithms_are_named(service: Service) -> None:
    assert ask(service, "/services/supportedAlgorithms") == (
        200,
        {"watermarks": [{"alg": WATERMARK}], "fingerprints": [{"alg": ISCC}]},
    )


def test_the_active_manifest_can_be_had_alone(service: Service) -> None:
    first, _ = service.sealed
    url = f"{service.url}/v1/manifests/{quote(first.id.urn)}?returnActiveManifest=true"
    status, kind, store = call(url)
    assert (status, kind) == (200, "application/c2pa")
    verdict = Verifier(TrustStore.dev(service.home / "keys")).verify_store(store)
    assert (verdict.status, verdict.manifest_id) == (ManifestStatus.TRUSTED, first.id.urn)


@pytest.mark.parametrize(
    ("route", "query", "status"),
    [
        ("/matches/byBinding", {}, 400),
        ("/matches/byBinding", {"alg": WATERMARK}, 400),
        ("/matches/byBinding", {"alg": "com.adobe.trustmark.P", "value": "AAAA"}, 400),
        ("/matches/byBinding", {"alg": WATERMARK, "value": "not base64!"}, 400),
        ("/matches/byBinding", {"alg": WATERMARK, "value": "AAAA"}, 400),
        ("/matches/byBinding", {"alg": ISCC, "value": b64("ISCC:KEC" + "A" * 13)}, 400),
        ("/matches/byBinding", {"alg": WATERMARK, "value": b64("0" * 16), "maxResults": 0}, 400),
        ("/matches/byBinding", {"alg": WATERMARK, "value": b64("0" * 16), "maxResults": "many"}, 400),
        ("/matches/byBinding", {"alg": WATERMARK, "value": "A" * 2000}, 414),
        ("/manifests/urn:c2pa:00000000-0000-4000-8000-000000000000", {}, 404),
        ("/manifests/%20%20", {}, 400),
        ("/manifests/x", {"returnActiveManifest": "perhaps"}, 400),
    ],
)
def test_a_wrong_question_gets_the_status_of_the_specification(
    service: Service, route: str, query: dict[str, Any], status: int
) -> None:
    got, body = ask(service, route, **query)
    assert got == status, body
    assert body["detail"]


@pytest.mark.parametrize(
    ("body", "kind", "query", "status"),
    [
        (b"{}", "application/json", {}, 415),
        (b"no picture", "image/png", {}, 400),
        (b"", "image/png", {}, 400),
        (jpeg(draw_shapes(1)), "image/jpeg", {"alg": "x.y"}, 400),
        (jpeg(draw_shapes(1)), "image/jpeg", {"hintAlg": WATERMARK}, 400),
        (jpeg(draw_shapes(1)), "image/jpeg", {"hintAlg": WATERMARK, "hintValue": "AAAA"}, 400),
        (bytes(64 * 2**20 + 1), "image/png", {}, 413),
    ],
    ids=["type", "junk", "empty", "algorithm", "half a hint", "bad hint", "large"],
)
def test_a_wrong_picture_gets_the_status_of_the_specification(
    service: Service, body: bytes, kind: str, query: dict[str, Any], status: int
) -> None:
    got, answer = ask(service, "/matches/byContent", body, kind, **query)
    assert (got, bool(answer["detail"])) == (status, True)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"alg": "x", "value": 1}', b"\xff"])
def test_a_wrong_document_is_a_bad_request(service: Service, body: bytes) -> None:
    assert ask(service, "/matches/byBinding", body, "application/json")[0] == 400


def test_no_address_is_fetched_because_a_request_named_it(service: Service) -> None:
    body = json.dumps({"referenceUrl": "https://127.0.0.1/x.png", "assetLength": 9}).encode()
    assert ask(service, "/matches/byReference", body, "application/json")[0] == 404


def test_the_host_application_decides_who_may_ask(service: Service) -> None:
    url = f"{service.url}/private/manifests/{service.sealed[0].id.urn}"
    assert call(url)[0] == 401
    assert call(url, authorization="Bearer fetch-manifests")[0] == 200
    assert call(f"{service.url}/private/services/supportedAlgorithms")[0] == 200


def test_the_interface_describes_itself(service: Service) -> None:
    _, _, data = call(f"{service.url}/openapi.json")
    paths = json.loads(data)["paths"]
    mine = {re.sub(r"\{.*?\}", "{}", path.removeprefix("/v1")) for path in paths if path.startswith("/v1")}
    assert mine == {
        "/matches/byBinding",
        "/matches/byContent",
        "/manifests/{}",
        "/services/supportedAlgorithms",
    }
    names = {parameter["name"] for parameter in paths["/v1/matches/byContent"]["post"]["parameters"]}
    assert names == {"alg", "maxResults", "hintAlg", "hintValue"}
    assert "image/*" in paths["/v1/matches/byContent"]["post"]["requestBody"]["content"]


def test_the_time_stamp_authority_is_mounted(service: Service) -> None:
    root = (service.home / "keys" / "tsa" / "root.pem").read_bytes()
    assert TimeStampClient(f"{service.url}/tsa", anchors=root).stamp(b"message")
    assert call(f"{service.url}/tsa")[0] == 405
