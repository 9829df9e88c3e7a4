"""Screens: pixels to scores, and scores to findings under a policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guardrails.screens.judge import judge
from guardrails.screens.protocol import Screen
from guardrails.screens.run import run_screens

if TYPE_CHECKING:
    from guardrails.screens.concepts import ConceptPack

__all__ = ["Screen", "default_screens", "judge", "run_screens"]


def default_screens(
    *, packs: Sequence[ConceptPack] = (), gallery: Path | None = None, references: Path | None = None
) -> tuple[Screen, ...]:
    """The screens that a guard runs when it is told nothing else; none loads weights before its first picture.

    Args:
        packs: concept packs; the shipped one when empty.
        gallery: folder of enrolled persons, who may come and go while the screens are in use. Without anybody there,
            no face is looked for, and no weights of faces are needed.
        references: safe pictures that concepts are calibrated on, made by `guardrails screens calibrate`; the shipped
            ones when omitted.
    """
    from guardrails.screens.clip_concepts import ClipConcepts
    from guardrails.screens.concepts import shipped_pack
    from guardrails.screens.marks import VisibleMarks
    from guardrails.screens.open_nsfw import OpenNsfw

    packs = packs or (shipped_pack(),)
    concepts = ClipConcepts(packs=packs, references=references)
    screens: tuple[Screen, ...] = (OpenNsfw(), concepts, VisibleMarks(packs=packs))
    if gallery is None:
        return screens
    from guardrails.screens.faces import Faces
    from guardrails.screens.gallery import Gallery
    from guardrails.screens.prior import Prior

    return (*screens, Faces(Gallery(gallery), packs=packs, prior=Prior(concepts)))
