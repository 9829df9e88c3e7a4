"""What a guard asks of an index of works."""

from __future__ import annotations

from typing import Protocol

from guardrails.domain.findings import Component
from guardrails.imaging import Pixels
from guardrails.similarity.search import SearchResult


class WorksIndex(Protocol):
    """Finds the works that a picture resembles; `search.SimilarityIndex` is one.

    Attributes:
        component: name, version, and digest of what is searched.
    """

    @property
    def component(self) -> Component: ...

    def find(self, pixels: Pixels) -> SearchResult:
        """Search for the works that a picture (RGB, uint8, height x width x 3) resembles."""
        ...

    def picture(self, entry_id: str) -> Pixels | None:
        """The reference picture of a work, where it is at hand."""
        ...

    def thumbnail(self, entry_id: str) -> bytes | None:
        """A WebP that shows a work, where there is one; for people, never for comparing."""
        ...
