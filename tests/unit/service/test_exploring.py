"""The explorer shows nothing of a picture that nobody may hold."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrails import home as homes
from guardrails.similarity.banks import Role
from guardrails.testing.banks import bank_of
from guardrails.testing.doubles import draw_shapes
from service.access.persons import Person, Session
from service.api.context import Context
from service.pages.exploring import _explored
from service.pages.site import PageError
from service.settings import Settings


def test_neither_of_one_that_is_hidden_under_transparency(tmp_path: Path) -> None:
    beneath = draw_shapes(5)
    bank_of(homes.hash_lists_folder(tmp_path) / "example-list", Role.SENSITIVE, {"entry-17": beneath})
    file = io.BytesIO()
    Image.fromarray(np.dstack([beneath, np.zeros(beneath.shape[:2], np.uint8)])).save(file, "PNG")
    session = Session(id="s", person=Person(id="anna", roles=frozenset({"auditor"})), csrf="")
    context = Context.open(Settings(home=tmp_path))
    with pytest.raises(PageError, match="nobody may hold"):
        _explored(context, session, file.getvalue())
    assert [row["action"] for row in context.audit.newest()] == ["explore.listed"]
