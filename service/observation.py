"""What operators see: Prometheus metrics, and log lines as JSON. Neither ever holds a prompt, a key or a file name."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service import tracing

REGISTRY = CollectorRegistry()

HTTP_REQUESTS = Counter(
    "guardrails_http_requests_total", "Requests by route and status", ["method", "route", "status"], registry=REGISTRY
)
HTTP_SECONDS = Histogram("guardrails_http_request_seconds", "Seconds to answer", ["route"], registry=REGISTRY)
JOBS = Gauge("guardrails_jobs", "Jobs by status", ["status"], registry=REGISTRY)
MODERATIONS = Counter("guardrails_moderations_total", "Moderated inputs by result", ["flagged"], registry=REGISTRY)
VERIFICATIONS = Counter("guardrails_verifications_total", "Checked files by verdict", ["verdict"], registry=REGISTRY)
UP = Gauge("guardrails_component_up", "1 when a part answers", ["component"], registry=REGISTRY)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            **tracing.ids(),
        }
        # Access lines are JSON already.
        line |= json.loads(message) if record.name == "service.access" else {"message": message}
        if record.exc_info and record.exc_info[0] is not None:
            # The text of an exception, and the lines of code in a traceback, may quote what a user wrote.
            line["exception"] = record.exc_info[0].__name__
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                line["where"] = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        return json.dumps(line)


def log_to_stderr(level: str) -> None:
    """Send the log of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Uvicorn's own lines of access hold whole addresses, with their query.
    logging.getLogger("uvicorn.access").disabled = True
