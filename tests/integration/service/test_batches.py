"""Batches by the unmodified openai package: files in, files out, nobody sees another's, and a death repeats nothing."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from PIL import Image

from guardrails.testing.doubles import draw_shapes
from service.api.batching import BatchRunner
from service.api.context import Context
from service.app import _repeat, clean
from service.batches.files import FileInUse, FilesFull
from service.batches.lines import InvalidFile, check_file
from service.batches.table import BatchStatus, LineState
from service.settings import Settings
from service.testing import Running, run_apart

GENERATIONS, MODERATIONS = "/v1/images/generations", "/v1/moderations"
PROMPT = "a red apple on a table"
BLOCKED = "guardrails test minor guardrails test explicit"


def lines(endpoint: str, *bodies: dict[str, Any]) -> bytes:
    written = [
        json.dumps({"custom_id": f"request-{number}", "method": "POST", "url": endpoint, "body": body})
        for number, body in enumerate(bodies)
    ]
    return ("\n".join(written) + "\n").encode()


def begin(client: OpenAI, endpoint: Any, *bodies: dict[str, Any], **options: Any) -> Any:
    file = client.files.create(file=("in.jsonl", lines(endpoint, *bodies)), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **options)


def ended(client: OpenAI, id: str) -> Any:
    for _ in range(1200):
        batch = client.batches.retrieve(id)
        if batch.status in ("failed", "completed", "expired", "cancelled"):
            return batch
        time.sleep(0.05)
    raise AssertionError(f"the batch does not end: {batch}")


def answers(client: OpenAI, id: str | None) -> dict[str, Any]:
    assert id is not None
    entries = [json.loads(line) for line in client.files.content(id).text.splitlines()]
    return {entry["custom_id"]: entry for entry in entries}


# --- Files -------------------------------------------------------------------------------------------------------


def test_a_file_is_kept_listed_read_and_deleted(client: OpenAI) -> None:
    data = lines(MODERATIONS, {"input": "a fox"})
    file = client.files.create(file=("füchse.jsonl", data), purpose="batch")
    assert (file.object, file.bytes, file.purpose, file.status) == ("file", len(data), "batch", "processed")
    assert file.filename == "füchse.jsonl"
    assert file.expires_at is not None
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == data
    assert file.id in [one.id for one in client.files.list(purpose="batch")]
    assert client.files.delete(file.id).deleted
    for gone in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(file.id)


def test_files_come_in_pages(service: Running) -> None:
    client = service.client(service.add_key("pages"), max_retries=0)
    ids = [client.files.create(file=("a", b"x"), purpose="batch").id for _ in range(5)]
    assert [one.id for one in client.files.list(limit=2)] == ids[::-1]
    assert [one.id for one in client.files.list(limit=2, order="asc")] == ids
    with pytest.raises(openai.NotFoundError):
        client.files.list(after=f"file-{uuid.uuid4().hex}")


def test_what_is_no_file_for_a_batch(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=("a", b"x"), purpose="fine-tune")
    assert refused.value.param == "purpose"


# --- Batches -----------------------------------------------------------------------------------------------------


def test_pictures_and_refusals_arrive_in_their_files(client: OpenAI, service: Running) -> None:
    batch = begin(
        client,
        GENERATIONS,
        {"prompt": PROMPT, "n": 2},
        {"prompt": BLOCKED},
        {"prompt": PROMPT, "size": "1x1"},
        {"prompt": PROMPT, "stream": True},
        metadata={"made by": "a test"},
    )
    assert (batch.object, batch.endpoint, batch.metadata) == ("batch", GENERATIONS, {"made by": "a test"})
    assert batch.expires_at == batch.created_at + 86400
    batch = ended(client, batch.id)
    assert batch.status == "completed"
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (4, 1, 3)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    good = answers(client, batch.output_file_id)
    assert list(good) == ["request-0"]
    response = good["request-0"]["response"]
    assert (response["status_code"], good["request-0"]["error"]) == (200, None)
    assert response["request_id"].startswith("req_")
    assert len(response["body"]["data"]) == 2
    for item in response["body"]["data"]:
        checked = client.content_provenance_checks.create(file=("x.png", base64.b64decode(item["b64_json"])))
        assert checked.model_extra["guardrails"]["verdict"] == "confirmed"
    bad = answers(client, batch.error_file_id)
    codes = {name: entry["response"]["body"]["error"]["code"] for name, entry in bad.items()}
    assert codes == {"request-1": "moderation_blocked", "request-2": "invalid_value", "request-3": "invalid_value"}
    assert bad["request-1"]["response"]["body"]["error"]["guardrails"]["decision_id"]
    assert bad["request-2"]["response"]["body"]["error"]["param"] == "size"
    assert {entry["response"]["status_code"] for entry in bad.values()} == {400}
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"
    # Nothing of the work is left behind.
    assert not (service.home / "service" / "batches" / batch.id).exists()


def test_texts_and_pictures_are_moderated(client: OpenAI) -> None:
    file = io.BytesIO()
    Image.fromarray(draw_shapes(1)).save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    batch = begin(
        client,
        MODERATIONS,
        {"input": ["a fox in the snow", BLOCKED]},
        {"input": [{"type": "image_url", "image_url": {"url": url}}]},
        {"input": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]},
        {},
    )
    batch = ended(client, batch.id)
    good = answers(client, batch.output_file_id)
    flags = {name: [one["flagged"] for one in e["response"]["body"]["results"]] for name, e in good.items()}
    assert flags == {"request-0": [False, True], "request-1": [False]}
    bad = answers(client, batch.error_file_id)
    codes = [bad[f"request-{number}"]["response"]["body"]["error"]["code"] for number in (2, 3)]
    assert codes == ["url_not_supported", "invalid_value"]


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"\n \n", "empty_file", None),
        (b"{not json\n", "invalid_json_line", 1),
        (b"\xff\xfe\n", "invalid_json_line", 1),
        (b"[" * 100_000, "invalid_json_line", 1),
        (b"[]\n", "invalid_request", 1),
        (lines(MODERATIONS, {"input": "a"}), "mismatched_url", 1),
        (lines(GENERATIONS, {"prompt": "a"}) * 2, "duplicate_custom_id", 2),
        (lines(GENERATIONS, {"prompt": "a"}).replace(b"POST", b"GET"), "invalid_request", 1),
        (b"\n" + lines(GENERATIONS, {}).replace(b"request-0", b"\\ud800"), "invalid_request", 2),
    ],
)
def test_a_file_that_cannot_be_run(client: OpenAI, data: bytes, code: str, line: int | None) -> None:
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint=GENERATIONS, completion_window="24h")
    batch = ended(client, made.id)
    assert (batch.status, batch.output_file_id) == ("failed", None)
    assert batch.failed_at is not None
    (error,) = batch.errors.data
    assert (error.code, error.line) == (code, line)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"endpoint": "/v1/chat/completions"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"metadata": {"x": "y" * 513}}, "metadata.x"),
    ],
)
def test_a_batch_that_cannot_be_made(client: OpenAI, options: dict[str, Any], param: str) -> None:
    file = client.files.create(file=("a", lines(GENERATIONS, {"prompt": PROMPT})), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": GENERATIONS, "completion_window": "24h", **options}
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(**asked)
    assert refused.value.param == param


def test_answers_are_no_input(client: OpenAI) -> None:
    batch = ended(client, begin(client, MODERATIONS, {"input": "a fox"}).id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(input_file_id=batch.output_file_id, endpoint=MODERATIONS, completion_window="24h")
    assert refused.value.param == "input_file_id"


def test_nobody_sees_files_and_batches_of_others(client: OpenAI, service: Running) -> None:
    batch = ended(client, begin(client, MODERATIONS, {"input": "a fox"}).id)
    other = service.client(service.add_key("curious"), max_retries=0)
    assert list(other.files.list()) == []
    assert list(other.batches.list()) == []
    for ask in (
        lambda: other.files.retrieve(batch.input_file_id),
        lambda: other.files.content(batch.output_file_id),
        lambda: other.files.delete(batch.output_file_id),
        lambda: other.batches.retrieve(batch.id),
        lambda: other.batches.cancel(batch.id),
        lambda: other.batches.create(input_file_id=batch.input_file_id, endpoint=MODERATIONS, completion_window="24h"),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()


def test_a_key_makes_batches_of_what_it_may_do(service: Running) -> None:
    moderating = service.client(service.admin.keys.create("acme", ("moderate",))[0], max_retries=0)
    with pytest.raises(openai.PermissionDeniedError):
        begin(moderating, GENERATIONS, {"prompt": PROMPT})
    assert ended(moderating, begin(moderating, MODERATIONS, {"input": "a fox"}).id).status == "completed"
    verifying = service.client(service.admin.keys.create("acme", ("verify",))[0], max_retries=0)
    with pytest.raises(openai.PermissionDeniedError):
        verifying.files.list()


def test_the_quota_of_a_day_holds_in_a_batch(service: Running) -> None:
    client = service.client(service.add_key("thrifty", images_per_day=2), max_retries=0)
    batch = ended(client, begin(client, GENERATIONS, *({"prompt": PROMPT, "n": 1} for _ in range(4))).id)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 2)
    for entry in answers(client, batch.error_file_id).values():
        assert entry["response"]["body"]["error"]["code"] == "quota_exceeded"


def test_one_job_at_a_time_is_slow_but_no_failure(service: Running) -> None:
    client = service.client(service.add_key("single", concurrent_jobs=1), max_retries=0)
    batch = ended(client, begin(client, GENERATIONS, *({"prompt": PROMPT} for _ in range(3))).id)
    assert (batch.request_counts.completed, batch.request_counts.failed) == (3, 0)


def test_a_cancelled_batch_hands_over_what_it_has(client: OpenAI) -> None:
    batch = begin(client, GENERATIONS, *({"prompt": PROMPT, "n": 3} for _ in range(30)))
    while client.batches.retrieve(batch.id).request_counts.completed == 0:
        time.sleep(0.02)
    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status in ("cancelling", "cancelled")
    batch = ended(client, batch.id)
    assert batch.status == "cancelled"
    assert batch.cancelling_at <= batch.cancelled_at
    # The job that ran is not waited for until its lease runs out.
    assert batch.cancelled_at - batch.cancelling_at < Settings().lease_seconds
    good, bad = answers(client, batch.output_file_id), answers(client, batch.error_file_id)
    assert len(good) >= 1
    assert len(good) + len(bad) == 30
    assert "batch_cancelled" in {entry["error"]["code"] for entry in bad.values() if entry["error"]}
    # A second time changes nothing.
    assert client.batches.cancel(batch.id).status == "cancelled"


def test_a_running_batch_keeps_its_input(tmp_path: Path) -> None:
    context = opened(tmp_path)
    file = context.files.upload("acme", lines(GENERATIONS, {"prompt": PROMPT}), name="x", seconds=0.0, most=10_000)
    with pytest.raises(KeyError):
        context.files.get(file.id, "acme")
    kept = context.files.upload("acme", lines(GENERATIONS, {"prompt": PROMPT}), name="x", seconds=60, most=10_000)
    _batch(context, kept.id)
    with pytest.raises(FileInUse):
        context.files.delete(kept.id, "acme")
    old = time.time() - 7200
    for one in (file, kept):
        os.utime(context.files.path(one.id), (old, old))
    clean(context)
    assert [path.name for path in context.settings.files.iterdir()] == [kept.id]


# --- What a test cannot ask a running service ----------------------------------------------------------------------


def opened(home: Path, **settings: Any) -> Context:
    context = Context.open(Settings(home=home, **settings))
    context.tenants.add("acme")
    return context


def _batch(context: Context, file: str, endpoint: str = GENERATIONS, *, seconds: float = 60, key: str = "") -> Any:
    key = key or context.keys.create("acme", ("generate", "moderate"))[1].id
    return context.batches.add(
        tenant="acme", api_key=key, endpoint=endpoint, input_file=file, metadata=None, seconds=seconds, most=100
    )


def _uploaded(context: Context, endpoint: str, *bodies: dict[str, Any]) -> str:
    return context.files.upload("acme", lines(endpoint, *bodies), name="x", seconds=60, most=1 << 20).id


def _turns(context: Context, count: int) -> None:
    runner = BatchRunner(context)
    for _ in range(count):
        runner.run_due()
        time.sleep(0.25)


def test_an_expired_batch_gives_up_the_rest(database_address: str, tmp_path: Path) -> None:
    context = opened(tmp_path, database=database_address)
    batch = _batch(context, _uploaded(context, GENERATIONS, {"prompt": PROMPT}, {"prompt": "x"}))
    _turns(context, 2)
    # No worker runs: both wait as jobs.
    jobs = [line.job for line in context.batches.lines(batch.id, LineState.SUBMITTED)]
    assert len(jobs) == 2
    with context.database.transaction() as transaction:
        transaction.run("UPDATE batches SET expires_at = ?", time.time() - 1)
    _turns(context, 3)
    batch = context.batches.get(batch.id)
    assert batch.status is BatchStatus.EXPIRED
    assert {context.table.get(job).status.value for job in jobs} == {"cancelled"}
    written = context.files.path(batch.error_file).read_text().splitlines()
    assert [json.loads(line)["response"]["body"]["error"]["code"] for line in written] == ["cancelled"] * 2


def test_a_batch_that_is_cancelled_while_it_begins_stays_cancelled(
    database_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(tmp_path, database=database_address)
    batch = _batch(context, _uploaded(context, GENERATIONS, {"prompt": PROMPT}))
    kind = type(next(_open_transactions(context)))
    one, threads = kind.one, []

    def cancelled_after(transaction: Any, query: str, *values: object) -> Any:
        row = one(transaction, query, *values)
        if query.startswith("SELECT times FROM batches") and not threads:
            threads.append(threading.Thread(target=context.batches.end_early, args=(batch.id, BatchStatus.CANCELLED)))
            threads[0].start()
            # It may have to wait until the batch has begun.
            threads[0].join(1)
        return row

    monkeypatch.setattr(kind, "one", cancelled_after)
    context.batches.begin(batch, check_file(context.files.path(batch.input_file), GENERATIONS, 10))
    threads[0].join(60)
    after = context.batches.get(batch.id)
    assert (after.status, after.ending) == (BatchStatus.CANCELLING, BatchStatus.CANCELLED)
    assert set(after.times) == {"in_progress", "cancelling"}


def _open_transactions(context: Context) -> Iterator[Any]:
    with context.database.transaction() as transaction:
        yield transaction


def test_a_file_is_deleted_or_a_batch_begins_with_it_never_both(
    database_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(tmp_path, database=database_address)
    key = context.keys.create("acme", ("generate",))[1].id
    gone = _uploaded(context, GENERATIONS, {"prompt": PROMPT})
    context.files.delete(gone, "acme")
    with pytest.raises(KeyError):
        _batch(context, gone, key=key)
    file = _uploaded(context, GENERATIONS, {"prompt": PROMPT})
    kind = type(next(_open_transactions(context)))
    one, threads, failed = kind.one, [], []

    def begin() -> None:
        try:
            _batch(context, file, key=key)
        except KeyError as error:
            failed.append(error)

    def begun_after(transaction: Any, query: str, *values: object) -> Any:
        row = one(transaction, query, *values)
        if query.startswith("SELECT id FROM batches WHERE input_file") and not threads:
            threads.append(threading.Thread(target=begin))
            threads[0].start()
            threads[0].join(1)
        return row

    monkeypatch.setattr(kind, "one", begun_after)
    context.files.delete(file, "acme")
    threads[0].join(60)
    assert len(failed) == 1
    assert context.batches.of_tenant("acme", limit=10) == []


def test_background_work_goes_on_after_a_bug() -> None:
    tries: list[int] = []

    def work() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise FileNotFoundError("another process was first")

    async def run() -> None:
        task = asyncio.create_task(_repeat(work, 0.0))
        while len(tries) < 3 and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()

    run_apart(run())
    assert len(tries) >= 3


def test_two_processes_and_a_death_ask_for_each_picture_once(database_address: str, tmp_path: Path) -> None:
    context = opened(tmp_path, database=database_address)
    batch = _batch(context, _uploaded(context, GENERATIONS, *({"prompt": PROMPT} for _ in range(4))))
    _turns(context, 2)
    lines_ = context.batches.lines(batch.id, LineState.SUBMITTED)
    assert len(lines_) == 4
    with context.database.transaction() as transaction:
        # As if the process had died between the job's submission and the note of it.
        transaction.run("UPDATE batch_lines SET state = 'waiting', job = '' WHERE batch = ?", batch.id)
    _turns(context, 2)
    assert context.batches.lines(batch.id, LineState.SUBMITTED) == lines_
    assert context.table.counts() == {"queued": 4}
    # While one process has the lease, the other one finds nothing to do.
    assert context.batches.claim("a", 60) is not None
    assert context.batches.claim("b", 60) is None


def test_a_revoked_key_ends_its_batches(tmp_path: Path) -> None:
    context = opened(tmp_path)
    key = context.keys.create("acme", ("generate",))[1].id
    batch = _batch(context, _uploaded(context, GENERATIONS, {"prompt": PROMPT}), key=key)
    _turns(context, 2)
    context.keys.expire(key, time.time() - 1)
    _turns(context, 3)
    assert context.batches.get(batch.id).status is BatchStatus.CANCELLED
    assert context.table.counts() == {"cancelled": 1}


def test_limits_of_files_and_batches(tmp_path: Path) -> None:
    context = opened(tmp_path)
    with pytest.raises(FilesFull):
        context.files.upload("acme", b"x" * 11, name="x", seconds=60, most=10)
    assert list(context.settings.files.iterdir()) == []
    path = tmp_path / "many.jsonl"
    path.write_bytes(
        b"".join(lines(MODERATIONS, {}).replace(b"request-0", str(number).encode()) for number in range(6))
    )
    assert [place.number for place in check_file(path, MODERATIONS, 6)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(InvalidFile) as refused:
        check_file(path, MODERATIONS, 5)
    assert refused.value.errors[0]["code"] == "too_many_requests"
