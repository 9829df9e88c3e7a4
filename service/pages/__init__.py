"""Pages for people: server-rendered, with a little JavaScript of our own and nothing from elsewhere.

::

    site.py        templates, the content policy, sessions, forms that cannot be forged
    signing_in.py  sign in and out
    verifying.py   the public page: does this file come from here?
    playground.py  try prompts, see which words a rule looks at
    reviewing.py   held requests and appeals
    searching.py   the audit search
    exploring.py   what a picture is near in the indexes, whose that is, and where they agree
    policies.py    rules in force, in shadow, and what another pack would have decided
    dashboard.py   volumes, reasons, latency, false positives, health
    charts.py      plots as SVG
"""

from __future__ import annotations

from fastapi import FastAPI

from service.pages import dashboard, exploring, playground, policies, reviewing, searching, signing_in, site, verifying


def install(app: FastAPI) -> None:
    """Add all pages to the application."""
    site.install(app)
    for part in (signing_in, verifying, playground, reviewing, searching, exploring, policies, dashboard):
        app.include_router(part.router, include_in_schema=False)
