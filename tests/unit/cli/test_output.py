from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from guardrails.cli.findings import underline
from guardrails.cli.output import clean, print_error, print_facts, print_heading, print_json, print_table
from guardrails.errors import ImageError

ESCAPE = "\x1b[2J\x1b]0;owned\x07"
RIGHT_TO_LEFT = "\u202e"


@given(st.text())
def test_cleaned_text_keeps_positions_and_cannot_steer_a_terminal(text: str) -> None:
    cleaned = clean(text)

    assert len(cleaned) == len(text)
    assert cleaned.isprintable()


def test_foreign_text_is_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = f"[bold]x[/bold] [/nothing] {ESCAPE}{RIGHT_TO_LEFT}"

    print_heading("WORD", hostile, style="red", explanation=hostile)
    print_facts([("name", hostile)])
    print_table(("column",), [(hostile,)])
    print_error(ImageError(hostile, hint=hostile), as_json=False)

    printed = "".join(capsys.readouterr())
    assert printed.count("[bold]x[/bold] [/nothing]") == 6
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert RIGHT_TO_LEFT not in printed


def test_facts_off_a_terminal_stay_on_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("a", "x" * 500), ("longer", "y")])

    assert capsys.readouterr().out.splitlines() == [f"  a       {'x' * 500}", "  longer  y"]


def test_json_holds_file_names_that_are_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"source": "caf\udce9.png"})

    assert json.loads(capsys.readouterr().out) == {"source": "caf\udce9.png"}


@pytest.mark.parametrize(
    ("text", "spans", "marks"),
    [
        ("a bad word", [(2, 5)], "  ^^^"),
        ("bad and bad", [(8, 11), (0, 3)], "^^^     ^^^"),
        ("漢字 bad", [(3, 6)], "     ^^^"),
        ("bad\tbad", [(4, 7)], "    ^^^"),
    ],
)
def test_carets_stand_under_the_words(text: str, spans: list[tuple[int, int]], marks: str) -> None:
    assert underline(text, spans, 80)[1] == marks


@given(st.text(st.characters(categories=["L", "Z"]), min_size=1, max_size=300), st.data())
def test_a_long_text_is_cut_to_a_window_that_shows_the_first_word(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    width = 60

    line, marks = underline(text, [(start, start + 1)], width)

    assert cell_len(line) <= width + 1
    assert len(marks) <= cell_len(line)
    if cell_len(clean(text[start])) > 0:
        under = len(marks.rstrip("^"))
        shown = next(i for i in range(len(line) + 1) if cell_len(line[:i]) == under and cell_len(line[: i + 1]) > under)
        assert line[shown] == clean(text[start])
