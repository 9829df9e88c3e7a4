"""The pages as people meet them, in a real browser: what is shown, what the keyboard does, what is refused."""

from __future__ import annotations

import base64
import io
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from guardrails import home as homes
from guardrails.similarity.banks import Role
from guardrails.testing.banks import bank_of
from guardrails.testing.doubles import draw_shapes, draw_textures
from service.testing import Running

Visit = Callable[..., Page]
# Held by a word rule; of two short words nothing else speaks.
HELD = "n4k3d"
PASSWORD = "a long enough password"
SHOTS = os.environ.get("GUARDRAILS_SCREENSHOTS", "")


def a_new_word() -> str:
    """Eight letters that no rule looks for and no request had before."""
    return "".join(secrets.choice("bdglmpvw") for _ in range(8))


def made(site: Running, **options: Any) -> tuple[bytes, str]:
    """A released picture and its record."""
    item = site.client(max_retries=0).images.generate(prompt="a red apple", **options).data[0]
    return base64.b64decode(item.b64_json), item.model_extra["guardrails"]["record_id"]


def held(site: Running, prompt: str = HELD, **options: Any) -> str:
    """The id of a held request's decision."""
    with pytest.raises(openai.BadRequestError) as refused:
        site.client(max_retries=0).images.generate(prompt=f"{prompt} {a_new_word()}", **options)
    assert refused.value.body["guardrails"]["review"] == "waiting"
    return str(refused.value.body["guardrails"]["decision_id"])


def drop(page: Page, data: bytes, name: str = "picture.png", kind: str = "image/png") -> None:
    """Drop a file on the form, as a mouse does."""
    transfer = page.evaluate_handle(
        """([bytes, name, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type }));
            return transfer;
        }""",
        [base64.b64encode(data).decode(), name, kind],
    )
    page.dispatch_event("form.drop", "drop", {"dataTransfer": transfer})


# --- Verify ------------------------------------------------------------------------------------------------------


def test_a_dropped_picture_of_ours_is_confirmed(site: Running, visit: Visit) -> None:
    data, record = made(site)
    page = visit("/verify")
    drop(page, data)
    expect(page.locator("#verdict")).to_have_text("Made here")
    expect(page.locator(".report")).to_contain_text(record)
    expect(page.locator(".layers .card.good")).to_have_count(3)
    expect(page.locator("#preview")).to_be_visible()
    expect(page.locator("#verdict")).to_be_focused()


def test_a_chosen_foreign_picture_is_not_called_human_made(visit: Visit, tmp_path: Path) -> None:
    Image.fromarray(draw_shapes(5)).save(tmp_path / "foreign.png")
    page = visit("/verify")
    page.set_input_files("#file", tmp_path / "foreign.png")
    expect(page.locator("#verdict")).to_have_text("Nothing found")
    expect(page.locator(".report")).to_contain_text("does not mean")


def test_a_picture_without_its_metadata_is_recovered(site: Running, visit: Visit) -> None:
    data, _ = made(site)
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(file, "JPEG", quality=70)
    page = visit("/verify")
    drop(page, file.getvalue(), "copy.jpg", "image/jpeg")
    expect(page.locator("#verdict")).to_have_text("Made here, changed since")


def test_a_file_that_is_no_picture(visit: Visit) -> None:
    page = visit("/verify")
    drop(page, b"%PDF-1.7 not a picture", "a.pdf", "application/pdf")
    expect(page.locator("#verdict")).to_have_text("Not a readable picture")


def test_verifying_works_without_javascript(site: Running, visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "ours.png").write_bytes(made(site)[0])
    page = visit("/verify", java_script_enabled=False)
    page.set_input_files("#file", tmp_path / "ours.png")
    page.click("#check")
    expect(page.locator("#verdict")).to_have_text("Made here")


def test_markup_in_a_file_is_shown_as_text(visit: Visit, tmp_path: Path) -> None:
    # The name of a file and what lies in it are a stranger's words.
    name = "<img src=x onerror=document.title='owned'>.png"
    page = visit("/verify")
    drop(page, b"<script>document.title='owned'</script>", name)
    expect(page.locator("#verdict")).to_be_visible()
    assert page.title().startswith("Verify a picture")


# --- Sign-in -----------------------------------------------------------------------------------------------------


def test_pages_for_people_ask_who_is_there(visit: Visit) -> None:
    page = visit("/review")
    expect(page).to_have_url(re.compile(r"/signin\?next=/review$"))
    page.fill("#name", "maria")
    page.fill("#password", "a wrong password")
    page.click("button.primary")
    expect(page.get_by_role("alert")).to_contain_text("wrong")


def test_a_role_opens_its_own_pages_only(visit: Visit) -> None:
    page = visit("/review", "noor")
    expect(page.get_by_role("link", name="Audit")).to_have_count(0)
    page.goto("/audit")
    expect(page.get_by_role("alert")).to_contain_text("role auditor")


def test_after_signing_out_the_pages_are_closed(site: Running, visit: Visit) -> None:
    site.admin.persons.add("lea", PASSWORD, ("reviewer",))
    page = visit("/review", "lea")
    page.get_by_role("button", name="Sign out lea").click()
    page.goto("/review")
    expect(page.locator("#password")).to_be_visible()


def test_a_form_from_elsewhere_or_without_its_token_is_refused(site: Running, visit: Visit) -> None:
    review = held(site)
    page = visit("/review", "noor")
    for headers in ({"x-csrf": "0" * 64}, {"x-csrf": "0" * 64, "origin": "https://elsewhere.example"}):
        answer = page.request.post(f"{site.url}/review/{review}/claim", headers=headers)
        assert answer.status == 403


def test_the_content_policy_stops_scripts_of_others(visit: Visit, site: Running) -> None:
    answer = visit("/verify").request.get(f"{site.url}/verify")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in policy


# --- Playground --------------------------------------------------------------------------------------------------


def test_words_are_marked_while_one_types(visit: Visit) -> None:
    page = visit("/playground", "maria")
    page.keyboard.type("please draw a n4k3d woman")
    expect(page.locator("#marks mark")).to_have_text("n4k3d")
    expect(page.locator("#explanation .verdict")).to_have_text("block")
    expect(page.locator("#explanation")).to_contain_text("SEXUAL-02")
    page.fill("#prompt", "🦊🦊 a n4k3d woman")
    expect(page.locator("#marks mark")).to_have_text("n4k3d")
    page.fill("#prompt", "a watercolour of a harbour")
    expect(page.locator("#explanation .verdict")).to_have_text("allow")
    expect(page.locator("#marks mark")).to_have_count(0)


def test_a_picture_is_made_and_shown_with_its_evidence(visit: Visit) -> None:
    page = visit("/playground", "maria")
    page.fill("#prompt", "a red apple on a table")
    page.fill("#seed", "7")
    page.click("#generate")
    image = page.locator("#result img")
    expect(image).to_be_visible()
    assert page.evaluate("document.querySelector('#result img').naturalWidth") > 0
    expect(page.locator("#result")).to_contain_text("trusted")
    expect(page.locator("#status")).to_contain_text("succeeded")


def test_a_refusal_is_explained(visit: Visit) -> None:
    page = visit("/playground", "maria")
    page.fill("#prompt", "guardrails test minor guardrails test explicit")
    page.click("#generate")
    expect(page.locator("#result .note.bad")).to_be_visible()


# --- Reviews and appeals -----------------------------------------------------------------------------------------


def test_two_people_release_a_held_picture_by_keyboard(site: Running, holding: str, visit: Visit) -> None:
    options = {"policy": holding, "seed": 11}
    review = held(site, "a red apple", extra_body={"guardrails": options})
    first = visit(f"/review/{review}", "maria")
    picture = first.locator("#picture")
    expect(picture).to_have_class("covered")
    first.keyboard.press("v")
    expect(picture).to_have_class("")
    assert first.evaluate("document.querySelector('#picture').naturalWidth") > 0
    _decide(first, "a", "It shows an apple.")
    again = visit(f"/review/{review}", "maria")
    expect(again.locator(".thread")).to_contain_text("reveal")
    _decide(again, "a", "Once more.", leaves=False)
    expect(again.get_by_role("alert")).to_contain_text("counts once")
    second = visit(f"/review/{review}", "noor")
    _decide(second, "a", "An apple indeed.")
    (job,) = [job for job in _jobs(site) if job["status"] != "held"][:1]
    for _ in range(200):
        job = site.client().get(f"/jobs/{job['id']}", cast_to=object)
        if job["status"] not in ("queued", "running"):
            break
        second.wait_for_timeout(100)
    assert job["status"] == "succeeded"
    evidence = job["result"]["data"][0]["guardrails"]
    assert [(finding["rule"], finding["action"]) for finding in evidence["findings"]] == [("TEST-HOLD-01", "flag")]


def _jobs(site: Running) -> list[dict[str, Any]]:
    answer: Any = site.client().get("/jobs", cast_to=object)
    return list(answer["data"])


def _decide(page: Page, key: str, reason: str, *, leaves: bool = True) -> None:
    page.keyboard.press("r")
    page.keyboard.type(reason)
    page.keyboard.press("Escape")
    page.keyboard.press(key)
    if leaves:
        page.wait_for_url("**/review")


def test_one_person_refuses(site: Running, visit: Visit) -> None:
    review = held(site)
    page = visit("/review", "noor")
    page.goto(f"/review/{review}")
    expect(page.locator("#asked")).to_contain_text(HELD)
    _decide(page, "x", "No person agreed to this.")
    page.goto(f"/review/{review}")
    expect(page.locator("main")).to_contain_text("refused")
    expect(page.locator("#decide")).to_have_count(0)
    expect(page.locator("#asked")).to_have_count(0)


def test_nobody_decides_on_their_own_request(site: Running, visit: Visit) -> None:
    page = visit("/playground", "maria")
    page.fill("#prompt", f"{HELD} {a_new_word()}")
    page.click("#generate")
    expect(page.locator("#result .note.bad")).to_contain_text("waits for a review")
    page.goto("/review")
    page.locator("#queue tbody tr").last.get_by_role("link").click()
    _decide(page, "a", "I like it.", leaves=False)
    expect(page.get_by_role("alert")).to_contain_text("own request")


def test_the_queue_is_walked_by_keyboard(site: Running, visit: Visit) -> None:
    held(site), held(site)
    page = visit("/review", "noor")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator("tr.chosen a")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/review/*")


def test_an_appeal_is_answered_and_counted(site: Running, visit: Visit) -> None:
    decision = held(site)
    client = site.client()
    body = {"decision_id": decision, "text": "<b>It is a statue.</b>"}
    appeal: Any = client.post("/appeals", body=body, cast_to=object)
    page = visit("/appeals", "maria")
    page.goto(f"/appeals/{appeal['id']}")
    expect(page.locator(".thread")).to_contain_text("<b>It is a statue.</b>")
    expect(page.locator("blockquote")).to_contain_text(HELD)
    page.fill("#text", "Which museum?")
    page.click("#reply")
    expect(page.locator(".thread li")).to_have_count(2)
    page.fill("#text", "You are right.")
    page.click("#overturn")
    expect(page.locator("main")).to_contain_text("overturned")
    answered: Any = client.get(f"/appeals/{appeal['id']}", cast_to=object)
    assert answered["status"] == "overturned"
    assert [message["author"] for message in answered["messages"]] == ["tenant", "reviewer", "reviewer"]
    page.goto("/dashboard")
    expect(page.get_by_label("Share of decisions that people overturned")).to_be_visible()


# --- Audit, policy, dashboard ------------------------------------------------------------------------------------


def test_the_search_finds_by_id_rule_day_picture_and_prompt(site: Running, visit: Visit, tmp_path: Path) -> None:
    data, record = made(site)
    prompt = f"a blue boat {a_new_word()}"
    other = site.client().images.generate(prompt=prompt).data[0].model_extra["guardrails"]["record_id"]
    refused = held(site)
    (tmp_path / "ours.png").write_bytes(data)
    page = visit("/audit", "maria")

    def results() -> str:
        return page.locator("#results").inner_html()

    page.fill("#id", record)
    page.click("#search")
    expect(page.locator("#results tbody tr")).to_have_count(1)
    assert record in results()
    page.fill("#id", "")
    page.fill("#rule", "SEXUAL-02")
    page.click("#search")
    assert refused in results()
    assert record not in results()
    page.set_input_files("#picture", tmp_path / "ours.png")
    page.click("#search-content")
    expect(page.locator("main")).to_contain_text("Confirmed")
    assert record in results()
    page.fill("#prompt", prompt)
    page.click("#search-content")
    assert other in results()
    assert record not in results()
    page.locator("#results a").first.click()
    expect(page.locator("main")).to_contain_text("Proven in the log")
    expect(page.locator("main")).to_contain_text("open-nsfw")


def test_the_search_shows_what_people_did(site: Running, visit: Visit) -> None:
    review, reason = held(site), f"Refused as {a_new_word()}."
    _decide(visit(f"/review/{review}", "noor"), "x", reason)
    page = visit("/audit", "maria")
    page.select_option("#kind", "act")
    page.fill("#id", review)
    page.click("#search")
    expect(page.locator("#acts tbody tr")).to_have_count(1)
    expect(page.locator("#acts")).to_contain_text("person:noor")
    page.locator("#acts a").click()
    expect(page.locator("main")).to_contain_text("Proven in the log")
    expect(page.locator("main")).to_contain_text("review.refuse")
    expect(page.locator("main")).to_contain_text(reason)


def test_the_policy_page_compares_packs_on_recent_requests(site: Running, holding: str, visit: Visit) -> None:
    held(site)
    page = visit("/policy", "maria")
    expect(page.get_by_role("cell", name="SEXUAL-02")).to_be_visible()
    page.select_option("#against", holding)
    page.click("#show")
    expect(page.locator("#difference")).to_contain_text("recent prompts")


def test_the_dashboard_draws_what_happened(site: Running, visit: Visit) -> None:
    made(site)
    held(site)
    page = visit("/dashboard", "maria")
    expect(page.get_by_label("Pictures released and refused by hour")).to_be_visible()
    expect(page.get_by_label("Refusals by category")).to_contain_text("sexual")
    expect(page.get_by_role("cell", name="open-nsfw")).to_be_visible()


# --- Explorer ----------------------------------------------------------------------------------------------------


def work(number: int, mirrored: bool = False) -> bytes:
    """A copy of a work of the index, saved anew."""
    pixels = draw_shapes(number)[:, ::-1] if mirrored else draw_shapes(number)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return file.getvalue()


def test_a_dropped_copy_is_shown_beside_its_work_with_its_rights(visit: Visit) -> None:
    page = visit("/explore", "maria")
    drop(page, work(3, mirrored=True), "copy.jpg", "image/jpeg")
    expect(page.locator("#verdict")).to_have_text("Repeats a known work")
    expect(page.locator("#verdict")).to_be_focused()
    first = page.locator(".neighbour").first
    expect(first).to_contain_text("shapes:3")
    expect(first.locator(".grade")).to_contain_text("of 5")
    for words in ("MIT", "permissive", "artist 3", "drawn@1", "drawn shapes", "opted out", "of 5,100"):
        expect(first).to_contain_text(words)
    expect(first.get_by_role("link", name="MIT")).to_have_attribute("href", "https://opensource.org/license/mit")
    expect(first.locator("summary")).to_contain_text("tiles agree")
    expect(first.locator(".without-script")).to_be_hidden()
    agreeing = int(first.locator("summary").inner_text().split()[0])
    assert agreeing >= 30
    assert first.locator(".laid").first.locator("g.agrees").count() == agreeing
    widths = page.evaluate(
        "[...document.querySelectorAll('.neighbour:first-child img')].map((one) => one.naturalWidth)"
    )
    assert len(widths) == 3
    assert min(widths) > 0
    table = page.locator("#searched")
    expect(table).to_contain_text("PDQ within 60 of 256 bits")
    expect(table).to_contain_text("posters")
    expect(table).to_contain_text("3.8e-06, one pair in 263,158")


def test_a_match_by_hash_alone_accuses_nobody(visit: Visit) -> None:
    page = visit("/explore", "maria")
    drop(page, work(77), "copy.jpg", "image/jpeg")
    expect(page.locator("#verdict")).to_have_text("Near by hash, no more")
    found = page.locator(".neighbour")
    expect(found).to_have_count(1)
    # What a collection says is shown as text.
    for words in ("Poster", "deep/poster.png", "Ada <b>Print</b>", "LicenseRef-contract", "opted out", "grade 1 of 5"):
        expect(found).to_contain_text(words)
    expect(found.locator("details")).to_have_count(0)
    image = found.locator(".thumb img")
    expect(image).to_be_visible()
    assert image.evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 0


def scene(number: int) -> bytes:
    """A picture with a brand's work in it, turned to its side and cut off by the left edge."""
    pixels = np.full((400, 640, 3), (200, 220, 240), np.uint8)
    pixels[260:] = (90, 140, 80)
    pixels[60:316, :192] = np.rot90(draw_textures(number)[64:])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def test_a_part_is_framed_on_both_pictures_with_its_own_error_rate(visit: Visit) -> None:
    page = visit("/explore", "maria")
    drop(page, scene(1), "scene.jpg", "image/jpeg")
    expect(page.locator("#verdict")).to_have_text("Repeats a known work")
    first = page.locator(".neighbour").first
    for words in (
        "logo.png",
        "found by keypoints alone",
        "keypoints agree on where",
        "turned 270",
        "where keypoints agree",
    ):
        expect(first).to_contain_text(words)
    frames = first.locator(".found rect.part")
    expect(frames).to_have_count(2)
    # What is seen of the work: in the scene, and in the work, three quarters of it.
    wanted = ([0, 60 / 400, 192 / 640, 256 / 400], [0, 0.25, 1, 0.75])
    for number, sides in enumerate(wanted):
        image = first.locator(".found img").nth(number)
        expect(image).to_be_visible()
        assert image.evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 0
        drawn, whole = frames.nth(number).bounding_box(), image.bounding_box()
        assert drawn is not None
        assert whole is not None
        seen = [
            (drawn["x"] - whole["x"]) / whole["width"],
            (drawn["y"] - whole["y"]) / whole["height"],
            drawn["width"] / whole["width"],
            drawn["height"] / whole["height"],
        ]
        assert seen == pytest.approx(sides, abs=0.03)
    assert first.locator(".compared .laid").first.locator("g.agrees").count() >= 30
    expect(page.locator("#searched")).to_contain_text("parts of works: 4 keypoints agree")


def test_a_part_of_a_work_that_is_not_at_hand_accuses_nobody(visit: Visit) -> None:
    page = visit("/explore", "maria")
    drop(page, scene(2), "scene.jpg", "image/jpeg")
    expect(page.locator("#verdict")).to_have_text("Seems to show a part of a work")
    first = page.locator(".neighbour").first
    for words in ("lost.png", "grade 1 of 5", "Pixels were not compared"):
        expect(first).to_contain_text(words)
    expect(first.locator(".found rect.part")).to_have_count(2)
    expect(first.locator(".compared")).to_have_count(0)


def test_what_is_not_found_is_said_with_the_size_of_the_index(visit: Visit) -> None:
    page = visit("/explore", "maria")
    drop(page, work(4242))
    expect(page.locator("#verdict")).to_have_text("None found")
    expect(page.locator(".report")).to_contain_text("None of 15 works")
    blank = io.BytesIO()
    Image.new("RGB", (90, 90), "white").save(blank, "PNG")
    drop(page, blank.getvalue())
    expect(page.locator("#verdict")).to_have_text("Too plain to be searched")
    drop(page, b"no picture")
    expect(page.get_by_role("alert")).to_be_visible()


def test_exploring_by_keyboard(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "copy.jpg").write_bytes(work(5))
    page = visit("/explore", "maria")
    page.set_input_files("#file", tmp_path / "copy.jpg")
    expect(page.locator("#verdict")).to_be_focused()
    tiles = page.locator(".laid svg").first
    expect(tiles).to_be_visible()
    # Licence, summary, the box that hides the tiles.
    page.keyboard.press("Tab")
    expect(page.locator(".neighbour a").first).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator(".neighbour summary").first).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(tiles).to_be_hidden()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".pair").first).to_be_hidden()


def test_exploring_works_without_javascript(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "copy.jpg").write_bytes(work(6))
    page = visit("/explore", "maria", java_script_enabled=False)
    page.set_input_files("#file", tmp_path / "copy.jpg")
    page.click("#check")
    expect(page.locator("#verdict")).to_have_text("Repeats a known work")
    expect(page.locator(".neighbour").first).to_contain_text("shapes:6")
    expect(page.locator(".neighbour .without-script").first).to_be_visible()


def test_the_explorer_and_its_thumbnails_are_for_auditors(site: Running, visit: Visit) -> None:
    page = visit("/explore", "noor")
    expect(page.get_by_role("alert")).to_contain_text("role auditor")
    thumbnail = f"{site.url}/explore/thumbnail?index=posters&entry=deep/poster.png"
    assert page.request.get(thumbnail).status == 403
    allowed = visit("/explore", "maria")
    assert allowed.request.get(thumbnail).headers["content-type"] == "image/webp"
    for query in ("index=posters&entry=nothing", "index=nothing&entry=x", "index=works&entry=../keys"):
        assert allowed.request.get(f"{site.url}/explore/thumbnail?{query}").status == 404
    answer = allowed.request.post(f"{site.url}/explore", multipart={"csrf": "0" * 64})
    assert answer.status == 403


def test_nothing_of_a_dropped_picture_is_kept(site: Running, visit: Visit) -> None:
    # Incompressible, and larger than what a form keeps in memory.
    noise = np.random.default_rng(5).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    data = file.getvalue()
    page = visit("/explore", "maria")
    drop(page, data)
    expect(page.locator("#verdict")).to_be_visible()
    needle = data[2000:2032]
    kept = [path for path in site.home.rglob("*") if path.is_file() and needle in path.read_bytes()]
    assert kept == []


def test_a_picture_on_a_hash_list_is_not_shown(site: Running, visit: Visit) -> None:
    lists = homes.hash_lists_folder(site.home) / "example-list"
    bank_of(lists, Role.SENSITIVE, {"entry-17": draw_shapes(9)})
    try:
        page = visit("/explore", "maria")
        drop(page, work(9), "copy.jpg", "image/jpeg")
        expect(page.get_by_role("alert")).to_contain_text("on a list")
        expect(page.locator(".neighbour")).to_have_count(0)
        refused = site.client(max_retries=0)
        with pytest.raises(openai.BadRequestError) as error:
            refused.images.generate(prompt=f"a red apple {a_new_word()}", extra_body={"guardrails": {"seed": 9}})
        page.goto(f"/review/{error.value.body['guardrails']['decision_id']}")
        expect(page.locator("main")).to_contain_text("example-list")
        expect(page.locator("#picture, #asked, #release")).to_have_count(0)
        _decide(page, "x", "Told the owner of the list.")
    finally:
        shutil.rmtree(lists)


@pytest.mark.parametrize(
    "path", ["/verify", "/playground", "/review", "/appeals", "/audit", "/explore", "/policy", "/dashboard"]
)
def test_every_control_has_a_name_and_the_page_fits_a_phone(path: str, visit: Visit) -> None:
    page = visit(path, "maria", viewport={"width": 375, "height": 740})
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a")].filter((one) =>
            !(one.labels && one.labels.length) && !one.textContent.trim() && !one.getAttribute("aria-label"))
            .map((one) => one.outerHTML)"""
    )
    assert unnamed == []
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_dark_and_light(visit: Visit) -> None:
    page = visit("/verify", color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("device", ["phone", "desk"])
def test_text_stands_out(scheme: str, device: str, site: Running, holding: str, visit: Visit) -> None:
    """Contrast by WCAG 2.2, 1.4.3: at least 4.5 to 1; with GUARDRAILS_SCREENSHOTS the pages are kept as pictures."""
    size = {"width": 390, "height": 844} if device == "phone" else {"width": 1280, "height": 860}
    page = visit("/verify", "maria", viewport=size, color_scheme=scheme)
    data, record = made(site)
    review = held(site, "a red apple", extra_body={"guardrails": {"policy": holding}})
    drop(page, data)
    expect(page.locator("#verdict")).to_be_visible()
    _keep(page, f"verify-{device}-{scheme}")
    assert _faint(page) == []
    page.goto("/explore")
    drop(page, work(3, mirrored=True), "copy.jpg", "image/jpeg")
    expect(page.locator("#verdict")).to_be_visible()
    _keep(page, f"explore-{device}-{scheme}")
    assert _faint(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    drop(page, scene(1), "scene.jpg", "image/jpeg")
    expect(page.locator(".found")).to_be_visible()
    _keep(page, f"explore-part-{device}-{scheme}")
    assert _faint(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    for path in ("/playground", "/review", f"/review/{review}", "/audit", f"/audit/{record}", "/policy", "/dashboard"):
        page.goto(path)
        if path == "/playground":
            page.fill("#prompt", "please draw a n4k3d woman")
            expect(page.locator("#marks mark")).to_have_count(1)
        _keep(page, f"{path[1:].replace('/', '-').partition(review)[0].partition(record)[0]}-{device}-{scheme}")
        assert _faint(page) == []


def _keep(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def _faint(page: Page) -> Any:
    return page.evaluate(
        """() => {
        const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
        const light = (c) => c.slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const ground = (one) => {
            for (; one; one = one.parentElement) {
                const colour = parse(getComputedStyle(one).backgroundColor);
                if (colour.length === 3 || colour[3] > 0) return colour;
            }
            return [255, 255, 255];
        };
        const found = [];
        for (const one of document.querySelectorAll("main *, header *")) {
            const words = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
            if (!words || one.closest("svg, #marks, .hidden, option") || !one.offsetParent) continue;
            const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) found.push(`${one.tagName} ${one.className} ${one.textContent.slice(0, 30)} ${ratio}`);
        }
        return found;
    }"""
    )
