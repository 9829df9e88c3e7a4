"""A hundred writers killed at named steps: nothing acknowledged is lost, nothing released is unrecorded, no gaps."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrails.ledger.log import Ledger
from guardrails.testing import ledger_crashes
from guardrails.testing.ledger_crashes import CRASH_POINTS, kill_writers

KILLS = 50


def test_fifty_kills_at_named_steps_break_no_promise(tmp_path: Path, database: str) -> None:
    report = kill_writers(tmp_path / "ledger", database=database, kills=KILLS, seed=8)
    assert report.broken_promises == []
    assert report.kills.keys() == CRASH_POINTS.keys()
    assert report.kills.total() == KILLS
    assert report.recorded >= report.acknowledged > KILLS


def test_the_harness_sees_a_ledger_that_acknowledges_what_it_has_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ledger.append

    def forgetful(self: Ledger, record, payload=None, *, release=None):  # type: ignore[no-untyped-def]
        if record.id[0] in "01234567":
            return None
        return real(self, record, payload, release=release)

    monkeypatch.setattr(Ledger, "append", forgetful)
    monkeypatch.setattr(Ledger, "finish_release", lambda self, record_id: None)
    report = kill_writers(tmp_path / "ledger", kills=3)
    assert any("acknowledged and is gone" in sentence for sentence in report.broken_promises)


def test_the_harness_sees_a_file_that_is_released_before_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ledger.append

    def hasty(self: Ledger, record, payload=None, *, release=None):  # type: ignore[no-untyped-def]
        staged, final = release
        final.write_bytes(staged.read_bytes())
        return real(self, record, payload)

    monkeypatch.setattr(Ledger, "append", hasty)
    monkeypatch.setattr(Ledger, "finish_release", lambda self, record_id: None)
    report = ledger_crashes.kill_writers(tmp_path / "ledger", kills=4)
    assert any("released and is not recorded" in sentence for sentence in report.broken_promises)
