"""One trace over all processes, taken by a real collector on loopback; and no word of a user in it."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from guardrails import tracing as steps
from guardrails.errors import OptionError
from service import tracing
from service.testing import Running, start_service

from .test_drawing_together import job

SECONDS = 120


class Collector:
    """Takes spans as OTLP over HTTP (protobuf)."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    collector.bodies.append(body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self) -> list[dict[str, Any]]:
        """Every span with the role of its process; identifiers in hexadecimal."""
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    found += [
                        {
                            "name": span.name,
                            "role": about["guardrails.role"],
                            "service": about["service.name"],
                            "trace": span.trace_id.hex(),
                            "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "attributes": {one.key: one.value for one in span.attributes},
                        }
                        for span in scope.spans
                    ]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def traced(collector: Collector, keyed_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    import shutil

    home = Path(shutil.copytree(keyed_home, tmp_path_factory.mktemp("traced") / "home"))
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    before = {name: os.environ.get(name) for name in asked}
    os.environ.update(asked)
    try:
        running = start_service(home)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    running.key = running.add_key("acme")
    yield running
    running.stop()


def trace_of(collector: Collector, trace: str, last: str) -> list[dict[str, Any]]:
    """The spans of a trace once this one has arrived."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        spans = [span for span in collector.spans() if span["trace"] == trace]
        if {span["name"] for span in spans} >= {last, "signer.sign"}:
            return spans
        time.sleep(0.1)
    raise AssertionError(f"no {last} of {trace}: {sorted(span['name'] for span in collector.spans())}")


def test_one_trace_joins_all_processes(traced: Running, collector: Collector) -> None:
    trace, caller = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    headers = {"traceparent": f"00-{trace}-{caller}-01"}
    traced.client().images.generate(prompt="a red apple", extra_headers=headers)
    spans = trace_of(collector, trace, "POST /v1/images/generations")
    by_id = {span["id"]: span for span in spans}

    def path(span: dict[str, Any]) -> list[str]:
        above = by_id.get(span["parent"])
        return [*([] if above is None else path(above)), span["name"]]

    found = {"/".join(path(span)): span for span in spans}
    root = "POST /v1/images/generations"
    assert (found[root]["role"], found[root]["parent"]) == ("api", caller)
    assert found[f"{root}/job.wait"]["role"] == "worker"
    for step in ("prompt", "generation", "screening", "watermark", "provenance", "record", "release"):
        assert found[f"{root}/job/guardrails.{step}"]["role"] == "worker"
    screens = [span for span in spans if span["name"] == "guardrails.screen"]
    names = {span["attributes"]["guardrails.screen"].string_value for span in screens}
    assert names == {"open-nsfw", "clip-concepts", "visible-marks"}
    signing = f"{root}/job/guardrails.provenance/signer.request"
    assert (found[signing]["role"], found[f"{signing}/signer.sign"]["role"]) == ("worker", "signer")
    assert {span["service"] for span in spans} == {"latent-guardrails"}


def test_the_log_names_the_trace(traced: Running, collector: Collector) -> None:
    trace = uuid.uuid4().hex
    traced.client().moderations.create(
        input="a fox", extra_headers={"traceparent": f"00-{trace}-{uuid.uuid4().hex[:16]}-01"}
    )
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if any(line.get("trace_id") == trace and line.get("route") == "/v1/moderations" for line in traced.log()):
            return
        time.sleep(0.05)
    raise AssertionError("no line of the log has the trace")


def test_no_word_of_a_user_reaches_the_collector(traced: Running, collector: Collector) -> None:
    canary = "canarymwvpglbdwm"
    trace = uuid.uuid4().hex
    client = traced.client(max_retries=0)
    headers = {"traceparent": f"00-{trace}-{uuid.uuid4().hex[:16]}-01"}
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt=f"a n4k3d woman {canary}")
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt=canary, size=canary)
    with pytest.raises(openai.NotFoundError):
        client.get(f"/{canary}?prompt={canary}", cast_to=object)
    client.images.generate(prompt=f"a red apple {canary}", user=canary, extra_headers=headers)
    trace_of(collector, trace, "POST /v1/images/generations")
    assert len(collector.bodies) > 0
    assert not any(canary.encode() in body or traced.key.encode() in body for body in collector.bodies)
    assert any(span["name"] == "GET unmatched" for span in collector.spans())


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Takes the spans of this process."""
    taken = InMemorySpanExporter()
    tracing.start("test", SimpleSpanProcessor(taken))
    yield taken
    tracing.stop()


def test_what_jobs_share_stands_in_the_trace_of_each(exporter: InMemorySpanExporter) -> None:
    traces = [uuid.uuid4().hex, uuid.uuid4().hex]
    now = time.time()
    jobs = [
        tracing.JobTrace(
            dataclasses.replace(job("a red apple", "default"), trace=f"00-{trace}-{'1' * 16}-01", created_at=now - 2)
        )
        for trace in traces
    ]
    with tracing.shared("guardrails.generation", jobs):
        pass
    for one, status in zip(jobs, ("succeeded", "refused"), strict=True):
        with one.inside(), steps.span("guardrails.record"):
            pass
        one.end(status)
    for trace, status in zip(traces, ("succeeded", "refused"), strict=True):
        spans = {one.name: one for one in exporter.get_finished_spans() if f"{one.context.trace_id:032x}" == trace}
        assert sorted(spans) == ["guardrails.generation", "guardrails.record", "job", "job.wait"]
        assert spans["job"].attributes["guardrails.status"] == status  # type: ignore[index]
        assert spans["guardrails.generation"].attributes["guardrails.jobs_in_call"] == 2  # type: ignore[index]
        for name in ("guardrails.generation", "guardrails.record"):
            assert spans[name].parent.span_id == spans["job"].context.span_id  # type: ignore[union-attr]
        waited = spans["job.wait"]
        assert waited.end_time - waited.start_time >= 2e9  # type: ignore[operator]


def test_of_an_error_its_kind_alone_is_told(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), steps.span("outer", number=1), steps.span("inner"):
        raise ValueError("a secret prompt")
    inner, outer = exporter.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    for span in (inner, outer):
        assert "secret" not in span.to_json()
        assert span.attributes is not None
        assert span.attributes["error.type"] == "ValueError"
    exporter.clear()
    tracing.stop()
    with steps.span("nobody listens"):
        assert tracing.traceparent() == ""
        assert tracing.ids() == {}
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SERVICE_NAME": "pictures"},
    ],
)
def test_it_is_off_unless_an_exporter_is_named(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with tracing.process("test"), steps.span("step"):
        assert tracing.traceparent() == ""
        assert steps._opener is None


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
    ],
)
def test_what_is_not_spoken_is_said_at_the_start(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=r"OTEL_TRACES_EXPORTER|cannot be sent"):
        tracing.start("test")


def test_off_it_loads_nothing_of_the_sdk() -> None:
    import subprocess
    import sys

    code = (
        "import json, sys; from service import tracing; tracing.start('test')\n"
        "from guardrails.tracing import span\n"
        "with span('a'), tracing.span('b'): pass\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('opentelemetry')]))"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=plain, capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout) == []
