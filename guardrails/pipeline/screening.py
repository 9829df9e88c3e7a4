"""What looks at pixels before they may leave: hash lists, screens, and the search for similar works."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

from guardrails.domain.findings import Action, Check, strongest
from guardrails.domain.images import Match
from guardrails.domain.records import Refusal, Stage
from guardrails.errors import GenerationError
from guardrails.imaging import Pixels
from guardrails.pipeline.approval import approved
from guardrails.pipeline.original import Original
from guardrails.pipeline.recording import Recorder
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
        screened = join_persons(run_screens(self._screens, draft.pixels), draft.cleared.decision.findings)
        checks = (*listed, *screened)
        approval = draft.cleared.approval
        seen = "" if approval is None else approval.pixels_sha256
        if seen and seen != hashlib.sha256(draft.pixels.tobytes()).hexdigest():
            raise GenerationError("the picture is not the one that was reviewed", hint="ask for it again")
        findings = approved(judge_screens(checks, self._policy.screen_rules), approval)
        if not strongest(findings).releases:
            evidence = (
                self._recorder.keep_for_review(draft.pixels, draft.id) if strongest(findings) is Action.REVIEW else ""
            )
            return self._recorder.refuse(
                Stage.SCREENING, draft.cleared, findings, checks, draft, evidence_file=evidence
            )
        searched = self._recorder.guarded(Stage.SIMILARITY, draft.cleared, lambda: self._search(draft), checks)
        if isinstance(searched, Refusal):
            return searched
        similarity, matches = searched
        similar = approved(judge_similarity(similarity, matches, self._policy.similarity_rules), approval)
        checks, findings = (*checks, similarity), (*findings, *similar)
        if not strongest(similar).releases:
            evidence = self._show_side_by_side(draft, matches) if matches else ""
            return self._recorder.refuse(
                Stage.SIMILARITY, draft.cleared, findings, checks, draft, evidence_file=evidence
            )
        return Screened(draft=draft, checks=checks, findings=findings, matches=matches)

    def screen_original(self, cleared: Cleared, original: Original) -> Refusal | None:
        """What was given is looked at as what is made is."""
        checks = join_persons(run_screens(self._screens, original.pixels), cleared.decision.findings)
        findings = approved(judge_screens(checks, self._policy.screen_rules), cleared.approval)
        return (
            None if strongest(findings).releases else self._recorder.refuse(Stage.SCREENING, cleared, findings, checks)
        )

    def look_up(self, asked: Asked | Cleared, pixels: Pixels) -> tuple[Check, ...] | Refusal:
        """Before anything else sees a picture, and before anything of it could be kept for a review."""
        answer = self._hash_lists.look(pixels)
        if answer is None:
            return ()
        if answer.finding is None:
            return (answer.check,)
        return self._recorder.refuse(
            Stage.SIMILARITY, asked, (answer.finding,), (answer.check,), private={"hash_list": answer.finding.evidence}
        )

    def _search(self, draft: Draft) -> tuple[Check, tuple[Match, ...]]:
        start = time.perf_counter()
        result = self._index.find(draft.pixels)
        return result.check(self._index.component, (time.perf_counter() - start) * 1e3), result.matches

    def _show_side_by_side(self, draft: Draft, matches: tuple[Match, ...]) -> str:
        """Keep what a reviewer needs to see, inside the installation: the draft beside the work that it repeats."""
        match = next((match for match in matches if match.rights.reservation), matches[0])
        source, thumbnail = self._index.picture(match.entry), self._index.thumbnail(match.entry)
        picture = side_by_side(draft.pixels, source, match, thumbnail)
        return self._recorder.keep_for_review(picture, draft.id)
