"""What looks at pixels before they may leave: hash lists, screens, and the search for similar works."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from guardrails.domain.findings import Action, Check, strongest
from guardrails.domain.identity import ImageId
from guardrails.domain.images import Match
from guardrails.domain.records import Refusal, Stage
from guardrails.errors import GenerationError
from guardrails.imaging import Pixels
from guardrails.pipeline.approval import approved, for_picture
from guardrails.pipeline.original import Original
from guardrails.pipeline.recording import NOTHING_KEPT, Kept, Recorder
from guardrails.pipeline.stages import Asked, Cleared, Draft, Screened
from guardrails.policy import Policy
from guardrails.screens import Screen, run_screens
from guardrails.screens import judge as judge_screens
from guardrails.screens.persons import join_persons
from guardrails.similarity.evidence import side_by_side
from guardrails.similarity.hash_lists import HashLists
from guardrails.similarity.judge import judge as judge_similarity
from guardrails.similarity.protocol import WorksIndex


class Screening:
    """Looks at pixels under one policy."""

    def __init__(
        self,
        policy: Policy,
        screens: Sequence[Screen],
        index: WorksIndex,
        hash_lists: HashLists,
        recorder: Recorder,
    ) -> None:
        self._policy = policy
        self._screens = tuple(screens)
        self._index = index
        self._hash_lists = hash_lists
        self._recorder = recorder

    def screen(self, draft: Draft) -> Screened | Refusal:
        """Look at a draft; what a rule holds back is kept for reviewers."""
        listed = self.look_up(draft.cleared, draft.pixels)
        if isinstance(listed, Refusal):
            return listed
        checks = (*listed, *self._run_screens(draft.cleared, draft.pixels))
        approval = for_picture(draft.cleared.approval, draft.pixels)
        if approval is None and draft.cleared.reviewed_seed is not None:
            raise GenerationError("the picture is not the one that was reviewed", hint="ask for it again")
        findings = approved(judge_screens(checks, self._policy.screen_rules), approval)
        if not strongest(findings).releases:
            kept = self._recorder.keep_held(draft, findings)
            return self._recorder.refuse(Stage.SCREENING, draft.cleared, findings, checks, draft, kept=kept)
        searched = self._recorder.guarded(Stage.SIMILARITY, draft.cleared, lambda: self._search(draft), checks)
        if isinstance(searched, Refusal):
            return searched
        similarity, matches = searched
        similar = approved(judge_similarity(similarity, matches, self._policy.similarity_rules), approval)
        checks, findings = (*checks, similarity), (*findings, *similar)
        if not strongest(similar).releases:
            kept = self._keep_side_by_side(draft, matches) if matches else self._recorder.keep_held(draft, similar)
            return self._recorder.refuse(Stage.SIMILARITY, draft.cleared, findings, checks, draft, kept=kept)
        return Screened(draft=draft, checks=checks, findings=findings, matches=matches)

    def screen_original(self, cleared: Cleared, original: Original) -> Refusal | None:
        """What was given is looked at as what is made is, in every way in which it can be shown."""
        checks = self._run_screens(cleared, *original.shown)
        approval = for_picture(cleared.approval, *original.shown)
        findings = approved(judge_screens(checks, self._policy.screen_rules), approval)
        action = strongest(findings)
        if action.releases:
            return None
        kept = NOTHING_KEPT
        if action is Action.REVIEW:
            kept = self._recorder.keep_for_review(ImageId.new(), np.hstack(original.shown), *original.shown)
        return self._recorder.refuse(Stage.SCREENING, cleared, findings, checks, kept=kept)

    def look_up(self, asked: Asked | Cleared, *shown: Pixels) -> tuple[Check, ...] | Refusal:
        """Before anything else sees a picture, and before anything of it could be kept for a review."""
        answer = self._hash_lists.look(*shown)
        if answer is None:
            return ()
        if answer.finding is None:
            return (answer.check,)
        return self._recorder.refuse(
            Stage.SIMILARITY, asked, (answer.finding,), (answer.check,), private={"hash_list": answer.finding.evidence}
        )

    def _run_screens(self, cleared: Cleared, *shown: Pixels) -> tuple[Check, ...]:
        """One check a screen for each way in which a picture can be shown."""
        return tuple(
            check
            for pixels in shown
            for check in join_persons(run_screens(self._screens, pixels), cleared.decision.findings)
        )

    def _search(self, draft: Draft) -> tuple[Check, tuple[Match, ...]]:
        start = time.perf_counter()
        result = self._index.find(draft.pixels)
        return result.check(self._index.component, (time.perf_counter() - start) * 1e3), result.matches

    def _keep_side_by_side(self, draft: Draft, matches: tuple[Match, ...]) -> Kept:
        """Keep what a reviewer needs to see, inside the installation: the draft beside the work that it repeats."""
        match = next((match for match in matches if match.rights.reservation), matches[0])
        source, thumbnail = self._index.picture(match.entry), self._index.thumbnail(match.entry)
        shown = side_by_side(draft.pixels, source, match, thumbnail)
        return self._recorder.keep_for_review(draft.id, shown, draft.pixels)
