"""Pictures that are no longer given out, whoever holds their address.

1. The record of the takedown is durable in the ledger.
2. A row of `takedowns` is, and from then on nobody is given the picture.
3. Its file is removed, by whoever comes first: the one that took it down, or the service's cleaning.
"""

from __future__ import annotations

import time
from pathlib import Path

from guardrails.domain.records import RecordKind
from guardrails.errors import OptionError
from service.acts import Act, Acts
from service.stores import Database

LONGEST_GROUND = 4000


class Takedowns:
    """The table of what was taken down.

    Args:
        assets: folder of released pictures.
    """

    def __init__(self, database: Database, acts: Acts, assets: Path) -> None:
        self._database = database
        self._acts = acts
        self._assets = assets

    def take_down(self, image: str, actor: str, ground: str) -> None:
        """Give out the picture of a record no more.

        Args:
            image: id of its record.
            ground: why; kept in the erasable part of the takedown's record.

        Raises:
            OptionError: no picture of this record was released here, it is taken down already, or no ground is given.
        """
        if not ground.strip() or len(ground) > LONGEST_GROUND:
            raise OptionError("a takedown needs a ground", hint=f"write up to {LONGEST_GROUND} characters")
        released = self._database.one("SELECT image_sha256 FROM decisions WHERE id = ? AND kind = 'generation'", image)
        if released is None:
            raise OptionError(f"no picture of the record {image} was released here", hint="see the audit search")
        with self._database.transaction() as transaction:
            is_new = transaction.run(
                "INSERT INTO takedowns (image, at) VALUES (?, ?) ON CONFLICT DO NOTHING", image, time.time()
            )
            if not is_new:
                raise OptionError("this picture is taken down already", hint="nothing is left to do")
            facts = {"image": image, "image_sha256": released["image_sha256"]}
            act = Act(kind=RecordKind.TAKEDOWN, name="takedown", actor=actor, subject=image, facts=facts, words=ground)
            self._acts.note(transaction, act)
        self._remove(image)

    def is_down(self, image: str) -> bool:
        """Whether the picture of a record was taken down."""
        return self._database.one("SELECT image FROM takedowns WHERE image = ?", image) is not None

    def all(self) -> frozenset[str]:
        """Ids of the records of all pictures that were taken down."""
        return frozenset(row["image"] for row in self._database.all("SELECT image FROM takedowns"))

    def remove_files(self) -> None:
        """Remove what a crash, or a release that was under way, has left of pictures that were taken down."""
        for image in self.all():
            self._remove(image)

    def _remove(self, image: str) -> None:
        for path in self._assets.glob(f"{image}.*"):
            path.unlink(missing_ok=True)
