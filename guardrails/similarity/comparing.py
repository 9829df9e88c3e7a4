"""What pixels say of an answer of banks, where the works' pictures lie in a folder.

1. An entry that both a hash and keypoints led to is one entry.
2. The nearest by hash are compared as whole pictures, those with most keypoints where these place them.
3. Of an entry's two comparisons the one that bears out more counts, and its error rate is that of how it was led to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guardrails.domain.canonical import Json
from guardrails.domain.images import UNVERIFIABLE, MatchState
from guardrails.errors import ImageError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode, read_image_bytes
from guardrails.similarity.alignment import Frame
from guardrails.similarity.answers import Found
from guardrails.similarity.banks import BankAnswer, Banks
from guardrails.similarity.keypoint_index import Located
from guardrails.similarity.levels import STATES, Level, error_rates
from guardrails.similarity.parts import State
from guardrails.similarity.radii import COMPARED_CANDIDATES
from guardrails.similarity.verification import Agreement, compare_frames, compare_placed, evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An entry of a bank that a picture resembles.

    Attributes:
        found: by hash; None where keypoints alone led to it.
        located: by keypoints; None where they did not.
        agreement: of pixels; None where the work's picture is not at hand, or many others come before it.
        work: RGB, uint8, height x width x 3, where it was read.
    """

    bank: str
    id: str
    state: State
    facts: Mapping[str, str]
    found: Found | None
    located: Located | None
    agreement: Agreement | None
    work: Pixels | None

    @property
    def level(self) -> Level:
        """What pixels bear out; without them no more than a candidate."""
        return Level.CANDIDATE if self.agreement is None else self.agreement.level

    @property
    def match_state(self) -> MatchState:
        """How sure it is."""
        return STATES[self.level]

    @property
    def grade(self) -> int:
        """Of replication, 1..5."""
        return int(max(self.level, Level.CANDIDATE))

    @property
    def remark(self) -> str:
        """What else a reader must know."""
        return UNVERIFIABLE if self.level is Level.UNVERIFIABLE else ""

    @property
    def placed(self) -> bool:
        """True when the level rests on where keypoints found the work."""
        by_hash = self.found is not None if self.agreement is None else self.agreement.placement is None
        return not by_hash

    @property
    def error_rate(self) -> str:
        """Of the level, with its n and bound, in words."""
        return error_rates(placed=self.placed)[self.match_state]

    def to_json(self) -> dict[str, Json]:
        """For records."""
        return {
            "bank": self.bank,
            "entry": self.id,
            "level": self.match_state.value,
            "grade": self.grade,
            "remark": self.remark,
            "error_rate": self.error_rate,
            "pixels": None if self.agreement is None else self.agreement.summary,
            "part": None if self.located is None else self.located.summary,
        }


def compare_answer(banks: Banks, answer: BankAnswer, pixels: Pixels) -> list[Compared]:
    """All matches and parts of an answer, the surest first.

    Args:
        pixels: that the answer is about, RGB, uint8, height x width x 3.
    """
    matches = {(match.bank, match.found.id): match for match in answer.matches}
    parts = {(part.bank, part.located.id): part for part in answer.parts}
    near = set(list(matches)[:COMPARED_CANDIDATES]) | set(list(parts)[:COMPARED_CANDIDATES])
    frame = Frame(pixels)
    compared = []
    for key in dict.fromkeys([*matches, *parts]):
        bank, name = key
        match, part = matches.get(key), parts.get(key)
        folder = banks.members[bank][0].pictures
        work = _read(Path(folder), name) if folder and key in near else None
        located = None if part is None else part.located
        one = match.found if match is not None else parts[key]
        compared.append(
            Compared(
                bank=bank,
                id=name,
                state=one.state,
                facts=one.facts,
                found=None if match is None else match.found,
                located=located,
                agreement=None if work is None else _agreement(frame, pixels, work, located, hashed=match is not None),
                work=work,
            )
        )
    return sorted(compared, key=_surest_first)


def _agreement(frame: Frame, pixels: Pixels, work: Pixels, located: Located | None, *, hashed: bool) -> Agreement:
    ways = [compare_frames(frame, Frame(work))] if hashed else []
    if located is not None:
        ways.append(compare_placed(pixels, work, located.placement))
    return max(ways, key=evidence)


def _read(folder: Path, name: str) -> Pixels | None:
    """A work's picture, where it still is."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return None
    try:
        return decode(read_image_bytes(path)).pixels
    except ImageError:
        return None


def _surest_first(one: Compared) -> tuple[int, float, float, str]:
    share = 0.0 if one.agreement is None else one.agreement.share
    # What keypoints alone led to is as far as can be.
    distance = float("inf") if one.found is None else one.found.distance
    return -one.grade, -share, distance, one.id
