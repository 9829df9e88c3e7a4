from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from guardrails.audit.memorisation import Caption
from guardrails.cli import audit
from guardrails.domain.images import Match, MatchState
from guardrails.domain.rights import Rights
from guardrails.testing.doubles import FixedIndex, ShapeGenerator

MATCH = Match(
    entry="w1",
    title="Blue <boats>",
    rights=Rights(licence="CC-BY-4.0", licence_url="", creator="N. N.", source="museum"),
    state=MatchState.CONFIRMED,
    distances={"pdq256": 6, "phash64": 2},
    sha256="12" * 32,
    grade=4,
)


@pytest.fixture
def audited(cli: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable:
    """Runs the audit of a shape generator against an index that finds these matches."""

    def call(matches: tuple[Match, ...], *words: object):
        monkeypatch.setattr(audit, "_index", lambda *_: FixedIndex(matches=matches))
        monkeypatch.setattr(audit, "_generator", lambda _: ShapeGenerator())
        (tmp_path / "captions.txt").write_text("a boat\na car\na tree\n")
        return cli("audit", "memorisation", "--captions", tmp_path / "captions.txt", "--out", tmp_path / "run", *words)

    return call


def test_repeated_works_are_counted_with_their_bound(audited):
    report = audited((MATCH,), "--seeds", 2, "--json").json
    assert (report["prompts"], report["pictures"], report["extracted"], report["rate"]) == (3, 6, 6, 1.0)
    assert report["works"] == [["w1", 6]]


def test_nothing_found_names_what_was_searched(audited):
    result = audited((), "--seeds", 1, "--limit", 2)
    assert result.status == 0
    assert "NONE FOUND" in result.out
    assert "0 of 2" in result.out
    assert "what is not among them is not known" in result.out


def test_the_page_shows_pairs_and_escapes_foreign_text(audited, tmp_path):
    audited((MATCH,), "--seeds", 1)
    page = (tmp_path / "run" / "index.html").read_text()
    assert page.count("<figure>") == 3
    assert "Blue &lt;boats&gt;" in page
    assert "<boats>" not in page
    for name in page.split('src="')[1:]:
        assert (tmp_path / "run" / name.split('"')[0]).is_file()


def test_a_model_of_unknown_captions_needs_them_named(cli):
    result = cli("audit", "memorisation", "--model", "some/model")
    assert result.status == 2
    assert "--captions" in result.err


def test_the_pocket_captions_are_those_of_the_trained_works():
    captions = audit._pocket_captions("pocket")
    assert len(captions) == 258
    assert Caption("a lemon, noto style", "noto:lemon") in captions
    assert len(set(captions)) == 258
