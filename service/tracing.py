"""OpenTelemetry: one trace from a request to the release of its pictures, through all processes.

::

    POST /v1/images/generations             API
      job.wait, job                         worker; the job's row carries the context
        guardrails.prompt
        guardrails.generation               one for each job of a call of the model
        guardrails.screening, guardrails.screen for each, guardrails.similarity
        guardrails.watermark
        guardrails.provenance
          signer.request                    worker
            signer.sign                     signer
        guardrails.record, guardrails.release

Off unless an exporter or its address is named by the variables of OpenTelemetry; then they alone configure it. Spans
hold names, numbers and ids of ours: no prompt, no key, no path or query of a request, and of an error its kind alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from guardrails import tracing
from guardrails.errors import OptionError
from guardrails.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, SpanKind, Tracer

    from service.jobs.model import Job

_ADDRESSES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"

# Not the global provider: what else it reached would write down paths and queries.
_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def start(role: str, processor: SpanProcessor | None = None) -> None:
    """Trace this process, if the environment asks for it.

    Args:
        role: of the process, for example "worker".
        processor: takes the spans, whatever the environment says.

    Raises:
        OptionError: the environment names an exporter or a protocol that is not spoken here.
    """
    if processor is None and not _is_asked_for(os.environ):
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _provider, _tracer
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    names = {"guardrails.role": role} | ({} if named else {"service.name": "latent-guardrails"})
    _provider = TracerProvider(resource=Resource.create(names))
    if processor is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        processor = BatchSpanProcessor(OTLPSpanExporter())
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("latent-guardrails", __version__)
    tracing.use(lambda name, attributes: span(name, attributes))


def stop() -> None:
    """Hand over what has not been sent yet."""
    global _provider, _tracer
    tracing.use(None)
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


@contextlib.contextmanager
def process(role: str) -> Iterator[None]:
    """Trace this process from here to the end of the block, if the environment asks for it; see `start`."""
    start(role)
    try:
        yield
    finally:
        stop()


@contextlib.contextmanager
def span(
    name: str, attributes: Mapping[str, Any] | None = None, *, parent: str = "", kind: str = "INTERNAL"
) -> Iterator[Span | None]:
    """A step of this process; None when nothing is traced.

    Args:
        parent: a traceparent of another process; the step that is open here when empty.
        kind: INTERNAL, SERVER, CLIENT, PRODUCER or CONSUMER.
    """
    if _tracer is None:
        yield None
        return
    opened = _tracer.start_span(name, _context(parent), _kind(kind), attributes)
    try:
        with _within(opened):
            yield opened
    finally:
        opened.end()


def traceparent() -> str:
    """The open step, as W3C Trace Context writes it; "" when nothing is traced."""
    if _tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the open step, for the log."""
    if _tracer is None:
        return {}
    from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}


class JobTrace:
    """The span of a job in its worker. It is entered and left as the worker turns to the job and to others."""

    def __init__(self, job: Job) -> None:
        self._span: Span | None = None
        if _tracer is None:
            return
        parent = _context(job.trace)
        waited = _tracer.start_span("job.wait", parent, start_time=int(job.created_at * 1e9))
        waited.end()
        self._span = _tracer.start_span("job", parent, _kind("CONSUMER"))
        self._span.set_attribute("guardrails.job", job.id)
        self._span.set_attribute("guardrails.attempt", job.attempts)
        self._span.set_attribute("guardrails.pictures", len(job.ids))

    def inside(self) -> AbstractContextManager[object]:
        """What happens in the `with` block belongs to the job."""
        return contextlib.nullcontext() if self._span is None else _within(self._span)

    def end(self, status: str) -> None:
        """The job is over, or lost to another worker."""
        if self._span is not None:
            self._span.set_attribute("guardrails.status", status)
            self._span.end()


@contextlib.contextmanager
def shared(name: str, jobs: Sequence[JobTrace]) -> Iterator[None]:
    """A step that several jobs take together; it stands in the trace of each."""
    spans: list[Span] = []
    if _tracer is not None:
        for job in jobs:
            with job.inside():
                spans.append(_tracer.start_span(name, attributes={"guardrails.jobs_in_call": len(jobs)}))
    try:
        yield
    finally:
        for opened in spans:
            opened.end()


def answered(method: str, route: str, status: int, request_id: str) -> None:
    """Name the open request by its route: its path and query may hold anything."""
    if _tracer is None:
        return
    from opentelemetry.trace import Status, StatusCode, get_current_span

    current = get_current_span()
    current.update_name(f"{method} {route}")
    current.set_attributes(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "guardrails.request_id": request_id,
        }
    )
    if status >= 500:
        current.set_status(Status(StatusCode.ERROR))


def _is_asked_for(environment: Mapping[str, str]) -> bool:
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    if not exporter and not any(environment.get(name) for name in _ADDRESSES):
        return False
    if exporter not in ("", "otlp"):
        raise OptionError(f"OTEL_TRACES_EXPORTER is {exporter!r}", hint="traces go out by otlp alone; or write none")
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _SPOKEN)
    if protocol != _SPOKEN:
        raise OptionError(f"traces cannot be sent by {protocol!r}", hint=f"set {_PROTOCOLS[1]} to {_SPOKEN}")
    return True


@contextlib.contextmanager
def _within(opened: Span) -> Iterator[None]:
    from opentelemetry.trace import Status, StatusCode, use_span

    with use_span(opened, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            # Its message may quote what a user wrote.
            opened.set_attribute("error.type", type(error).__name__)
            opened.set_status(Status(StatusCode.ERROR))
            raise


def _context(parent: str) -> Context | None:
    if not parent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _kind(name: str) -> SpanKind:
    from opentelemetry.trace import SpanKind

    return SpanKind[name]
