"""Lists of hashes whose pictures nobody may hold: asked before anything else looks at a picture.

A folder of indexes whose banks are `sensitive` (and `negative`, which take false hits back). A hit is refused whatever
the policy says; nothing of the picture, its prompt or its seed is kept, only which list was hit, and its entry.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrails.domain.findings import Action, Check, CheckStatus, Component, Finding
from guardrails.errors import OptionError
from guardrails.files import STAGED_PREFIX
from guardrails.imaging import Pixels
from guardrails.similarity.banks import BankAnswer, Banks, BankSettings, Role
from guardrails.similarity.fingerprints import Fingerprinter
from guardrails.similarity.store import Store

NAME = "hash-lists"
VERSION = "1"
RULE = "HASHLIST-01"
CATEGORY = "listed"
_MESSAGE = "The picture is on a list of pictures that nobody may hold."
_ROLES = (Role.SENSITIVE, Role.NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAnswer:
    """What the lists say of one picture.

    Attributes:
        finding: None when no list has it.
    """

    check: Check
    finding: Finding | None


class HashLists:
    """The lists in a folder; one that is added, changed or removed counts from the next picture on.

    Args:
        folder: its subfolders are the lists; there need be none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._stores: dict[str, Store] = {}
        self._meaning: list[tuple[str, Mapping[str, Any], str]] = []
        self._banks: list[Banks] = []

    def look(self, *shown: Pixels) -> ListAnswer | None:
        """Whether a picture is on a list; None where there are no lists.

        Args:
            shown: RGB, uint8, height x width x 3; every way in which a file with transparency can be shown.

        Raises:
            IndexFormatError: a list is damaged or is no index: then nobody can say that a picture is on none.
            OptionError: a list is a bank of works.
        """
        with self._guard:
            self._open()
            if not self._banks:
                return None
            started = time.perf_counter()
            answers = [
                banks.match(Fingerprinter(banks.algorithm).fingerprint(pixels))
                for banks in self._banks
                for pixels in shown
            ]
            return self._told(answers, (time.perf_counter() - started) * 1e3)

    def _open(self) -> None:
        there = self._folder.iterdir() if self._folder.is_dir() else ()
        names = sorted(path.name for path in there if path.is_dir() and not path.name.startswith(STAGED_PREFIX))
        opened = self._stores
        self._stores = {name: opened[name] if name in opened else Store.open(self._folder / name) for name in names}
        # The settings come first: asking for them notices that another list lies there under the same name.
        meaning = [(name, store.settings, store.algorithm) for name, store in self._stores.items()]
        if meaning == self._meaning:
            return
        groups: dict[str, list[Store]] = defaultdict(list)
        for name, settings, algorithm in meaning:
            if BankSettings.from_json(settings).role not in _ROLES:
                raise OptionError(
                    f"{self._folder / name} is no list of hashes",
                    hint="import it anew with --role sensitive, or move it away",
                )
            groups[algorithm].append(self._stores[name])
        self._banks = [Banks(stores) for stores in groups.values()]
        self._meaning = meaning

    def _told(self, answers: list[BankAnswer], milliseconds: float) -> ListAnswer:
        digests = "".join(f"{name} {store.digest}\n" for name, store in self._stores.items())
        digest = hashlib.sha256(digests.encode())
        component = Component(name=NAME, version=VERSION, digest=digest.hexdigest())
        if all(answer.unhashable for answer in answers):
            reason = "unhashable: too little detail"
            unavailable = CheckStatus.UNAVAILABLE
            return ListAnswer(
                check=Check(component=component, status=unavailable, reason=reason, milliseconds=milliseconds),
                finding=None,
            )
        hit = next((match for answer in answers for match in answer.matches), None)
        scores = {name: 0.0 for answer in answers for name in answer.searched}
        if hit is not None:
            scores[hit.bank] = 1.0
        return ListAnswer(
            check=Check(component=component, status=CheckStatus.RAN, scores=scores, milliseconds=milliseconds),
            finding=None
            if hit is None
            else Finding(
                rule=RULE,
                category=CATEGORY,
                action=Action.BLOCK,
                message=_MESSAGE,
                detector=component,
                error_rate=_error_rate(answers),
                evidence={"list": hit.bank, "entry": hit.found.id},
            ),
        )


def _error_rate(answers: list[BankAnswer]) -> str:
    """The false hits to be expected for one picture, over all lists."""
    expected = [rate for answer in answers for rate in answer.expected_false.values()]
    searched = sum({name: count for answer in answers for name, count in answer.searched.items()}.values())
    known = [rate for rate in expected if rate is not None]
    if len(known) < len(expected):
        return f"not measured for these hashes and radii; {searched} were asked"
    return f"hashes alone: {sum(known):.2g} false hits to be expected for one picture among {searched} hashes"
