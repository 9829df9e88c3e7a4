"""The unmodified openai package against a real server: everything that it can ask, and every way to be refused."""

from __future__ import annotations

import base64
import io
import json
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI
from PIL import Image

from guardrails import home as homes
from guardrails.audit import Auditor
from guardrails.audit.report import FileVerdict
from guardrails.ledger import Ledger
from guardrails.testing.doubles import draw_shapes

PROMPT = "a red apple on a table"
# The default pack's own harmless placeholders: blocked by a rule, and held for a review by another one.
BLOCKED = "guardrails test minor guardrails test explicit"
HELD = "n4k3d woman"


def png(seed: int = 0, *, side: int = 256) -> bytes:
    file = io.BytesIO()
    Image.fromarray(draw_shapes(seed, side)).save(file, "PNG")
    return file.getvalue()


def mask(side: int = 256) -> bytes:
    pixels = np.full((side, side, 4), 255, np.uint8)
    pixels[64:192, 64:192, 3] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def own(value: Any) -> Any:
    """Our member of a response, as the client keeps it."""
    return value.model_extra["guardrails"]


# --- Generations -------------------------------------------------------------------------------------------------


def test_a_picture_arrives_confirmed(client: OpenAI, service: Any) -> None:
    answer = client.images.generate(prompt=PROMPT)
    data = base64.b64decode(answer.data[0].b64_json)
    report = Auditor.open(service.home).verify(data)
    assert (report.verdict, report.exact) == (FileVerdict.CONFIRMED, True)
    assert report.ledger.record_id == own(answer.data[0])["record_id"]
    assert answer.created > 0
    assert answer._request_id.startswith("req_")
    assert (answer.size, answer.output_format, answer.background) == ("auto", "png", "opaque")
    assert answer.usage.total_tokens == 0


def test_the_evidence_travels_with_each_picture(client: OpenAI) -> None:
    shown = own(client.images.generate(prompt=PROMPT).data[0])
    assert (shown["c2pa"], shown["watermark"]) == ("trusted", "embedded")
    assert shown["policy"].startswith("default@sha256:")
    assert {check["id"] for check in shown["checks"]} == {
        "open-nsfw",
        "clip-concepts",
        "visible-marks",
        "similarity",
    }
    assert all(check["ran"] and check["verdict"] == "pass" for check in shown["checks"])
    receipt = json.loads(base64.b64decode(shown["receipt"]))
    assert receipt["tlog_proof"].startswith("c2sp.org/tlog-proof@v1\n")


def test_several_pictures(client: OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, n=3)
    assert len({item.b64_json for item in answer.data}) == 3


def test_the_same_seed_gives_the_same_pixels(client: OpenAI) -> None:
    seeds = [own(client.images.generate(prompt=PROMPT, extra_body={"guardrails": {"seed": 7}}).data[0])["seed"]]
    seeds.append(own(client.images.generate(prompt=PROMPT, extra_body={"guardrails": {"seed": 7}}).data[0])["seed"])
    assert seeds == [7, 7]


@pytest.mark.parametrize("size", ["512x512", "256x256"])
def test_the_size_is_kept(client: OpenAI, size: str) -> None:
    data = base64.b64decode(client.images.generate(prompt=PROMPT, size=size).data[0].b64_json)
    with Image.open(io.BytesIO(data)) as image:
        assert f"{image.width}x{image.height}" == size


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_formats(client: OpenAI, name: Any, kind: str) -> None:
    data = base64.b64decode(client.images.generate(prompt=PROMPT, output_format=name).data[0].b64_json)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == kind


def test_a_signed_address_instead_of_base64(client: OpenAI) -> None:
    item = client.images.generate(prompt=PROMPT, response_format="url").data[0]
    assert item.b64_json is None
    with urllib.request.urlopen(item.url) as answer:
        assert answer.headers["content-type"] == "image/png"
        assert answer.read().startswith(b"\x89PNG")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(item.url[:-1] + ("0" if item.url[-1] != "0" else "1"))
    assert refused.value.code == 403


def test_models_of_others_and_unknown_options_are_named_as_ignored(client: OpenAI) -> None:
    answer = client.images.generate(
        prompt=PROMPT, model="gpt-image-1", quality="high", moderation="low", style="vivid", user="somebody"
    )
    assert own(answer)["ignored"] == ["model", "moderation", "quality", "style"]


def test_a_stream_ends_with_the_released_picture(client: OpenAI, service: Any) -> None:
    events = list(client.images.generate(prompt=PROMPT, stream=True, partial_images=2))
    assert [event.type for event in events] == ["image_generation.completed"]
    data = base64.b64decode(events[0].b64_json)
    assert Auditor.open(service.home).verify(data, mode="fast").verdict is FileVerdict.CONFIRMED
    assert own(events[0])["ignored"] == ["partial_images"]
    assert events[0].usage.total_tokens == 0


def test_a_refusal_inside_a_stream(client: OpenAI) -> None:
    with pytest.raises(openai.APIError) as refused:
        list(client.images.generate(prompt=BLOCKED, stream=True))
    assert refused.value.code == "moderation_blocked"
    assert refused.value.body["guardrails"]["decision_id"]


# --- Refusals and errors -----------------------------------------------------------------------------------------


def test_a_blocked_prompt(client: OpenAI, service: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt=BLOCKED)
    error = refused.value
    assert (error.code, error.type) == ("moderation_blocked", "image_generation_user_error")
    assert error.body["moderation_details"] == {"moderation_stage": "input", "categories": ["hate", "sexual/minors"]}
    assert error.response.headers["x-should-retry"] == "false"
    with Ledger.open(homes.ledger_folder(service.home), create=False) as ledger:
        logged = ledger.find_by_id(error.body["guardrails"]["decision_id"])
    assert logged is not None
    assert logged.record.kind.value == "refusal"


def test_a_held_prompt_says_that_it_waits(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt=HELD)
    assert refused.value.body["guardrails"]["review"] == "waiting"


def test_an_error_as_problem_json(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt=PROMPT, n=11, extra_headers={"Accept": "application/problem+json"})
    body = refused.value.response.json()
    assert refused.value.response.headers["content-type"] == "application/problem+json"
    assert (body["status"], body["title"], body["instance"]) == (400, "invalid request error", "/v1/images/generations")
    assert body["error"]["param"] == "n"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"size": "100x100"}, "size"),
        ({"size": "1024x256"}, "size"),
        ({"size": "8192x8192"}, "size"),
        ({"size": "large"}, "size"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"background": "transparent"}, "background"),
        ({"extra_body": {"guardrails": {"seed": -1}}}, "guardrails.seed"),
        ({"extra_body": {"guardrails": {"guidance": "much"}}}, "guardrails.guidance"),
    ],
)
def test_what_cannot_be_asked(client: OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(**{"prompt": PROMPT, **options})
    assert (refused.value.code, refused.value.param) == ("invalid_value", param)
    assert refused.value.response.headers["x-request-id"].startswith("req_")


def test_a_prompt_that_the_policy_cannot_read_is_the_callers_mistake(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a cat\x07")
    assert refused.value.code == "invalid_prompt"


def test_a_wrong_key(service: Any) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        service.client("sk-0000000000000000000000000000000000", max_retries=0).images.generate(prompt=PROMPT)
    assert refused.value.code == "invalid_api_key"


def test_a_key_without_the_scope(service: Any) -> None:
    key, _ = service.admin.keys.create("acme", ("moderate",))
    with pytest.raises(openai.PermissionDeniedError) as refused:
        service.client(key, max_retries=0).images.generate(prompt=PROMPT)
    assert refused.value.code == "scope_missing"


def test_a_body_that_is_too_large(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.images.generate(prompt=PROMPT, extra_body={"padding": "x" * (2 << 20)})
    assert (refused.value.status_code, refused.value.code) == (413, "file_too_large")


# --- Retries and idempotency -------------------------------------------------------------------------------------


def test_a_retry_of_the_client_joins_the_first_request(client: OpenAI) -> None:
    # No other test asks for it. What a random word says to the rules is not foreseen: one id in 4,000 was flagged.
    prompt = "a red apple that is asked for twice"
    first = client.images.generate(prompt=prompt)
    again = client.images.generate(prompt=prompt, extra_headers={"x-stainless-retry-count": "1"})
    assert own(again.data[0])["record_id"] == own(first.data[0])["record_id"]
    fresh = client.images.generate(prompt=prompt)
    assert own(fresh.data[0])["record_id"] != own(first.data[0])["record_id"]


def test_an_idempotency_key_makes_one_picture(client: OpenAI) -> None:
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = client.images.generate(prompt=PROMPT, extra_headers=headers)
    again = client.images.with_raw_response.generate(prompt=PROMPT, extra_headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert own(again.parse().data[0])["record_id"] == own(first.data[0])["record_id"]
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.images.generate(prompt="another prompt", extra_headers=headers)
    assert refused.value.code == "idempotency_key_reused"


def test_many_at_once_with_one_key_make_one_picture(service: Any) -> None:
    # The client's own retries wait for the first request and then take its result.
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    def ask(_: int) -> str:
        answer = service.client(max_retries=5).images.generate(prompt=PROMPT, n=2, extra_headers=headers)
        return str(own(answer.data[0])["record_id"])

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(ask, range(6)))) == 1


# --- Edits -------------------------------------------------------------------------------------------------------


def test_an_edit_keeps_the_history_of_its_original(client: OpenAI, service: Any) -> None:
    first = client.images.generate(prompt=PROMPT).data[0]
    answer = client.images.edit(image=("in.png", base64.b64decode(first.b64_json)), prompt="a green apple on a table")
    report = Auditor.open(service.home).verify(base64.b64decode(answer.data[0].b64_json))
    assert report.verdict is FileVerdict.CONFIRMED
    assert any(line.startswith(own(first)["gen_uid"]) for line in report.manifest.ancestry)


def test_an_edit_of_a_picture_without_history(client: OpenAI) -> None:
    answer = client.images.edit(image=png(), prompt="a boat", n=2, extra_body={"guardrails": {"strength": 0.4}})
    assert len(answer.data) == 2


def test_an_edit_inside_a_mask(client: OpenAI) -> None:
    answer = client.images.edit(image=[png(3)], mask=mask(), prompt="a boat")
    with Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json))) as image:
        corner = np.array(image.convert("RGB"))[:32, :32].astype(int)
    assert abs(corner - draw_shapes(3, 256)[:32, :32]).mean() < 6


def test_an_edit_as_a_stream(client: OpenAI) -> None:
    events = list(client.images.edit(image=png(), prompt="a boat", stream=True))
    assert [event.type for event in events] == ["image_edit.completed"]


def test_an_edit_as_json(client: OpenAI) -> None:
    body = {"images": [{"image_url": data_url(png())}], "prompt": "a boat"}
    answer = client.post("/images/edits", body=body, cast_to=object)
    assert answer["data"][0]["guardrails"]["c2pa"] == "trusted"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"images": [{"image_url": "https://example.com/a.png"}]}, "url_not_supported"),
        ({"images": [{"image_url": "file:///etc/hostname"}]}, "url_not_supported"),
        ({"images": [{"file_id": "file-1"}]}, "url_not_supported"),
        ({"images": [{"image_url": "data:image/png;base64,!!!"}]}, "unsupported_image"),
        ({"images": [{"image_url": data_url(b"GIF89a")}]}, "unsupported_image"),
        ({"images": []}, "invalid_value"),
        ({"images": [{"image_url": data_url(png())}, {"image_url": data_url(png())}]}, "invalid_value"),
    ],
)
def test_edits_that_cannot_be_made(client: OpenAI, body: dict[str, Any], code: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/images/edits", body={"prompt": "a boat", **body}, cast_to=object)
    assert refused.value.code == code


def test_a_mask_of_another_size(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(image=png(), mask=mask(128), prompt="a boat")
    assert (refused.value.code, refused.value.param) == ("unsupported_image", "mask")


# --- Moderations -------------------------------------------------------------------------------------------------


def test_a_text_is_moderated(client: OpenAI) -> None:
    answer = client.moderations.create(input="a watercolour of a harbour")
    (result,) = answer.results
    assert answer.id.startswith("modr-")
    assert not result.flagged
    values = result.categories.model_dump()
    assert len([value for value in values.values() if value is not None]) >= 13


def test_each_text_has_its_result(client: OpenAI) -> None:
    harmless, harmful = client.moderations.create(input=["a fox", BLOCKED], model="omni-moderation-latest").results
    assert (harmless.flagged, harmful.flagged) == (False, True)
    assert harmful.categories.sexual_minors is True
    assert harmful.category_scores.sexual_minors == 1.0
    assert harmful.category_applied_input_types.sexual_minors == ["text"]
    assert harmful.categories.violence is False


def test_spans_say_where(client: OpenAI) -> None:
    text = "please draw a n4k3d woman"
    (result,) = client.moderations.create(input=text).results
    finding = own(result)["findings"][0]
    assert text[finding["span"]["start"] : finding["span"]["end"]] == "n4k3d"


def test_text_and_picture_together_give_one_result(client: OpenAI) -> None:
    parts: Any = [{"type": "text", "text": HELD}, {"type": "image_url", "image_url": {"url": data_url(png())}}]
    (result,) = client.moderations.create(input=parts).results
    assert result.flagged
    assert {check["component"]["name"] for check in own(result)["checks"]} == {
        "open-nsfw",
        "clip-concepts",
        "visible-marks",
    }


def test_word_rules_alone(client: OpenAI) -> None:
    (result,) = client.moderations.create(input=HELD, extra_body={"guardrails": {"depth": "rules"}}).results
    assert result.categories.sexual is True


def test_a_picture_by_address_is_not_fetched(client: OpenAI) -> None:
    parts: Any = [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.moderations.create(input=parts)
    assert (refused.value.code, refused.value.param) == ("url_not_supported", "input.0.image_url.url")


# --- Provenance --------------------------------------------------------------------------------------------------


def test_our_own_picture_is_recognised(client: OpenAI) -> None:
    data = base64.b64decode(client.images.generate(prompt=PROMPT, output_format="jpeg").data[0].b64_json)
    answer = client.content_provenance_checks.create(file=("x.jpg", data))
    (result,) = answer.results
    assert (result.type, result.outcome, result.validation_state) == ("c2pa", "detected", "trusted")
    assert result.generated_at.endswith("Z")
    assert own(answer)["verdict"] == "confirmed"


def test_a_stripped_picture_is_recovered(client: OpenAI) -> None:
    made = base64.b64decode(client.images.generate(prompt=PROMPT).data[0].b64_json)
    file = io.BytesIO()
    Image.open(io.BytesIO(made)).convert("RGB").save(file, "JPEG", quality=70)
    answer = client.content_provenance_checks.create(file=("x.jpg", file.getvalue()))
    assert answer.results[0].outcome == "not_detected"
    assert own(answer)["verdict"] == "recovered"


def test_a_foreign_picture_is_not_called_human_made(client: OpenAI) -> None:
    answer = client.content_provenance_checks.create(file=("x.png", png(99)))
    assert answer.results[0].validation_state == "not_present"
    assert own(answer)["verdict"] == "not_found"
    assert "does not mean" in own(answer)["limits"]


def test_the_manifest_alone(client: OpenAI) -> None:
    answer = client.content_provenance_checks.create(file=("x.png", png(99)), extra_body={"depth": "c2pa"})
    assert own(answer)["verdict"] == "no_manifest"


@pytest.mark.parametrize("data", [b"%PDF-1.7", b"\x00" * 100, b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_unreadable(client: OpenAI, data: bytes) -> None:
    answer = client.content_provenance_checks.create(file=("x.bin", data))
    assert own(answer)["verdict"] == "unreadable"
    assert answer.results[0].outcome == "not_detected"


# --- Models, jobs, receipts, appeals -----------------------------------------------------------------------------


def test_models(client: OpenAI) -> None:
    first = next(iter(client.models.list()))
    assert client.models.retrieve(first.id).id == first.id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def _finished(client: OpenAI, id: str) -> dict[str, Any]:
    for _ in range(600):
        job: Any = client.get(f"/jobs/{id}", cast_to=object)
        if job["status"] not in ("queued", "running"):
            return dict(job)
        time.sleep(0.05)
    raise AssertionError("the job does not end")


def test_a_job_runs_on_without_its_client(client: OpenAI) -> None:
    raw = client.images.with_raw_response.generate(prompt=PROMPT, extra_headers={"Prefer": "respond-async"})
    assert raw.status_code == 202
    id = raw.headers["location"].rpartition("/")[2]
    job = _finished(client, id)
    assert (job["status"], job["object"]) == ("succeeded", "job")
    with urllib.request.urlopen(job["result"]["data"][0]["url"]) as answer:
        assert answer.read().startswith(b"\x89PNG")
    listed: Any = client.get("/jobs", cast_to=object)
    assert id in [entry["id"] for entry in listed["data"]]


def test_the_events_of_a_job_can_be_taken_up_again(client: OpenAI) -> None:
    raw = client.images.with_raw_response.generate(prompt=PROMPT, extra_headers={"Prefer": "respond-async"})
    id = raw.headers["location"].rpartition("/")[2]

    def events(last: str = "0") -> list[tuple[str, str]]:
        response = _get_text(client, f"/jobs/{id}/events", {"Last-Event-ID": last})
        blocks = [block for block in response.split("\n\n") if block.startswith("id: ")]
        return [(b.splitlines()[0][4:], json.loads(b.splitlines()[2][6:])["type"]) for b in blocks]

    everything = events()
    types = [type for _, type in everything]
    assert types[0] == "received"
    assert types[-1] == "succeeded"
    order = ["screened", "generated", "checked", "marked", "self_verified", "recorded"]
    assert [type for type in types if type in order] == order
    assert events(everything[3][0]) == everything[4:]


def _get_text(client: OpenAI, path: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(str(client.base_url).rstrip("/") + path, headers=headers)
    request.add_header("Authorization", f"Bearer {client.api_key}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def test_jobs_of_others_are_not_there(client: OpenAI, service: Any) -> None:
    raw = client.images.with_raw_response.generate(prompt=PROMPT, extra_headers={"Prefer": "respond-async"})
    service.admin.tenants.add("other")
    other = service.client(service.admin.keys.create("other", ("generate",))[0], max_retries=0)
    with pytest.raises(openai.NotFoundError):
        other.get(f"/jobs/{raw.headers['location'].rpartition('/')[2]}", cast_to=object)


def test_a_receipt_proves_the_record(client: OpenAI, service: Any, tmp_path: Path) -> None:
    shown = own(client.images.generate(prompt=PROMPT).data[0])
    receipt: Any = client.get(f"/receipts/{shown['gen_uid']}", cast_to=object)
    assert receipt["record_id"] == shown["record_id"]
    assert receipt["tlog_proof"].startswith("c2sp.org/tlog-proof@v1")
    checkpoint = _get_text(client, "/log/checkpoint", {})
    assert checkpoint.splitlines()[0] == receipt["checkpoint"].splitlines()[0]
    assert _get_text(client, f"/log/proof?index={receipt['index']}", {}).startswith("c2sp.org/tlog-proof@v1")


def test_an_appeal_is_a_thread(client: OpenAI, service: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt=HELD)
    body = {"decision_id": refused.value.body["guardrails"]["decision_id"], "text": "It is a statue in a museum."}
    appeal: Any = client.post("/appeals", body=body, cast_to=object)
    assert (appeal["status"], len(appeal["messages"])) == ("open", 1)
    replied: Any = client.post(f"/appeals/{appeal['id']}/messages", body={"text": "Please."}, cast_to=object)
    assert [message["author"] for message in replied["messages"]] == ["tenant", "tenant"]
    with pytest.raises(openai.NotFoundError):
        client.post("/appeals", body={**body, "decision_id": str(uuid.uuid4())}, cast_to=object)
