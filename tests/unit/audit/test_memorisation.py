from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from guardrails.audit.memorisation import EVIDENCE, RESULTS, Caption, MemorisationAudit, read_captions
from guardrails.errors import GenerationError, InputError
from guardrails.imaging import Pixels
from guardrails.similarity.building import build_index
from guardrails.similarity.entries import read_entries
from guardrails.similarity.search import SimilarityIndex
from guardrails.testing.doubles import ShapeGenerator, draw_shapes

WORKS = 6
COLUMNS = ["id", "name", "licence", "licence_url", "creator", "package", "sha256", "rights"]


class Shelf:
    def picture(self, entry_id: str) -> Pixels:
        return draw_shapes(int(entry_id))


class Parrot(ShapeGenerator):
    """Repeats a work for prompts that name one, draws something new for others; counts what it drew."""

    def __init__(self) -> None:
        self.drawn = 0

    def draw(self, request, prompt, *, progress=None):
        self.drawn += 1
        (drawn,) = super().draw(request, prompt)
        word = prompt.split()[-1]
        if word.isdigit():
            noise = np.random.default_rng(request.seed).normal(0, 4, drawn.pixels.shape)
            pixels = np.clip(draw_shapes(int(word)) + noise, 0, 255).astype(np.uint8)
        else:
            pixels = np.full_like(drawn.pixels, 255) if word == "blank" else draw_shapes(1000 + request.seed)
        return [type(drawn)(pixels=pixels, facts=drawn.facts)]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> SimilarityIndex:
    folder = tmp_path_factory.mktemp("index")
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = [[str(n), f"work {n}", "MIT", "", f"artist {n}", "p@1", f"{n:064x}", ""] for n in range(WORKS)]
        csv.writer(file).writerows([COLUMNS, *rows])
    build_index((draw_shapes(n) for n in range(WORKS)), read_entries(folder / "manifest.csv"), folder / "index")
    return SimilarityIndex.open(folder / "index", Shelf())


PROMPTS = [Caption(text) for text in ("work 1", "work 2", "something new", "a blank")]


def test_repeated_works_are_found_and_new_pictures_are_not_accused(index, tmp_path):
    report = MemorisationAudit(Parrot(), index, tmp_path, model="parrot").run(PROMPTS, range(1, 4))
    assert (report.prompts, report.pictures, report.unhashable) == (4, 12, 3)
    assert (report.extracted, report.rate) == (6, 6 / 9)
    assert report.works == (("1", 3), ("2", 3))
    assert report.rate < report.upper_bound < 1
    found = [drawing for drawing in report.drawings if drawing.repeated]
    assert {(drawing.prompt, drawing.work, drawing.creator) for drawing in found} == {
        ("work 1", "1", "artist 1"),
        ("work 2", "2", "artist 2"),
    }
    assert all((tmp_path / drawing.evidence).is_file() for drawing in found)
    assert len(list((tmp_path / EVIDENCE).iterdir())) == 6


class Clumsy(Parrot):
    """Redraws works softly, bent and blotched, as a coarse decoder does."""

    def draw(self, request, prompt, *, progress=None):
        (drawn,) = super().draw(request, prompt)
        blotches = np.random.default_rng(request.seed).normal(0, 55, (256, 256, 3)).astype(np.float32)
        soft = cv2.GaussianBlur(drawn.pixels, (0, 0), 5).astype(np.float32) + 9 * cv2.GaussianBlur(blotches, (0, 0), 6)
        return [type(drawn)(pixels=np.clip(soft, 0, 255).astype(np.uint8), facts=drawn.facts)]


def test_a_clumsy_repetition_is_told_by_the_work_of_its_caption_and_by_no_other(index, tmp_path):
    captions = [Caption("work 1", "1"), Caption("work 2", "3"), Caption("something new", "4")]
    report = MemorisationAudit(Clumsy(), index, tmp_path, model="clumsy").run(captions, [1, 2])
    repeated = {drawing.prompt: drawing.repeated for drawing in report.drawings}
    assert (report.confirmed, repeated["work 1"], repeated["something new"]) == (0, "1", "")
    assert repeated["work 2"] != "3"


def test_seeds_that_give_the_same_picture_are_counted_without_an_index(index, tmp_path):
    report = MemorisationAudit(Parrot(), index, tmp_path, model="parrot").run(PROMPTS, range(1, 4))
    assert {prompt: same for prompt, same, _ in report.consistency}["work 1"] == 3
    assert {prompt: same for prompt, same, _ in report.consistency}["something new"] == 1


def test_a_run_that_stopped_goes_on_where_it_was(index, tmp_path):
    class Dies(Parrot):
        def draw(self, request, prompt, *, progress=None):
            if self.drawn == 2:
                raise GenerationError("no memory", hint="")
            return super().draw(request, prompt)

    with pytest.raises(GenerationError):
        MemorisationAudit(Dies(), index, tmp_path, model="parrot").run(PROMPTS, range(1, 3))
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"prompt": "half a li')
    parrot = Parrot()
    report = MemorisationAudit(parrot, index, tmp_path, model="parrot").run(PROMPTS, range(1, 3))
    assert parrot.drawn == len(PROMPTS) * 2 - 2
    assert report.pictures == 8
    again = MemorisationAudit(parrot, index, tmp_path, model="parrot").run(PROMPTS, range(1, 3))
    assert parrot.drawn == len(PROMPTS) * 2 - 2
    assert again == report


def test_the_picture_that_was_drawn_and_not_compared_is_not_drawn_again(index, tmp_path):
    MemorisationAudit(Parrot(), index, tmp_path, model="parrot").run([Caption("work 1")], [1])
    (tmp_path / RESULTS).unlink()
    parrot = Parrot()
    assert MemorisationAudit(parrot, index, tmp_path, model="parrot").run([Caption("work 1")], [1]).extracted == 1
    assert parrot.drawn == 0


def test_progress_is_told_after_every_picture(index, tmp_path):
    told: list[tuple[int, int]] = []
    audit = MemorisationAudit(Parrot(), index, tmp_path, model="parrot")
    audit.run([Caption("work 1"), Caption("new thing")], [1], lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_runs_of_two_models_do_not_mix(index, tmp_path):
    MemorisationAudit(Parrot(), index, tmp_path, model="one").run([Caption("work 1")], [1])
    with pytest.raises(InputError, match="another model"):
        MemorisationAudit(Parrot(), index, tmp_path, model="two").run([Caption("work 1")], [1])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "a boat\n\n a boat \na car\n"),
        ("c.csv", "id,caption\n1,a boat\n2,a car\n"),
        ("c.csv", "prompt\na boat\na car\n"),
    ],
)
def test_captions_are_read_once_each(tmp_path: Path, name, text):
    (tmp_path / name).write_text(text)
    assert read_captions(tmp_path / name) == [Caption("a boat"), Caption("a car")]


@pytest.mark.parametrize(("name", "text"), [("c.txt", " \n"), ("c.csv", "id\n1\n"), ("c.csv", "")])
def test_files_without_captions_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError):
        read_captions(tmp_path / name)
    with pytest.raises(InputError):
        read_captions(tmp_path / "none.txt")


def test_results_are_one_json_document_a_line(index, tmp_path):
    MemorisationAudit(Parrot(), index, tmp_path, model="parrot").run([Caption("work 3")], [7])
    (line,) = (tmp_path / RESULTS).read_text().splitlines()
    assert json.loads(line)["state"] in ("strict", "confirmed")
