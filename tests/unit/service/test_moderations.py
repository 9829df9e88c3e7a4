"""Pictures that come in to be moderated: faces of enrolled persons, joined with the texts beside them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guardrails import home as homes
from guardrails.domain.findings import Action, Check, CheckStatus, Component, Finding
from guardrails.screens.faces import Faces
from guardrails.screens.gallery import Gallery
from guardrails.screens.protocol import Reading
from guardrails.similarity.hash_lists import HashLists, ListAnswer
from guardrails.testing.doubles import fixed_screen, passing_screens
from guardrails.testing.faces import Finder, enrol, vector
from service.access.tenants import LOCAL
from service.api.context import Caller, Context
from service.api.moderations import Moderator
from service.api.requests import ModerationRequest
from service.settings import Settings

Moderate = Callable[..., dict[str, Any]]


@pytest.fixture
def moderate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Moderate:
    """Moderates parts with a finder that sees one face, `vector(1)`, in every picture."""

    def screens(*, gallery: Path) -> Any:
        return (*passing_screens(), Faces(Gallery(gallery), finder=Finder(vector(1))))

    monkeypatch.setattr("guardrails.screens.default_screens", screens)
    context = Context.open(Settings(home=tmp_path, policy="public-figures-by-face"))
    caller = Caller(tenant=LOCAL, key="", scopes=frozenset({"moderate"}))

    def answer(*parts: dict[str, Any]) -> dict[str, Any]:
        (result,) = Moderator(context, caller, ModerationRequest(input=list(parts))).answer()["results"]
        return result

    return answer


def picture(colour: tuple[int, ...] = (200, 30, 30)) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", (200, 200), colour).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def rules(result: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in result["guardrails"]["findings"]}


def test_an_enrolled_person_is_an_alert_and_a_named_one_is_blocked(tmp_path: Path, moderate: Moderate) -> None:
    enrol(homes.faces_folder(tmp_path), **{"enwiki:Joe_Biden": vector(1)})
    alone = moderate(picture())
    assert rules(alone) == {"FACE-02"}
    assert alone["flagged"]
    assert alone["categories"]["public_figures"]
    assert alone["category_applied_input_types"]["public_figures"] == ["image"]
    for parts in ((text("Joe Biden on a stage"), picture()), (picture(), text("Joe Biden on a stage"))):
        named = moderate(*parts)
        assert "FACE-01" in rules(named)
        assert "FACE-02" not in rules(named)


def test_a_listed_picture_under_a_transparency_is_found(moderate: Moderate, monkeypatch: pytest.MonkeyPatch) -> None:
    component = Component(name="hash-lists", version="1")
    hit = Finding(rule="HASHLIST-01", category="listed", action=Action.BLOCK, message="Listed.", detector=component)

    def look(self: HashLists, pixels: np.ndarray) -> ListAnswer:
        is_listed = bool((pixels == (0, 200, 0)).all())
        return ListAnswer(check=Check(component=component, status=CheckStatus.RAN), finding=hit if is_listed else None)

    monkeypatch.setattr(HashLists, "look", look)
    assert "HASHLIST-01" in rules(moderate(picture((0, 200, 0, 0))))
    assert "HASHLIST-01" not in rules(moderate(picture((200, 0, 0, 0))))


def test_who_was_seen_is_not_told(tmp_path: Path, moderate: Moderate) -> None:
    enrol(homes.faces_folder(tmp_path), **{"enwiki:Joe_Biden": vector(1)})
    result = moderate(picture())
    (faces,) = [check for check in result["guardrails"]["checks"] if check["component"]["name"] == "faces"]
    assert faces["scores"]["not-named-in-prompt"] == pytest.approx(1)
    assert "Biden" not in repr(result)


def test_strangers_are_nobody_and_without_an_enrolment_nothing_is_known(tmp_path: Path, moderate: Moderate) -> None:
    before = moderate(picture())
    assert rules(before) == {"FACE-01", "FACE-02"}
    assert before["guardrails"]["action"] == "review"
    enrol(homes.faces_folder(tmp_path), **{"enwiki:Joe_Biden": vector(2)})
    assert rules(moderate(picture())) == set()


def test_what_a_transparent_picture_hides_is_moderated(moderate: Moderate, monkeypatch: pytest.MonkeyPatch) -> None:
    class Redness:
        component = fixed_screen("open-nsfw").component

        def score(self, pixels: Any) -> Any:
            red, green = pixels[0, 0, :2].tolist()
            return Reading(scores={"nsfw": 0.99 if red > green else 0.01})

    monkeypatch.setattr("guardrails.screens.default_screens", lambda **_: (Redness(), *passing_screens()[1:]))
    assert "SCREEN-NSFW-01" not in rules(moderate(picture((255, 255, 255, 0))))
    assert "SCREEN-NSFW-01" in rules(moderate(picture((255, 0, 0, 0))))
