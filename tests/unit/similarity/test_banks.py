"""What a match means: roles, radii, people's verdicts, floods."""

from __future__ import annotations

import numpy as np
import pytest

from guardrails.errors import IndexFormatError, OptionError
from guardrails.similarity.banks import Banks, BankSettings, Role, pair_rate
from guardrails.similarity.fingerprints import Fingerprint, Fingerprinter, Region
from guardrails.similarity.hashes import PDQ256, SYM256, PdqHashes
from guardrails.similarity.parts import NewEntry, State
from guardrails.similarity.store import Store


def code(number: int, flipped: int = 0) -> bytes:
    bits = np.unpackbits(np.frombuffer(np.random.default_rng(number).bytes(32), np.uint8))
    bits[:flipped] ^= 1
    return np.packbits(bits).tobytes()


def asked(number: int, flipped: int = 0) -> Fingerprint:
    """A picture whose upright code is `code(number, flipped)`."""
    others = np.random.default_rng(1000 + number).integers(0, 256, (8, 32)).astype(np.uint8)
    others[0] = np.frombuffer(code(number, flipped), np.uint8)
    return Fingerprint(SYM256, {Region.FULL: PdqHashes(others, 90)}, 90)


@pytest.fixture
def bank(tmp_path):
    def make(name, role, entries, algorithm=SYM256, **changes):
        settings = BankSettings.default(name, role, algorithm).to_json() | changes
        store = Store.create(tmp_path / name, algorithm, settings)
        store.add(NewEntry(entry_id, [(region, value)]) for entry_id, region, value in entries)
        return store

    return make


def ids(matches):
    return [match.found.id for match in matches]


def test_every_bank_has_its_own_radii(bank):
    near, far = code(1, 20), code(1, 45)
    wide = bank("wide", Role.WORKS, [("near", 0, near), ("far", 0, far)])
    narrow = bank(
        "narrow", Role.PROTECTED, [("near", 0, near), ("far", 0, far), ("box", 1, near)], radius=30, box_radius=10
    )
    answer = Banks([wide, narrow]).match(asked(1))
    assert [(match.bank, match.found.id) for match in answer.matches] == [
        ("narrow", "near"),
        ("wide", "near"),
        ("wide", "far"),
    ]
    assert answer.searched == {"wide": 2, "narrow": 3}
    assert answer.expected_false == {"wide": pytest.approx(2 * 5.2e-5), "narrow": pytest.approx(3 * 7.2e-6)}


def test_a_nearer_harmless_picture_takes_a_match_back(bank):
    works = bank("works", Role.PROTECTED, [("work", 0, code(1, 30)), ("nearest", 0, code(1, 2))])
    harmless = bank("harmless", Role.NEGATIVE, [("logo", 0, code(1, 9))])
    answer = Banks([works, harmless]).match(asked(1))
    assert ids(answer.matches) == ["nearest"]
    assert ids(answer.set_aside) == ["logo", "work"]
    # What a person has found true stays.
    works.set_state("work", State.CONFIRMED)
    assert ids(Banks([works, harmless]).match(asked(1)).matches) == ["nearest", "work"]
    # And a harmless picture that was none takes nothing back.
    works.set_state("work", State.ACTIVE)
    harmless.set_state("logo", State.DECONFIRMED)
    assert ids(Banks([works, harmless]).match(asked(1)).matches) == ["nearest", "work"]


@pytest.mark.parametrize("state", [State.DECONFIRMED, State.QUARANTINED])
def test_entries_that_do_not_count_are_named_beside(bank, state):
    works = bank("works", Role.WORKS, [("a", 0, code(1)), ("b", 0, code(1, 1))])
    works.set_state("a", state)
    answer = Banks([works]).match(asked(1))
    assert (ids(answer.matches), ids(answer.set_aside)) == (["b"], ["a"])


def test_an_entry_that_suddenly_matches_everything_is_set_aside_and_reported(bank):
    now = [0.0]
    works = bank("works", Role.SENSITIVE, [("bad", 0, code(1)), ("sure", 0, code(1))], flood_limit=3, flood_seconds=60)
    works.set_state("sure", State.CONFIRMED)
    banks = Banks([works], clock=lambda: now[0])
    for _ in range(9):
        # Slowly, it may match as often as it likes.
        now[0] += 30
        assert banks.match(asked(1)).quarantined == ()
    answers = [banks.match(asked(1)) for _ in range(3)]
    assert [answer.quarantined for answer in answers] == [(), (("works", "bad"),), ()]
    assert ids(answers[2].matches) == ["sure"]
    assert ids(answers[2].set_aside) == ["bad"]
    assert Store.open(works.folder).state("bad") is State.QUARANTINED
    works.set_state("bad", State.ACTIVE, "looked at")
    assert ids(banks.match(asked(2)).matches) == []


@pytest.mark.parametrize(
    ("algorithm", "radii", "rate"),
    [(PDQ256, (31, 31), 6.7e-7), (PDQ256, (32, 0), 3.8e-6), (PDQ256, (51, 31), None), ("phash64", (4, 4), None)],
)
def test_a_rate_is_stated_only_where_one_was_measured(algorithm, radii, rate):
    assert pair_rate(algorithm, *radii) == rate


def test_shared_lists_keep_the_radius_that_was_agreed_on():
    radii = {role: BankSettings.default("x", role, PDQ256).radius for role in Role}
    assert radii == {Role.WORKS: 50, Role.PROTECTED: 50, Role.NEGATIVE: 50, Role.SENSITIVE: 31}


def test_a_bank_of_one_entry_matches(bank):
    assert ids(Banks([bank("one", Role.WORKS, [("only", 0, code(4))])]).match(asked(4, 3)).matches) == ["only"]


def test_a_plain_picture_is_unhashable_not_clean(bank):
    banks = Banks([bank("works", Role.WORKS, [("a", 0, code(1))])])
    answer = banks.match(Fingerprinter(SYM256).fingerprint(np.full((90, 90, 3), 255, np.uint8)))
    assert (answer.matches, answer.unhashable) == ((), True)


def test_banks_that_cannot_be_asked_together_are_refused(bank, tmp_path):
    works = bank("works", Role.WORKS, [])
    with pytest.raises(OptionError, match="no bank"):
        Banks([])
    with pytest.raises(OptionError, match="different names"):
        Banks([works, works])
    with pytest.raises(OptionError, match="the same hash"):
        Banks([works, bank("list", Role.SENSITIVE, [], algorithm=PDQ256)])
    bare = Store.create(tmp_path / "bare", SYM256)
    with pytest.raises(IndexFormatError, match="no bank"):
        Banks([bare])
    bare.configure(BankSettings.default("bare", Role.WORKS, SYM256).to_json() | {"role": "unheard of"})
    with pytest.raises(IndexFormatError, match="no bank"):
        Banks.open([bare.folder])
