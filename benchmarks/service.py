"""What a request costs the API process, and how long a picture takes around the model.

    python benchmarks/service.py

A real service on loopback with a drawing double for the model. Requests are sent one after the other over one
connection; what is counted is the processor time of the API process, which does not depend on what else the machine
does. Prints the table of docs/service.md.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import os
import statistics
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guardrails.domain.requests import PromptRequest
from guardrails.pipeline import Guard, Step
from guardrails.testing.doubles import FixedIndex, ShapeGenerator, passing_screens
from service.testing import Running, start_service

_TICKS = os.sysconf("SC_CLK_TCK")
PROMPT = "a watercolour painting of a quiet harbour with boats and gulls at dawn, soft light, wide view"


def processor_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Client:
    """One connection that is kept open."""

    def __init__(self, running: Running) -> None:
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(running.url).netloc, timeout=120)
        self._headers = {"Authorization": f"Bearer {running.key}"}

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        self._connection.request(method, path, body or None, self._headers | ({"Content-Type": kind} if body else {}))
        answer = self._connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data[:500]
        return data


def measure(running: Running, ask: Callable[[], object], count: int) -> tuple[float, float]:
    """Processor milliseconds of the API process for each request, and the median wall milliseconds."""
    for _ in range(20):
        ask()
    best, walls = float("inf"), []
    for _ in range(3):
        before = processor_seconds(running.process.pid)
        for _ in range(count):
            start = time.perf_counter()
            ask()
            walls.append((time.perf_counter() - start) * 1000)
        best = min(best, (processor_seconds(running.process.pid) - before) * 1000 / count)
    return best, statistics.median(walls)


def multipart(data: bytes, depth: str) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="depth"\r\n\r\n{depth}\r\n'
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return head.encode() + data + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def application_alone(text: bytes) -> dict[str, float]:
    """Processor milliseconds of the ASGI application, called in this process; the best of five rounds of 200."""
    from service.app import create_app
    from service.settings import Settings

    app = create_app(Settings(home=Path(tempfile.mkdtemp(prefix="application-"))))
    app.state.context.tenants.add("bench")
    key, _ = app.state.context.keys.create("bench", ("moderate",))
    common = {"type": "http", "http_version": "1.1", "scheme": "http", "query_string": b"", "root_path": ""}
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]

    async def ask(method: str, path: str, body: bytes) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            assert message.get("status", 200) == 200

        place = {"method": method, "path": path, "raw_path": path.encode(), "client": ("127.0.0.1", 1)}
        await app({**common, **place, "headers": headers, "server": ("127.0.0.1", 80)}, receive, send)  # type: ignore[arg-type]

    async def best(method: str, path: str, body: bytes) -> float:
        rounds = []
        for _ in range(6):
            before = time.process_time()
            for _ in range(200):
                await ask(method, path, body)
            rounds.append((time.process_time() - before) * 1000 / 200)
        return min(rounds)

    return {
        "healthz": asyncio.run(best("GET", "/healthz", b"")),
        "text moderation, word rules": asyncio.run(best("POST", "/v1/moderations", text)),
    }


def around_the_model(home: Path, count: int) -> dict[str, float]:
    """Median milliseconds of processor time between the steps of one 512 x 512 picture."""
    guard = Guard(ShapeGenerator(), screens=passing_screens(), index=FixedIndex(), home=home)
    spans: dict[str, list[float]] = {}
    for seed in range(count):
        last = time.process_time()

        def watch(step: Step, image_id: str) -> None:
            nonlocal last
            now = time.process_time()
            spans.setdefault(step.value, []).append((now - last) * 1000)
            last = now

        request = PromptRequest(prompt="a red apple", seed=seed, width=512, height=512)
        guard.generate_all(request, format="jpeg", out=home / "out", watch=watch)
        spans.setdefault("released", []).append((time.process_time() - last) * 1000)
    return {name: statistics.median(values[2:]) for name, values in spans.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="service-"))
    running = start_service(home, log_level="warning")
    running.key = running.add_key("bench")
    client = Client(running)
    try:
        made = json.loads(client.ask("POST", "/v1/images/generations", _json(output_format="jpeg", size="512x512")))
        file = base64.b64decode(made["data"][0]["b64_json"])
        padded, kind = multipart(file, "c2pa")
        text = json.dumps({"input": PROMPT, "guardrails": {"depth": "rules"}}).encode()
        whole = json.dumps({"input": PROMPT}).encode()
        rows = [
            ("healthz", asked.count, lambda: client.ask("GET", "/healthz")),
            ("text moderation, word rules", asked.count, lambda: client.ask("POST", "/v1/moderations", text)),
            (
                "text moderation, words and meaning",
                asked.count // 4,
                lambda: client.ask("POST", "/v1/moderations", whole),
            ),
            (
                f"manifest of a {len(file) // 1024} kB JPEG",
                asked.count // 4,
                lambda: client.ask("POST", "/v1/content_provenance_checks", padded, kind),
            ),
            ("generation, envelope alone", 40, lambda: client.ask("POST", "/v1/images/generations", _json())),
        ]
        print("| request | CPU ms of the API | a core answers, per second | median wall ms |")
        print("|---|---:|---:|---:|")
        for name, count, ask in rows:
            cpu, wall = measure(running, ask, count)
            print(f"| {name} | {cpu:.2f} | {1000 / cpu:.0f} | {wall:.1f} |", flush=True)
    finally:
        running.stop()
    print("\n| the application alone, without HTTP | CPU ms |\n|---|---:|")
    for name, milliseconds in application_alone(text).items():
        print(f"| {name} | {milliseconds:.2f} |")
    print("\n| around a 512 x 512 picture (JPEG) | median CPU ms |\n|---|---:|")
    names = {
        "screened": "screens (doubles)",
        "marked": "watermark in and read back",
        "signed": "encode, XMP, sign, verify, read the mark again, keep the manifest",
        "recorded": "record, durable",
        "released": "the file gets its name",
    }
    for name, milliseconds in around_the_model(Path(tempfile.mkdtemp(prefix="guard-")), 25).items():
        if name in names:
            print(f"| {names[name]} | {milliseconds:.1f} |")
    return 0


def _json(**options: object) -> bytes:
    return json.dumps({"prompt": "a red apple", **options}).encode()


if __name__ == "__main__":
    raise SystemExit(main())
