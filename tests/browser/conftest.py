"""A real Chromium before a real service."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from guardrails.similarity.banks import Role
from guardrails.testing.banks import bank_of
from guardrails.testing.doubles import draw_shapes, draw_textures
from service.testing import Running, start_service

CHROMIUM = "/usr/bin/chromium"
PASSWORD = "a long enough password"
# What the bank `posters` says of its one work.
POSTER = {"licence": "LicenseRef-contract", "creator": "Ada <b>Print</b>", "reservation": "claim 9", "title": "Poster"}
# Every picture is held: the screen double scores 0.01, and this rule speaks from there.
HOLDING = """
api_version: policy/v1
id: holding
version: "1"
extends: [default]
description: Holds every picture for a review.
screen_rules:
  - id: TEST-HOLD-01
    category: violence
    action: review
    screen: clip-concepts
    concept: weapon
    threshold: 0.01
    error_rate: none, a rule for tests
    when_unavailable: block
    message: The picture may show a weapon.
"""


@pytest.fixture(scope="session")
def site(keyed_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with accounts, whose pack `holding` holds every picture."""
    folder = tmp_path_factory.mktemp("site")
    home = Path(shutil.copytree(keyed_home, folder / "home"))
    (folder / "holding.yaml").write_text(HOLDING)
    bank_of(folder / "posters", Role.PROTECTED, {"deep/poster.png": draw_shapes(77)}, POSTER)
    _brand(folder)
    running = start_service(
        home,
        policies=str(folder / "holding.yaml"),
        public_per_minute=1000,
        works="guardrails.testing.works:drawn",
        banks=f"{folder / 'posters'},{folder / 'brand'}",
    )
    running.key = running.add_key("acme")
    running.admin.persons.add("maria", PASSWORD, ("playground", "reviewer", "auditor", "admin"))
    running.admin.persons.add("noor", PASSWORD, ("reviewer",))
    yield running
    running.stop()


def _brand(folder: Path) -> None:
    """A bank whose works are found in part: one has its picture in a folder, the other has not."""
    works = {"logo.png": draw_textures(1), "lost.png": draw_textures(2)}
    store = bank_of(folder / "brand", Role.PROTECTED, works, {"title": "Logo"}, keypoints=True)
    (folder / "artwork").mkdir()
    Image.fromarray(works["logo.png"]).save(folder / "artwork" / "logo.png")
    store.configure(store.settings | {"pictures": str(folder / "artwork")})


@pytest.fixture(scope="session")
def holding(site: Running) -> str:
    """The name of the pack that holds every picture."""
    return str(site.home.parent / "holding.yaml")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip("there is no Chromium here")
    # A machine under load is slow, not wrong.
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def signed_in(site: Running, chromium: Browser) -> Callable[[str], Any]:
    """The cookies of a person who has signed in; once for all tests, as tries are limited."""
    states: dict[str, Any] = {}

    def of(person: str) -> Any:
        if person not in states:
            context = chromium.new_context(base_url=site.url)
            page = context.new_page()
            page.goto("/signin?next=/review")
            page.fill("#name", person)
            page.fill("#password", PASSWORD)
            page.click("button.primary")
            page.wait_for_url("**/review")
            states[person] = context.storage_state()
            context.close()
        return states[person]

    return of


@pytest.fixture
def visit(site: Running, chromium: Browser, signed_in: Callable[[str], Any]) -> Iterator[Callable[..., Page]]:
    """Opens pages as somebody; the test fails when a page wrote an error to the console."""
    contexts, problems = [], []

    def note(message: ConsoleMessage) -> None:
        # What the server refuses on purpose is shown there too, and is checked by the test itself.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            problems.append(message.text)

    def open_page(path: str, person: str = "", **options: Any) -> Page:
        if person:
            options["storage_state"] = signed_in(person)
        context = chromium.new_context(base_url=site.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", note)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
