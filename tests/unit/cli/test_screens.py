"""`guardrails screens`: files in, decisions and a sheet out; calibration and enrolment with what they refuse."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import guardrails.encoders
import guardrails.resources
import guardrails.screens
from guardrails.domain.findings import Component
from guardrails.errors import ModelUnavailable, ScreenUnavailable
from guardrails.screens import faces
from guardrails.screens.faces import Face
from guardrails.screens.gallery import Gallery
from guardrails.screens.views import Box
from guardrails.testing.doubles import draw_shapes, fixed_screen, passing_screens
from guardrails.testing.spaces import GUN, PHOTO, AxisEncoder, axis, cloud, safe_pictures

Cli = Callable[..., Any]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(draw_shapes(1)).save(path)
    return path


def use_screens(monkeypatch: pytest.MonkeyPatch, screens: tuple[Any, ...]) -> None:
    monkeypatch.setattr(guardrails.screens, "default_screens", lambda **_: screens)


def test_a_picture_that_no_rule_speaks_about(cli: Cli, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_screens(monkeypatch, passing_screens())
    (found,) = cli("screens", "scan", picture, "--json").json
    assert (found["action"], found["findings"]) == ("allow", [])
    assert [check["component"]["name"] for check in found["checks"]] == ["open-nsfw", "clip-concepts", "visible-marks"]
    shown = cli("screens", "scan", picture)
    assert shown.status == 0
    assert "ALLOW" in shown.out


def test_a_held_file_exits_with_3_and_says_which_screens_disagree(
    cli: Cli, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_screens(monkeypatch, (fixed_screen("open-nsfw", nsfw=0.99), *passing_screens()[1:]))
    result = cli("screens", "scan", picture)
    assert result.status == 3
    for words in ("BLOCK", "SCREEN-NSFW-01", "threshold 0.85", "on sexual", "clip-concepts nudity did not"):
        assert words in result.out


def test_an_unreadable_file_does_not_stop_the_others(
    cli: Cli, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_screens(monkeypatch, passing_screens())
    (tmp_path / "broken.png").write_bytes(picture.read_bytes()[:200])
    result = cli("screens", "scan", tmp_path, "--json")
    assert result.status == 3
    by_name = {Path(one["file"]).name: one for one in result.json}
    assert by_name["broken.png"]["error"]["code"] == "invalid_image"
    assert by_name["picture.png"]["action"] == "allow"


def test_the_sheet_shows_each_decision_and_escapes_what_was_read(
    cli: Cli, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reader:
        component = fixed_screen("visible-marks").component

        def score(self, pixels: np.ndarray) -> Any:
            from guardrails.screens.protocol import Reading

            return Reading(
                scores={"stock-mark": 0.97},
                evidence={"stock-mark": {"box": [10, 20, 90, 40], "read": "<b>alamy", "brand": "alamy", "votes": 2}},
            )

    use_screens(monkeypatch, (*passing_screens()[:2], Reader()))
    sheet = tmp_path / "sheet.html"
    assert cli("screens", "scan", picture, "--html", sheet).status == 3
    html = sheet.read_text()
    for words in ("SCREEN-MARK-01", "&lt;b&gt;alamy as alamy, in 2 places", "the part that caused it", "threshold 0.8"):
        assert words in html
    assert html.count("data:image/jpeg;base64,") == 2
    assert "<b>alamy" not in html


def test_the_sheet_shows_the_nearest_safe_pictures_that_may_be_shown(
    cli: Cli, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guardrails.screens.catalogue import shipped

    drawing = next(one for one in shipped().values() if one.domain == "drawings")
    photograph = next(one for one in shipped().values() if one.domain == "photographs")

    def sheet(domain: str, *ids: str) -> str:
        class Concepts:
            component = fixed_screen("clip-concepts").component

            def score(self, pixels: np.ndarray) -> Any:
                from guardrails.screens.protocol import Reading

                nearest = [[id, 0.81] for id in ids]
                evidence = {"domain": domain, "calibrated_on": 9, "nearest_safe": nearest}
                return Reading(scores={"weapon": 0.99}, evidence={"weapon": evidence})

        first, _, last = passing_screens()
        use_screens(monkeypatch, (first, Concepts(), last))
        cli("screens", "scan", picture, "--html", tmp_path / "sheet.html")
        return (tmp_path / "sheet.html").read_text()

    html = sheet("drawings", drawing.id, "<of somebody else>")
    assert html.count('class="safe"') == 1
    for words in (f"safe: {drawing.id}", f"{drawing.source}, {drawing.licence}", "&lt;of somebody else&gt; (0.81)"):
        assert words in html
    html = sheet("photographs", photograph.id)
    assert 'class="safe"' not in html
    assert f"{photograph.id} (0.81)" in html
    assert photograph.licence in html


def test_a_frame_lies_around_the_part_and_leaves_it_as_it_is() -> None:
    from guardrails.cli.screens_sheet import FRAME, outlined

    picture = draw_shapes(1)
    framed = outlined(picture, [[60, 80, 160, 120]])
    np.testing.assert_array_equal(framed[80:120, 60:160], picture[80:120, 60:160])
    for row, column in ((79, 60), (120, 100), (100, 59), (100, 160)):
        assert tuple(framed[row, column]) == FRAME
    whole = [0, 0, picture.shape[1], picture.shape[0]]
    np.testing.assert_array_equal(outlined(picture, [whole, [5, 5, 5, 9]]), picture)


def test_a_folder_in_which_there_is_no_picture_is_no_pass(cli: Cli, tmp_path: Path, one_line_error: Any) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "picture").write_bytes(b"of no known name")
    one_line_error(cli("screens", "scan", folder), "invalid_option", 2)
    one_line_error(cli("screens", "verify", folder, "--encoder", "offline-clip"), "invalid_option", 2)


def test_a_heat_map_without_a_sheet_is_refused_before_anything_is_looked_at(
    cli: Cli, picture: Path, one_line_error: Any
) -> None:
    one_line_error(cli("screens", "scan", picture, "--heat"), "invalid_option", 2)


def test_a_name_that_is_no_text_stands_in_the_sheet(
    cli: Cli, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_screens(monkeypatch, passing_screens())
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, data in ((b"odd\xff\n.png", picture.read_bytes()), (b"broken\xff.png", b"")):
        (folder / os.fsdecode(name)).write_bytes(data)
    assert cli("screens", "scan", folder, "--html", tmp_path / "sheet.html").status == 3
    sheet = (tmp_path / "sheet.html").read_text()
    assert "odd\N{REPLACEMENT CHARACTER} .png" in sheet
    assert "broken\N{REPLACEMENT CHARACTER}.png" in sheet


def test_what_was_seen_is_told_when_the_sheet_cannot_be_written(
    cli: Cli, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_screens(monkeypatch, (fixed_screen("open-nsfw", nsfw=0.99), *passing_screens()[1:]))
    (tmp_path / "file").touch()
    result = cli("screens", "scan", picture, "--html", tmp_path / "file" / "sheet.html")
    assert result.status == 7
    assert "SCREEN-NSFW-01" in result.out
    assert "error[storage_failed]" in result.err
    failed = cli("screens", "scan", picture, "--html", tmp_path / "file" / "sheet.html", "--json")
    assert failed.json["error"]["code"] == "storage_failed"


def test_a_sheet_with_heat_is_written_where_other_screens_than_clip_have_findings(
    cli: Cli, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guardrails.screens import clip_concepts

    def missing(_: str) -> None:
        raise ModelUnavailable("no weights")

    monkeypatch.setattr(clip_concepts, "load_encoder", missing)
    first, _, last = passing_screens()
    use_screens(monkeypatch, (fixed_screen(first.component.name, nsfw=0.99), clip_concepts.ClipConcepts(), last))
    assert cli("screens", "scan", picture, "--html", tmp_path / "sheet.html", "--heat").status == 3
    assert "SCREEN-NSFW-01" in (tmp_path / "sheet.html").read_text()


class Patched(AxisEncoder):
    """Gives patches besides, and remembers of what; the last view has the gun."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_into: list[np.ndarray] = []

    def embed(self, images: Any) -> np.ndarray:
        gun = axis(PHOTO) + 0.5 * axis(GUN)
        rows = np.stack([axis(PHOTO)] * (len(images) - 1) + [gun / np.linalg.norm(gun)])
        return rows.astype(np.float32)

    def embed_patches(self, image: np.ndarray) -> np.ndarray:
        self.looked_into.append(image)
        return cloud(axis(PHOTO), 4, 1).reshape(2, 2, 16)


@pytest.fixture
def patched(tmp_path: Path, concepts: Path) -> tuple[Any, Patched]:
    from guardrails.screens.clip_concepts import ClipConcepts
    from guardrails.screens.concepts import read_pack

    references, encoder = tmp_path / "references.npz", Patched()
    references.write_bytes(safe_pictures())
    return ClipConcepts(packs=[read_pack(concepts)], encoder=encoder, references=references), encoder


def sheet_of(data: bytes, screen: Any) -> tuple[dict[str, Any], Any]:
    from guardrails.cli.screens_sheet import shown_file
    from guardrails.policy import parse_policy
    from guardrails.screens.scanning import scan

    rules = parse_policy(STRICT.replace("0.99", "0.9").encode(), source="p").screen_rules
    scanned = scan(data, [screen], rules)
    return shown_file(Path("p.png"), scanned, (), screen), scanned


def test_the_heat_of_a_panorama_is_that_of_the_part_that_caused_it(
    patched: tuple[Any, Patched], tmp_path: Path
) -> None:
    screen, encoder = patched
    panorama = np.zeros((128, 512, 3), np.uint8)
    panorama[:, 384:] = (0, 200, 0)
    Image.fromarray(panorama).save(tmp_path / "p.png")
    file, scanned = sheet_of((tmp_path / "p.png").read_bytes(), screen)
    assert scanned.findings[0].evidence["box"] == [384, 0, 512, 128]
    assert file["rows"][0].heat
    (looked_into,) = encoder.looked_into
    assert looked_into.shape == (128, 128, 3)
    assert (looked_into == (0, 200, 0)).all()


def test_what_a_transparency_hides_is_shown_where_it_was_seen(patched: tuple[Any, Patched], tmp_path: Path) -> None:
    screen, encoder = patched
    Image.new("RGBA", (128, 128), (0, 200, 0, 0)).save(tmp_path / "p.png")
    file, scanned = sheet_of((tmp_path / "p.png").read_bytes(), screen)
    way = str(scanned.findings[0].evidence["shown"])
    assert file["rows"][0].part
    assert (encoder.looked_into[0] == scanned.showings[way]).all()


def test_a_concept_that_the_policy_does_not_know_follows_its_owner(
    cli: Cli, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = tmp_path / "house.yaml"
    pack.write_text(
        "api_version: concepts/v1\nid: house\nversion: '1'\nowner: tests\nconcepts:\n"
        "  - {id: logo, kind: text, category: trademark, action: block, phrases: [a logo]}\n"
        "  - {id: names, kind: ocr, category: trademark, action: review, words: [house brand]}\n"
        "  - {id: chiefs, kind: face, category: public_figures, action: flag, persons: [a]}\n"
    )
    nsfw, _concepts, _marks = passing_screens()
    scores = dict.fromkeys(("weapon", "gore", "hate-symbol", "self-harm", "drugs", "nudity"), 0.0)
    use_screens(monkeypatch, (
        nsfw, fixed_screen("clip-concepts", inappropriate=0.0, logo=0.98, **scores),
        fixed_screen("visible-marks", **{"stock-mark": 0.0, "names": 0.79}),
    ))  # fmt: skip
    result = cli("screens", "scan", picture, "--concepts", pack, "--json")
    assert result.status == 3
    (found,) = result.json
    assert [(one["rule"], one["action"], one["score"]) for one in found["findings"]] == [
        ("house/logo", "block", 0.98), ("house/chiefs", "flag", None)]  # fmt: skip
    assert "not counted" in found["findings"][0]["error_rate"]
    # Where the policy has a rule for the concept, that decides.
    policy = tmp_path / "policy.yaml"
    policy.write_text(STRICT.replace("concept: weapon", "concept: logo"))
    (found,) = cli("screens", "scan", picture, "--concepts", pack, "--policy", policy, "--json").json
    assert [one["rule"] for one in found["findings"]] == ["house/chiefs"]


STRICT = """\
api_version: policy/v1
id: strict
version: "1"
description: asks for one in a hundred
prompt_rules: []
screen_rules:
  - id: S-1
    category: weapons
    action: flag
    screen: clip-concepts
    concept: weapon
    threshold: 0.99
    error_rate: one in a hundred
    when_unavailable: review
    message: seen
similarity_rules: []
watermark_rule: {id: W-1, not_robust: flag, message: weak}
tests: []
"""


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], Path]:
    """Makes a folder of pictures whose vectors are given, and the encoder that sees them so."""
    monkeypatch.setattr(guardrails.encoders, "_loaded", {})

    def make(vectors: np.ndarray) -> Path:
        folder = tmp_path / "safe"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for number in range(len(vectors)):
            Image.new("RGB", (128, 128), (number % 256, number // 256, 0)).save(folder / f"{number:04d}.png")

        class Seer(AxisEncoder):
            def embed(self, images: Any) -> np.ndarray:
                return np.stack([vectors[int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])] for image in images])

        guardrails.encoders._loaded["test-axes"] = Seer()
        return folder

    return make


@pytest.fixture
def concepts(tmp_path: Path) -> Path:
    path = tmp_path / "pack.yaml"
    path.write_text(
        "api_version: concepts/v1\nid: house\nversion: '1'\nowner: tests\nconcepts:\n"
        "  - {id: weapon, kind: text, category: weapons, action: flag, phrases: [gun], negatives: [drill]}\n"
    )
    return path


def test_calibrate_then_verify_then_drift(
    cli: Cli, space: Callable[[np.ndarray], Path], concepts: Path, tmp_path: Path
) -> None:
    output = tmp_path / "own.npz"
    words = ("--encoder", "test-axes", "--concepts", concepts)
    folder = space(cloud(axis(6), 640, 1))
    made = cli("screens", "calibrate", folder, "--domain", "own", "--output", output, "--alone", *words, "--json")
    assert made.status == 0, made
    rates = {rate["stated"]: rate for rate in made.json["rates"]}
    assert rates[0.01]["n"] == rates[0.05]["n"] >= 300
    assert rates[0.01]["hits"] / rates[0.01]["n"] <= 0.03
    assert json.loads(output.with_suffix(".json").read_text())["calibrated_on"] == 320
    report = cli("screens", "report", "--card", output.with_suffix(".json"))
    assert "No score of own exceeds 0.9814." in report.out
    # 320 references are enough for the 3 % of the default policy, and not for a rule that asks for 1 %.
    assert "WARNING" not in report.out
    policy = tmp_path / "strict.yaml"
    policy.write_text(STRICT)
    warned = cli("screens", "report", "--card", output.with_suffix(".json"), "--policy", policy)
    assert "WARNING S-1" in warned.out
    assert "598 are needed" in warned.out

    folder = space(cloud(axis(6), 320, 2))
    assert cli("screens", "verify", folder, "--references", output, *words).status == 0

    drifted = cloud(axis(6), 400, 3)
    drifted[:90] += 0.3 * axis(GUN)
    folder = space(drifted / np.linalg.norm(drifted, axis=1, keepdims=True))
    result = cli("screens", "verify", folder, "--references", output, *words, "--json")
    assert result.status == 4
    assert result.json["problems"]


@pytest.mark.parametrize("content", [None, b"\x89PNG", b"{}", b"[]", b'{"rates": [{"concept": "a"}]}'])
def test_what_is_no_card_is_refused(cli: Cli, tmp_path: Path, content: bytes | None, one_line_error: Any) -> None:
    card = tmp_path / "card.json"
    if content is not None:
        card.write_bytes(content)
    one_line_error(cli("screens", "report", "--card", card), "invalid_option", 2)


def test_the_report_warns_about_every_domain(cli: Cli, tmp_path: Path) -> None:
    policy = tmp_path / "strict.yaml"
    policy.write_text(STRICT.replace("0.99", "0.999"))
    warning = cli("screens", "report", "--policy", policy, "--json").json["never_reached"]["S-1"]
    assert "no score of photographs" in warning
    assert "no score of drawings" in warning


@pytest.mark.parametrize("domain", ["", "ids", "encoder", "file", "a/b", "Products"])
def test_a_domain_whose_name_the_reference_file_cannot_hold_is_refused(
    cli: Cli, space: Callable[[np.ndarray], Path], tmp_path: Path, domain: str, one_line_error: Any
) -> None:
    folder, output = space(cloud(axis(6), 4, 1)), tmp_path / "own.npz"
    made = cli("screens", "calibrate", folder, "--domain", domain, "--output", output, "--encoder", "test-axes")
    one_line_error(made, "invalid_option", 2)


def test_the_shipped_domains_are_not_passed_on_as_another_encoders(
    cli: Cli, space: Callable[[np.ndarray], Path], concepts: Path, tmp_path: Path, one_line_error: Any
) -> None:
    folder, output = space(cloud(axis(6), 4, 1)), tmp_path / "own.npz"
    made = cli("screens", "calibrate", folder, "--domain", "own", "--output", output, "--encoder", "test-axes",
               "--concepts", concepts)  # fmt: skip
    one_line_error(made, "invalid_option", 2)
    assert "--alone" in made.err


def test_a_picture_that_cannot_be_read_is_named(
    cli: Cli, space: Callable[[np.ndarray], Path], concepts: Path, tmp_path: Path, one_line_error: Any
) -> None:
    folder = space(cloud(axis(6), 4, 1))
    (folder / "0002.png").write_bytes((folder / "0002.png").read_bytes()[:60])
    made = cli("screens", "calibrate", folder, "--domain", "own", "--output", tmp_path / "own.npz", "--alone",
               "--encoder", "test-axes", "--concepts", concepts)  # fmt: skip
    one_line_error(made, "invalid_image", 2)
    assert "0002.png" in made.err


@pytest.mark.parametrize(
    "table",
    ["file,group\nsafe/0001.png,a\n", "name,group\n0001.png,a\n", b"\xff\xfe", None],
)
def test_groups_that_name_no_picture_are_refused_and_not_left_out(
    cli: Cli, space: Callable[[np.ndarray], Path], concepts: Path, tmp_path: Path, table: Any, one_line_error: Any
) -> None:
    references, groups = tmp_path / "references.npz", tmp_path / "groups.csv"
    references.write_bytes(safe_pictures())
    if table is not None:
        groups.write_bytes(table if isinstance(table, bytes) else table.encode())
    folder = space(cloud(axis(PHOTO), 70, 5))
    result = cli("screens", "verify", folder, "--references", references, "--slices", groups, "--encoder", "test-axes",
                 "--concepts", concepts)  # fmt: skip
    one_line_error(result, "invalid_option", 2)


def test_pictures_of_which_all_lie_outside_have_drifted(
    cli: Cli, space: Callable[[np.ndarray], Path], concepts: Path, tmp_path: Path
) -> None:
    references = tmp_path / "references.npz"
    references.write_bytes(safe_pictures())
    folder = space(cloud(axis(9), 70, 5))
    result = cli("screens", "verify", folder, "--references", references, "--encoder", "test-axes",
                 "--concepts", concepts, "--json")  # fmt: skip
    assert result.status == 4
    assert result.json["problems"] == ["100% of the pictures lie outside of what was calibrated"]


def test_a_rate_that_the_pictures_cannot_speak_about_is_refused(
    cli: Cli, space: Callable[[np.ndarray], Path], concepts: Path, tmp_path: Path, one_line_error: Any
) -> None:
    folder = space(cloud(axis(6), 100, 1))
    one_line_error(
        cli("screens", "calibrate", folder, "--domain", "own", "--output", tmp_path / "own.npz", "--alone",
            "--encoder", "test-axes", "--concepts", concepts),
        "invalid_option", 2,
    )  # fmt: skip
    assert not (tmp_path / "own.npz").exists()


def test_files_are_scored_against_a_calibration_of_ones_own(
    cli: Cli, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guardrails.screens import clip_concepts

    references = tmp_path / "references.npz"
    references.write_bytes(safe_pictures())
    policy = tmp_path / "strict.yaml"
    policy.write_text(STRICT)
    monkeypatch.setattr(clip_concepts, "load_encoder", lambda _: Portraits(axis(PHOTO)))
    words = ("screens", "scan", picture, "--policy", policy, "--json")
    (own,) = cli(*words, "--references", references).json
    scores = next(check["scores"] for check in own["checks"] if check["component"]["name"] == "clip-concepts")
    assert "weapon" in scores
    (shipped,) = cli(*words).json
    assert "were embedded by clip-vit-b-16" in shipped["findings"][0]["evidence"]["reason"]


def test_groups_that_are_treated_differently_fail(
    cli: Cli, space: Callable[[np.ndarray], Path], concepts: Path, tmp_path: Path
) -> None:
    references = tmp_path / "references.npz"
    references.write_bytes(safe_pictures())
    vectors = cloud(axis(PHOTO), 400, 5)
    vectors[:40] = cloud(axis(PHOTO) + 0.5 * axis(GUN), 40, 6, spread=0.05)
    folder = space(vectors)
    groups = tmp_path / "groups.csv"
    groups.write_text(
        "file,group\n" + "".join(f"{number:04d}.png,{'a' if number < 40 else 'b'}\n" for number in range(400))
    )
    result = cli("screens", "verify", folder, "--references", references, "--slices", groups, "--encoder", "test-axes",
                 "--concepts", concepts, "--json")  # fmt: skip
    assert result.status == 4
    assert any("two groups differ" in problem for problem in result.json["problems"])
    assert {one["group"] for one in result.json["slices"]} == {"a", "b"}


def test_the_sheet_shows_what_the_prior_says_and_what_it_does_not_say(picture: Path, tmp_path: Path) -> None:
    from guardrails.cli.screens_sheet import shown_file, write_sheet
    from guardrails.policy import parse_policy
    from guardrails.screens.protocol import Reading
    from guardrails.screens.scanning import scan

    said = {"by_pictures": 0.9934, "by_name": 0.2, "text_side": "lit, weak", "outside": True}
    seen = {"person": "enwiki:A", "distance": 0.3, "box": [1, 1, 9, 9], "prior": said}

    class Screen:
        component = Component(name="clip-concepts", version="1")

        def score(self, pixels: np.ndarray) -> Reading:
            return reading

    def sheet(name: str) -> str:
        rules = parse_policy(STRICT.encode(), source="p").screen_rules
        write_sheet([shown_file(picture, scan(picture.read_bytes(), [Screen()], rules))], tmp_path / name)
        return (tmp_path / name).read_text()

    words = "0.993 by pictures, 0.200 by name (lit, weak), unlike all safe pictures"
    reading = Reading(scores={"weapon": 1.0}, evidence={"weapon": {"persons": [seen]}})
    assert f"enwiki:A (distance 0.3; whole picture: {words})" in sheet("found.html")
    unsure = {"prior": [{"person": "enwiki:A", **said}]}
    reading = Reading(scores={}, abstained={"weapon": "no face"}, evidence={"weapon": unsure})
    assert f"like pictures of enwiki:A ({words}); that does not say that anybody is there" in sheet("pointed.html")
    reading = Reading(scores={}, abstained={"weapon": "x"}, evidence={"weapon": {"prior": {"not_available": "none"}}})
    assert "not available: none" in sheet("without.html")


class Finder:
    def find(self, pixels: np.ndarray) -> list[Face]:
        count = int(pixels[0, 0, 0])
        box = Box(left=0, top=0, right=80, bottom=80)
        return [Face(box=box, vector=np.eye(128, dtype=np.float32)[int(pixels[0, 0, 1])]) for _ in range(count)]


FACTS = ("--born", "1970-01-31", "--legal-basis", "consent", "--note", "form 17", "--keep-until", "2999-01-01")


class Names:
    """Reads every phrase along one axis."""

    id, dim = "test-names:1", 16

    def embed(self, texts: Any) -> np.ndarray:
        return np.stack([axis(len(text) % 16) for text in texts])


class Portraits(AxisEncoder):
    text = Names()


def test_enrol_list_and_forget(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_line_error: Any) -> None:
    monkeypatch.setattr(faces, "FaceFinder", Finder)
    monkeypatch.setattr(guardrails.encoders, "_loaded", {"offline-clip": Portraits(axis(3))})
    for name, colour in (("one", (1, 5, 0)), ("other", (1, 9, 0)), ("two", (2, 5, 0))):
        Image.new("RGB", (100, 100), colour).save(tmp_path / f"{name}.png")
    enrolled = cli("screens", "enrol", "one.png", "one.png", "--id", "enwiki:Jane_Doe", *FACTS, "--json")
    assert enrolled.json == {
        "id": "enwiki:Jane_Doe", "faces": 2, "spread": 0.0, "keep_until": "2999-01-01",
        "prior": {"pictures": 2, "names": 0, "missing": "no registry of the policy has this id"},
    }  # fmt: skip
    (person,) = cli("screens", "persons", "--json").json["persons"]
    assert (person["id"], person["legal_basis"], person["faces"]) == ("enwiki:Jane_Doe", "consent", 2)
    assert person["prior"] == {"pictures": 2, "names": 0}
    one_line_error(cli("screens", "enrol", "two.png", "--id", "x", *FACTS), "invalid_option", 2)
    one_line_error(cli("screens", "enrol", "one.png", "other.png", "--id", "x", *FACTS), "invalid_option", 2)
    minor = [word if word != "1970-01-31" else "2020-01-31" for word in FACTS]
    one_line_error(cli("screens", "enrol", "one.png", "--id", "x", *minor), "invalid_option", 2)
    assert cli("screens", "persons", "--json").json["over"] == []
    monkeypatch.setattr(Gallery, "over", lambda *_: ["enwiki:Jane_Doe"])
    assert "OVER  enwiki:Jane_Doe" in cli("screens", "persons").out
    assert cli("screens", "forget", "enwiki:Jane_Doe").status == 0
    assert cli("screens", "forget", "enwiki:Jane_Doe").status == 4
    assert cli("screens", "persons", "--json").json["persons"] == []


def test_an_enrolment_reads_the_names_of_the_registries_and_keeps_none(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "FaceFinder", Finder)
    monkeypatch.setattr(guardrails.encoders, "_loaded", {"offline-clip": Portraits(axis(3))})
    Image.new("RGB", (100, 100), (1, 5, 0)).save(tmp_path / "one.png")
    (tmp_path / "names.csv").write_text(
        "key,id,name,roles,until,living,as_of,match,style,source,licence\n"
        "juana perez,local:17,Juana Perez,actor,,yes,2026-01,plain,,project,CC0-1.0\n"
        "jp the great,local:17,JP the Great,actor,,yes,2026-01,plain,,project,CC0-1.0\n"
        "somebody else,local:171,Somebody Else,actor,,yes,2026-01,plain,,project,CC0-1.0\n"
    )
    named = "prompt_rules:\n  - {id: N-1, category: public_figures, action: flag, severity: 1, message: m, " \
            "names: true, names_from: {registries: [ours]}}"  # fmt: skip
    policy = STRICT.replace("prompt_rules: []", named) + "registries:\n  ours: names.csv\n"
    (tmp_path / "policy.yaml").write_text(policy)
    enrolled = cli("screens", "enrol", "one.png", "--id", "local:17", *FACTS, "--policy", "policy.yaml", "--json")
    assert enrolled.json["prior"] == {"pictures": 1, "names": 2, "missing": ""}
    assert "2 names" in cli("screens", "persons").out
    (kept,) = Path(os.environ["GUARDRAILS_HOME"]).glob("faces/*.json")
    assert "local:17" in kept.read_text()
    for shown in (kept.read_text(), enrolled.out, cli("screens", "persons").out):
        assert "Juana" not in shown
        assert "Great" not in shown


def test_without_an_encoder_a_person_is_enrolled_by_face_alone(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(spec: str) -> None:
        raise ModelUnavailable("the weights are not installed")

    monkeypatch.setattr(faces, "FaceFinder", Finder)
    monkeypatch.setattr(guardrails.encoders, "load_encoder", missing)
    Image.new("RGB", (100, 100), (1, 5, 0)).save(tmp_path / "one.png")
    enrolled = cli("screens", "enrol", "one.png", "--id", "x", *FACTS)
    assert enrolled.status == 0
    assert "not available; the weights are not installed" in enrolled.out


def test_the_shipped_card_can_be_shown(cli: Cli) -> None:
    shown = cli("screens", "report")
    assert shown.status == 0
    for words in ("weapon", "photographs", "drawings", "1%"):
        assert words in shown.out


@pytest.fixture
def two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Pictures with and without a gun, and the safe pictures of their space in place of the shipped ones."""
    from guardrails.screens import clip_concepts

    folders = []
    for name, vectors in (
        ("with", cloud(axis(PHOTO) + 0.4 * axis(GUN), 30, 5, 0.05)),
        ("without", cloud(axis(PHOTO), 30, 6, 0.05)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for number in range(len(vectors)):
            Image.new("RGB", (128, 128), (number, len(folders), 0)).save(folder / f"{number:04d}.png")
        folders.append((folder, vectors))

    class Seer(AxisEncoder):
        def embed(self, images: Any) -> np.ndarray:
            return np.stack([folders[int(image[0, 0, 1])][1][int(image[0, 0, 0])] for image in images])

    references = tmp_path / "references.npz"
    references.write_bytes(safe_pictures())
    monkeypatch.setattr(guardrails.encoders, "_loaded", {"offline-clip": Seer()})
    monkeypatch.setattr(guardrails.resources, "datasets_path", lambda *_: references)
    monkeypatch.setattr(clip_concepts, "datasets_path", lambda *_: references)
    return folders[0][0], folders[1][0]


@pytest.mark.parametrize("kind", ["linear", "mlp", "exemplar"])
def test_a_concept_is_learned_from_two_folders_and_used_at_once(
    cli: Cli, two_folders: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    from guardrails.screens.clip_concepts import ClipConcepts
    from guardrails.screens.concepts import read_pack

    pack = tmp_path / "gun.yaml"
    words = ("--id", "gun", "--category", "weapons", "--kind", kind, "--output", pack)
    made = cli("screens", "train", *two_folders, *words, "--json")
    assert made.status == 0, made
    report = {row["stated"]: row for row in made.json["held_out"]}
    assert (report[0.05]["positives"], report[0.05]["negatives"]) == (30, 30)
    assert report[0.05]["caught"] >= 24
    assert report[0.05]["caught_lower_bound_95"] < report[0.05]["caught"] / 30
    screen = ClipConcepts(packs=[read_pack(pack)])
    shown = np.asarray(Image.open(two_folders[0] / "0003.png"))
    assert screen.score(shown).scores["gun"] > 0.9
    assert not (tmp_path / "gun.webp").exists()


@pytest.mark.parametrize("kind", ["linear", "mlp", "exemplar"])
def test_small_pictures_stay_with_the_pack_when_the_operator_agrees(
    cli: Cli, two_folders: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    from guardrails.cli.screens_sheet import shown_file, write_sheet
    from guardrails.policy import parse_policy
    from guardrails.screens.clip_concepts import ClipConcepts
    from guardrails.screens.concepts import read_pack
    from guardrails.screens.scanning import scan

    path = tmp_path / "gun.yaml"
    words = ("--id", "gun", "--category", "weapons", "--kind", kind, "--output", path)
    rules = parse_policy(STRICT.replace("0.99", "0.5").replace("weapon\n", "gun\n").encode(), source="p").screen_rules
    shown = two_folders[0] / "0003.png"

    def sheet() -> str:
        pack = read_pack(path)
        seen = scan(shown.read_bytes(), [ClipConcepts(packs=[pack])], rules)
        assert [finding.rule for finding in seen.findings] == ["S-1"]
        write_sheet([shown_file(shown, seen, [pack])], tmp_path / "sheet.html")
        return (tmp_path / "sheet.html").read_text()

    assert cli("screens", "train", *two_folders, *words, "--thumbnails").status == 0
    digest = read_pack(path).digest
    assert len(Image.open(path.with_suffix(".webp")).getbbox()) == 4
    assert sheet().count('class="example"') == 3
    path.with_suffix(".webp").write_bytes(b"no picture")
    assert read_pack(path).digest != digest
    assert 'class="example"' not in sheet()
    path.with_suffix(".webp").unlink()
    with pytest.raises(ScreenUnavailable, match="cannot be read"):
        read_pack(path)


def test_training_refuses_too_little_and_the_same_picture_on_both_sides(
    cli: Cli, two_folders: tuple[Path, Path], tmp_path: Path, one_line_error: Any
) -> None:
    with_it, without = two_folders
    words = ("--id", "gun", "--category", "weapons", "--output", tmp_path / "gun.yaml")
    for options in (("--owner", " "), ("--category", "")):
        one_line_error(cli("screens", "train", *two_folders, *words, *options), "invalid_option", 2)
    shutil.copy(with_it / "0001.png", without / "copy.png")
    one_line_error(cli("screens", "train", with_it, without, *words), "invalid_option", 2)
    (without / "copy.png").unlink()
    for path in list(with_it.iterdir())[:11]:
        path.unlink()
    # A copy under another name is no further picture.
    shutil.copy(next(with_it.iterdir()), with_it / "again.png")
    one_line_error(cli("screens", "train", with_it, without, *words), "invalid_option", 2)
    one_line_error(cli("screens", "train", with_it, without, *words[:-1], tmp_path / "gun.txt"), "invalid_option", 2)
    assert not (tmp_path / "gun.yaml").exists()
