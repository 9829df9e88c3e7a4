from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from guardrails.cli.main import main
from guardrails.imaging.iscc import image_code


def draw(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (200, 200), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(25):
        x, y = (int(v) for v in rng.integers(0, 150, 2))
        pen.rectangle((x, y, x + int(rng.integers(9, 60)), y + 40), fill=tuple(int(v) for v in rng.integers(0, 230, 3)))
    return image


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(4):
        draw(seed).save(folder / f"{seed}.png")
    (folder / "bad.png").write_text("no picture")
    return folder


@pytest.fixture
def run(capsys):
    def call(*words):
        status = main(["similarity", *map(str, words), "--json"])
        return status, json.loads(capsys.readouterr().out)

    return call


def test_a_collection_from_pictures_to_answers(photos, tmp_path, run):
    index, copy = tmp_path / "works", tmp_path / "copy.jpg"
    status, built = run("build", index, photos)
    assert (status, built["added"], built["unreadable"]) == (0, 4, 1)
    assert built["unreadable_list"][0]["id"] == "bad.png"
    draw(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy, quality=60)
    _, found = run("search", copy, index)
    (match,) = found["answer"]["matches"]
    assert (match["bank"], match["role"], match["found"]["id"]) == ("works", "works", "2.png")

    run("disable", index, "2.png", "--reason", "claim 12")
    assert run("search", copy, index)[1]["answer"]["matches"] == []
    run("enable", index, "2.png")
    run("deconfirm", index, "2.png")
    answer = run("search", copy, index)[1]["answer"]
    assert ([m["found"]["id"] for m in answer["set_aside"]], answer["matches"]) == (["2.png"], [])
    run("confirm", index, "2.png")
    assert run("search", copy, index)[1]["answer"]["matches"][0]["found"]["state"] == "confirmed"

    draw(9).save(tmp_path / "new.png")
    run("add", index, tmp_path / "new.png", "--fact", "licence=CC0-1.0")
    (match,) = run("search", tmp_path / "new.png", index)[1]["answer"]["matches"]
    assert match["found"]["facts"] == {"licence": "CC0-1.0"}
    _, info = run("info", index, "--verify")
    assert (info["entries"], info["hash"], info["states"]["confirmed"]) == (5, "pdq256", 1)


def test_image_codes_are_built_found_looked_up_and_passed_on(photos, tmp_path, run):
    index, other, listed = tmp_path / "iscc", tmp_path / "theirs", tmp_path / "list.txt"
    run("build", index, photos, "--hash", "iscc-image64")
    (match,) = run("search", photos / "3.png", index)[1]["answer"]["matches"]
    assert (match["found"]["id"], match["found"]["distance"]) == ("3.png", 0)
    run("export", index, "--format", "lines", "--out", listed)
    code = image_code(np.asarray(draw(3)))
    assert f"iscc-image64 {code}" in listed.read_text(encoding="utf-8")
    assert run("import", other, listed, "--hash", "iscc-image64")[1]["added"] == 4
    (match,) = run("lookup", code, other)[1]["answer"]["matches"]
    assert (match["bank"], match["found"]["distance"]) == ("theirs", 0)
    status, refused = run("lookup", "ISCC:EAA4GQZQTY6J5DTH", other)
    assert status != 0
    assert "Image-Code" in refused["error"]["message"]


def test_a_hash_list_from_export_to_a_negative_bank(photos, tmp_path, run):
    works, harmless, listed = tmp_path / "works", tmp_path / "harmless", tmp_path / "list.csv"
    run("build", works, photos, "--hash", "pdq256", "--role", "protected", "--radius", "31")
    assert run("export", works, "--out", listed) == (0, {"index": str(works), "out": str(listed)})
    assert run("export", works)[1]["list"] == listed.read_text(encoding="utf-8")
    status, imported = run("import", harmless, listed, "--role", "negative")
    assert (status, imported["added"], imported["rejected"]) == (0, 4, [])
    answer = run("search", photos / "1.png", works, harmless)[1]["answer"]
    assert (answer["matches"], len(answer["set_aside"])) == ([], 2)
    _, configured = run("configure", harmless, "--radius", "0", "--flood-limit", "7")
    assert (configured["settings"]["radius"], configured["settings"]["flood_limit"]) == (0, 7)


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["search", "0.png", "nowhere"], 7, "index_damaged"),
        (["build", "works", "photos/0.png"], 2, "invalid_option"),
        (["build", "elsewhere", "nothing"], 2, "invalid_option"),
        (["import", "elsewhere", "nothing.csv"], 2, "invalid_option"),
        (["disable", "works", "nobody"], 2, "invalid_option"),
        (["build", "works", "photos", "--role", "negative"], 2, "invalid_option"),
        (["add", "works", "photos/0.png", "--fact", "licence"], 2, "invalid_option"),
        (["add", "works", "photos/bad.png"], 2, "invalid_image"),
        (["add", "works", "photos/0.png"], 2, "invalid_option"),
        (["export", "works", "--format", "stopncii"], 2, "invalid_option"),
    ],
)
def test_what_cannot_be_done_is_said_with_a_next_step(photos, tmp_path, monkeypatch, run, words, status, code):
    monkeypatch.chdir(tmp_path)
    run("build", "works", "photos")
    returned, document = run(*words)
    assert (returned, document["error"]["code"]) == (status, code)
    assert document["error"]["hint"]


def test_people_read_tables(photos, tmp_path, capsys):
    assert main(["similarity", "build", str(tmp_path / "works"), str(photos)]) == 0
    assert main(["similarity", "search", str(photos / "0.png"), str(tmp_path / "works")]) == 0
    assert main(["similarity", "info", str(tmp_path / "works")]) == 0
    Image.new("RGB", (80, 80), "white").save(tmp_path / "plain.png")
    assert main(["similarity", "search", str(tmp_path / "plain.png"), str(tmp_path / "works")]) == 0
    out = capsys.readouterr().out
    for words in ("unreadable", "unreadable.csv", "CANDIDATES", "searched 4 in works", "UNHASHABLE", "pdq256"):
        assert words in out


def test_an_index_that_was_filled_does_not_become_a_list_of_hashes(photos, tmp_path, run):
    index = tmp_path / "works"
    run("build", index, photos)
    status, refused = run("configure", index, "--role", "sensitive")
    assert (status != 0, "before it became sensitive" in refused["error"]["message"]) == (True, True)
    assert (index / "thumbnails.sqlite").exists()
    _, configured = run("configure", index, "--thumbnail-bytes", "0")
    assert configured["settings"]["thumbnail_bytes"] == 0
    assert not (index / "thumbnails.sqlite").exists()


def test_neighbours_by_meaning_from_a_file_of_one_s_own(photos, tmp_path, run):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(16), torch.nn.Flatten())
    file = tmp_path / "own.torchscript.pt"
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.script(network.eval()).save(str(file))
    encoder = f"sscd:{file}@{hashlib.sha256(file.read_bytes()).hexdigest()}"
    index = tmp_path / "meaning"
    _, built = run("semantic", "build", index, photos, "--encoder", encoder)
    assert (built["report"]["embedded"], len(built["report"]["unreadable"])) == (4, 1)
    _, found = run("semantic", "search", index, photos / "2.png", "--encoder", encoder, "--count", "2")
    assert found["neighbours"][0]["id"] == "2.png"
    assert (len(found["neighbours"]), found["searched"]) == (2, 4)
    for words in (["--words", "a boat"], []):
        status, refused = run("semantic", "search", index, *words, "--encoder", encoder)
        assert status != 0
        assert "words" in refused["error"]["message"] + refused["error"]["hint"]
    status, refused = run("semantic", "build", index, photos, "--encoder", f"sscd:{file}")
    assert status != 0
    assert "without its SHA-256" in refused["error"]["message"]


def test_parts_of_protected_works_are_found_and_framed(photos, tmp_path, run, capsys):
    index, composite, sheet = tmp_path / "brand", tmp_path / "composite.png", tmp_path / "sheet.png"
    status, built = run("build", index, photos, "--role", "protected")
    assert (status, built["added"], built["keypoints"]) == (0, 4, True)
    scene = Image.effect_noise((600, 400), 30).convert("RGB")
    scene.paste(draw(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT), (250, 100))
    scene.save(composite)
    status, found = run("search", composite, index, "--evidence", sheet)
    best = found["answer"]["parts"][0]
    assert (status, best["bank"], best["role"], best["located"]["id"]) == (0, "brand", "protected", "3.png")
    assert best["located"]["box"] == pytest.approx([250 / 600, 0.25, 450 / 600, 0.75], abs=0.02)
    assert best["located"]["placement"]["orientation"] == {"x": -1, "y": 1, "transposed": False}
    (told,) = [one for one in found["compared"] if one["entry"] == "3.png"]
    assert (told["level"], told["pixels"], told["part"]["keypoints"]) == (
        "candidate",
        None,
        best["located"]["agreeing"],
    )
    with Image.open(sheet) as framed:
        assert framed.size == (600, 400)
        assert (np.asarray(framed)[80:320, 235:465] == (230, 0, 120)).all(axis=2).any()

    draw(11).save(tmp_path / "late.png")
    run("add", index, tmp_path / "late.png")
    draw(11).crop((20, 30, 160, 170)).save(composite)
    assert run("search", composite, index)[1]["answer"]["parts"][0]["located"]["id"] == "late.png"
    run("disable", index, "late.png")
    parts = run("search", composite, index)[1]["answer"]["parts"]
    assert "late.png" not in [part["located"]["id"] for part in parts]

    assert main(["similarity", "search", str(composite), str(index)]) == 0
    capsys.readouterr()
    scene.save(composite)
    assert main(["similarity", "search", str(composite), str(index)]) == 0
    shown = capsys.readouterr().out
    assert "CANDIDATES" in shown
    assert "3.png" in shown
    assert "mirrored" in shown
    assert "tiles" not in shown


def test_pixels_speak_where_the_works_lie_in_a_folder(photos, tmp_path, run, capsys):
    index, composite = tmp_path / "brand", tmp_path / "composite.png"
    run("build", index, photos, "--role", "protected")
    run("configure", index, "--pictures", photos)
    scene = Image.effect_noise((600, 400), 30).convert("RGB")
    scene.paste(draw(3).transpose(Image.Transpose.ROTATE_90), (250, 100))
    scene.save(composite)
    _, found = run("search", composite, index)
    best = found["compared"][0]
    assert (best["entry"], best["grade"] >= 4, best["part"]["placement"]["transposed"]) == ("3.png", True, True)
    assert best["pixels"]["agreeing_tiles"] >= 30
    assert "keypoints" in best["error_rate"]
    _, copied = run("search", photos / "2.png", index)
    whole = copied["compared"][0]
    assert (whole["entry"], whole["level"]) == ("2.png", "strict")
    assert "of 5,100" in whole["error_rate"]
    capsys.readouterr()
    assert main(["similarity", "search", str(composite), str(index)]) == 0
    shown = capsys.readouterr().out
    assert "turned 270" in shown
    assert f"how often {best['level']} is wrong" in shown


def test_several_workers_are_refused_before_a_protected_index_is_made(photos, tmp_path, run):
    index = tmp_path / "brand"
    status, refused = run("build", index, photos, "--role", "protected", "--workers", "2")
    assert (status != 0, index.exists()) == (True, False)
    assert "one process" in refused["error"]["message"]
    run("build", index, photos, "--role", "protected")
    status, refused = run("build", index, photos, "--workers", "2")
    assert status != 0
    assert "one process" in refused["error"]["message"]


def test_a_bank_of_works_keeps_keypoints_only_where_asked_for(photos, tmp_path, run):
    assert run("build", tmp_path / "plain", photos)[1]["keypoints"] is False
    assert run("build", tmp_path / "pointed", photos, "--keypoints")[1]["keypoints"] is True
    status, error = run("build", tmp_path / "plain", photos, "--keypoints")
    assert status != 0
    assert "exists already" in error["error"]["message"]
    status, error = run("build", tmp_path / "list", photos, "--keypoints", "--role", "sensitive")
    assert status != 0
    assert "hashes alone" in error["error"]["message"]
    assert not (tmp_path / "list").exists()
    status, error = run("build", tmp_path / "pointed", photos, "--workers", "2")
    assert status != 0
    assert "one process" in error["error"]["message"]
