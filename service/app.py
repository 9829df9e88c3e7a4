"""The application: every surface behind one envelope."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from guardrails.errors import GuardrailsError
from guardrails.version import __version__
from service import pages
from service.api import (
    appeals,
    assets,
    batches,
    edits,
    errors,
    files,
    generations,
    health,
    jobs,
    log,
    lookups,
    models,
    moderations,
    provenance,
)
from service.api.batching import BatchRunner
from service.api.context import Context
from service.api.middleware import Envelope
from service.jobs.webhooks import Courier
from service.settings import Settings

_log = logging.getLogger(__name__)

_COURIER_SECONDS = 0.5
_BATCH_SECONDS = 0.2
_CLEANING_SECONDS = 60.0


def create_app(settings: Settings, context: Context | None = None) -> FastAPI:
    """The ASGI application of one API process.

    Raises:
        GuardrailsError: the database or a policy cannot be opened.
    """
    context = context or Context.open(settings)
    app = FastAPI(
        title="latent-guardrails",
        version=__version__,
        description="Pictures that were allowed, screened, marked, signed and recorded.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        # FastAPI's own spans and logs would hold paths, queries and messages.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.context = context
    app.openapi = functools.partial(_document, app)  # type: ignore[method-assign]
    errors.install(app)
    # Routes are tried in this order: what is asked most stands first.
    for part in (
        moderations,
        provenance,
        generations,
        edits,
        models,
        jobs,
        files,
        batches,
        appeals,
        log,
        assets,
        health,
    ):
        app.include_router(part.router)
    lookups.install(app, context)
    pages.install(app)
    app.add_middleware(
        Envelope,
        body_limit=settings.max_body_bytes,
        upload_limit=settings.max_upload_bytes,
        strict_transport=settings.behind_tls,
    )
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, without the 422 that FastAPI would answer to what cannot be read: here that is a 400."""
    if not app.openapi_schema:
        document = FastAPI.openapi(app)
        for operations in document["paths"].values():
            for operation in operations.values():
                if "HTTPValidationError" in str(operation["responses"].get("422", "")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
    return app.openapi_schema or {}


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    tasks = [
        asyncio.create_task(_repeat(Courier(context.database, context.settings).send_due, _COURIER_SECONDS)),
        asyncio.create_task(_repeat(BatchRunner(context).run_due, _BATCH_SECONDS)),
        asyncio.create_task(_repeat(lambda: clean(context), _CLEANING_SECONDS)),
    ]
    yield
    context.draining = True
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(work: Callable[[], object], seconds: float) -> None:
    while True:
        try:
            await run_in_threadpool(work)
        except GuardrailsError as error:
            _log.warning("background work failed: %s", error.code)
        except Exception as error:
            # It must go on; the traceback may quote a request, so only its kind is logged.
            _log.error("background work failed: %s", type(error).__name__)
        await asyncio.sleep(seconds)


def clean(context: Context) -> None:
    """Forget jobs, batches and files whose time is over, and pictures that were taken down or that no job answers for.

    Their records stay.
    """
    horizon = time.time() - max(context.settings.asset_seconds, context.settings.idempotency_seconds)
    for job in context.table.forget_before(horizon):
        for name in job.request.get("inputs", ()):
            (context.settings.uploads / name).unlink(missing_ok=True)
    context.takedowns.remove_files()
    context.batches.forget_before(time.time() - context.settings.file_seconds)
    context.files.forget_expired()
    context.limiter.forget_full()
    for path in context.settings.assets.glob("[0-9a-f]*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - context.settings.asset_seconds:
                path.unlink()
