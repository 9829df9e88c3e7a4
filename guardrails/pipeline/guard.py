"""The order of steps, and nothing else.

1. The prompt is decided by the policy.
2. The model draws.
3. Hash lists, screens and the similarity search look at the pixels.
4. The visible label is drawn, where the jurisdiction or somebody wants one.
5. The watermark goes in and is read back.
6. The file is encoded, declared in XMP, signed last; the final bytes are read back; its manifest is kept, so that a
   copy that loses it can be given it back.
7. The record is durable.
8. The file gets its name.

A rule that does not release, or a fault in any guard, ends in a recorded Refusal. Only a mistake of the caller (an
`InputError` before anything is drawn) and a ledger that cannot be written leave as exceptions: then nothing was
released either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from guardrails import home as homes
from guardrails.domain.canonical import Json, canonical_json
from guardrails.domain.findings import Action, strongest
from guardrails.domain.identity import ImageId
from guardrails.domain.images import LatentStart
from guardrails.domain.records import Refusal, Stage
from guardrails.domain.requests import PromptRequest
from guardrails.errors import (
    OptionError,
)
from guardrails.files import check_writable, clear_abandoned
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.protocol import Generator, Part, Progress
from guardrails.imaging.encoding import ImageFormat
from guardrails.ledger import Ledger
from guardrails.pipeline.approval import Approval, approved
from guardrails.pipeline.drawing import Drawing, as_draft
from guardrails.pipeline.embedded import default_generator, shipped_index
from guardrails.pipeline.original import Original, check_history
from guardrails.pipeline.recording import Recorder
from guardrails.pipeline.screening import Screening
from guardrails.pipeline.sealing import Sealing, with_label
from guardrails.pipeline.stages import (
    Asked,
    Begun,
    Cleared,
    Draft,
    Order,
    Pictures,
    Sealed,
    Step,
    Watch,
    watch_nothing,
)
from guardrails.pipeline.timings import Clock
from guardrails.policy import Policy, default_policy
from guardrails.policy.labelling import wanted_labels
from guardrails.prompts import PromptGuard
from guardrails.provenance import Signer, TrustStore, Verifier
from guardrails.provenance.repository import Repository
from guardrails.screens import Screen, default_screens
from guardrails.similarity.hash_lists import HashLists
from guardrails.similarity.judge import redraws
from guardrails.similarity.protocol import WorksIndex
from guardrails.watermark.keys import Keyring
from guardrails.watermark.latent import LatentMark
from guardrails.watermark.protocol import Scheme
from guardrails.watermark.scheme import PixelMark

Outcome: TypeAlias = Sealed | Refusal

# Between staging a file and recording it lie milliseconds; what is older was left by a process that died there.
_ABANDONED_SECONDS = 3600.0


class Guard:
    """A latent diffusion pipeline that releases nothing unguarded.

    Args:
        pipeline: a diffusers pipeline, or anything with `Generator.draw`.
        policy: the default pack when omitted.
        screens: the default screens when omitted. An empty sequence is legal; the policy's rules about screens that
            did not run then decide.
        index: the rights-bearing similarity index; the shipped one when omitted.
        hash_lists: pictures that nobody may hold; those in `home` when omitted. No policy can allow a hit.
        home: folder of keys and ledger; `guardrails.home.home()` when omitted.
        signer, mark, ledger, manifests: taken from `home` when omitted.
        latent: signs the noise that pictures are drawn from; taken from `home` when mark is.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        policy: Policy | None = None,
        screens: Sequence[Screen] | None = None,
        index: WorksIndex | None = None,
        hash_lists: HashLists | None = None,
        home: Path | None = None,
        signer: Signer | None = None,
        verifier: Verifier | None = None,
        mark: Scheme | None = None,
        latent: LatentMark | None = None,
        ledger: Ledger | None = None,
        manifests: Repository | None = None,
    ) -> None:
        home = home or homes.home()
        keys = homes.keys_folder(home)
        self.policy = policy or default_policy()
        self.ledger = Ledger.open(homes.ledger_folder(home)) if ledger is None else ledger
        self.ledger.recover()
        if mark is None:
            keyring = Keyring.load_or_create(keys)
            mark, latent = PixelMark(keyring), latent or LatentMark(keyring)
        self._prompts = PromptGuard(self.policy)
        self._recorder = Recorder(self.ledger, self.policy.ref, homes.evidence_folder(home))
        self._generator: Generator = (
            pipeline if hasattr(pipeline, "draw") else DiffusersGenerator(pipeline, name=type(pipeline).__name__)
        )
        self._drawing = Drawing(self._generator, latent, self.policy.watermark_rule.latent)
        self._screening = Screening(
            self.policy,
            default_screens(gallery=homes.faces_folder(home)) if screens is None else screens,
            shipped_index(home) if index is None else index,
            HashLists(homes.hash_lists_folder(home)) if hash_lists is None else hash_lists,
            self._recorder,
        )
        self._sealing = Sealing(
            self.policy,
            mark,
            signer or Signer.dev(keys),
            verifier or Verifier(TrustStore.dev(keys)),
            Repository(homes.manifests_folder(home)) if manifests is None else manifests,
            self._recorder,
        )

    @classmethod
    def default(cls, *, home: Path | None = None, policy: Policy | None = None) -> Guard:
        """The embedded default: the pocket pipeline under the default policy."""
        return cls(default_generator(), home=home, policy=policy)

    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str = "",
        seed: int | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        jurisdiction: str = "",
        labels: Sequence[str] = (),
        format: ImageFormat | str = ImageFormat.PNG,
        out: Path | None = None,
        progress: Progress | None = None,
    ) -> Outcome:
        """Make one picture; see `generate_all`."""
        request = PromptRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            seed=seed,
            steps=steps,
            guidance_scale=guidance_scale,
            width=width,
            height=height,
            jurisdiction=jurisdiction,
            labels=tuple(labels),
        )
        return self.generate_all(request, format=format, out=out, progress=progress)[0]

    def generate_all(
        self,
        request: PromptRequest,
        *,
        format: ImageFormat | str = ImageFormat.PNG,
        quality: int | None = None,
        out: Path | None = None,
        progress: Progress | None = None,
        ids: Sequence[ImageId] | None = None,
        approval: Approval | None = None,
        original: Original | None = None,
        watch: Watch | None = None,
    ) -> list[Outcome]:
        """Make `request.count` pictures.

        Args:
            format: one that `imaging.encoding` can write, for example "png" or "avif".
            quality: 1..100, of lossy formats. The mark is read in the final file: a picture that loses it at this
                quality is refused with the fault `quality_too_low`.
            out: folder that released files appear in, named by their id; without it the bytes are only returned.
            progress: told after every denoising step.
            ids: of the pictures, one each; drawn at random when omitted. A caller that must never make one twice
                chooses them first and looks for them in the ledger after a crash; nothing is then drawn again.
            approval: of reviewers, for rules that held this very request back.
            original: a picture to change instead of drawing from noise; it is screened first, and becomes the parent
                in the manifest.
            watch: told after every step; what it raises ends the run, and nothing further is released.

        Returns:
            One outcome a picture; a single Refusal when the prompt or the drawing was refused.

        Raises:
            InputError: the request cannot be used; nothing was drawn.
            LedgerError, StorageError: no record could be written; nothing was released.
        """
        order = Order(
            request=request,
            format=ImageFormat.parse(format) if isinstance(format, str) else format,
            quality=quality,
            out=out,
            progress=progress,
            ids=ids,
            approval=approval,
            original=original,
            watch=watch or watch_nothing,
        )
        begun = self.begin(order)
        return [begun] if isinstance(begun, Refusal) else self.complete(begun)

    def begin(self, order: Order) -> Begun | Refusal:
        """The steps before anything is drawn; `complete` does the others. Errors as `generate_all`."""
        request, original, out = order.request, order.original, order.out
        _check_recordable(request, order.format, order.quality)
        if out is not None:
            check_writable(out)
            clear_abandoned(out, _ABANDONED_SECONDS, keep=self.ledger.staged_files())
        labels = wanted_labels(request.jurisdiction, request.labels)
        parent: dict[str, Json] = {}
        if original is not None:
            asked = Asked(request=request)
            listed = self._recorder.guarded(
                Stage.SIMILARITY, asked, partial(self._screening.look_up, asked, *original.shown)
            )
            if isinstance(listed, Refusal):
                return listed
            examined = self._recorder.guarded(Stage.PROVENANCE, asked, partial(self._sealing.examine, original))
            if isinstance(examined, Refusal):
                return examined
            manifest, parent = examined
            check_history(manifest)
        cleared = self._clear(request, order.approval)
        if isinstance(cleared, Refusal):
            return cleared
        cleared = dataclasses.replace(cleared, labels=labels)
        if original is not None:
            cleared = dataclasses.replace(cleared, original=original, parent=parent)
            refused = self._recorder.guarded(
                Stage.SCREENING, cleared, partial(self._screening.screen_original, cleared, original)
            )
            if refused is not None:
                return refused
        order.watch(Step.CLEARED, "")
        ids = order.ids or [ImageId.new() for _ in range(request.count)]
        self._check_ids(ids, request.count)
        return Begun(order=order, cleared=cleared, ids=ids)

    def complete(self, begun: Begun, shared: Pictures | None = None) -> list[Outcome]:
        """Draw, and all steps after that. Errors as `generate_all`.

        Args:
            shared: the pictures, when `together.draw_together` has drawn them.
        """
        order, cleared, ids = begun.order, begun.cleared, begun.ids
        pictures: Pictures | Refusal
        if shared is not None:
            pictures = shared
        else:
            seed = cleared.reviewed_seed
            pictures = self._recorder.guarded(
                Stage.GENERATION, cleared, lambda: self._drawing.draw(cleared, ids, order.progress, seed)
            )
        if isinstance(pictures, Refusal):
            return [pictures]
        order.watch(Step.DRAWN, "")
        decided = cleared.decision.milliseconds / len(ids)
        outcomes = [
            self._finish(
                cleared,
                partial(as_draft, cleared, image_id, picture, pictures.latent),
                order,
                Clock(prompt=decided, generation=pictures.milliseconds),
            )
            for image_id, picture in zip(ids, pictures.drawn, strict=True)
        ]
        if shared is not None or (order.ids is not None and len(ids) > 1):
            # A release draws the picture by itself and has to come to exactly what reviewers saw.
            outcomes = [
                self._again(cleared, image_id, order, drawn.facts.seed) if _waits_for_review(outcome) else outcome
                for image_id, drawn, outcome in zip(ids, pictures.drawn, outcomes, strict=True)
            ]
        if order.ids is not None or order.approval is not None:
            return outcomes
        return [
            self._redrawn(cleared, outcome, order) if isinstance(outcome, Refusal) else outcome for outcome in outcomes
        ]

    def part(self, begun: Begun) -> tuple[LatentStart, Part]:
        """What `together.draw_together` asks the model for."""
        return self._drawing.part(begun.cleared, begun.ids)

    @property
    def generator(self) -> Generator:
        """What draws."""
        return self._generator

    def _check_ids(self, ids: Sequence[ImageId], count: int) -> None:
        if len(ids) != count:
            raise OptionError(f"{len(ids)} ids for {count} pictures", hint="give one id for each picture")
        for image_id in ids:
            if self.ledger.holds(str(image_id)):
                raise OptionError(f"the picture {image_id} is recorded already", hint="choose a fresh id")

    def _clear(self, request: PromptRequest, approval: Approval | None) -> Cleared | Refusal:
        decision = self._recorder.guarded(Stage.PROMPT, Asked(request=request), lambda: self._prompts.decide(request))
        if isinstance(decision, Refusal):
            return decision
        findings = approved(decision.findings, approval)
        decision = dataclasses.replace(decision, findings=findings, action=strongest(findings))
        if not decision.action.releases:
            return self._recorder.refuse(Stage.PROMPT, Asked(request=request, decision=decision), decision.findings)
        return Cleared(request=request, decision=decision, approval=approval)

    def _finish(self, cleared: Cleared, begin: Callable[[], Draft], order: Order, clock: Clock) -> Outcome:
        watch = order.watch
        draft = self._recorder.guarded(Stage.GENERATION, cleared, begin)
        if isinstance(draft, Refusal):
            return draft
        screening = clock.timed(Stage.SCREENING, lambda: self._screening.screen(draft))
        screened = self._recorder.guarded(Stage.SCREENING, cleared, screening)
        if isinstance(screened, Refusal):
            return screened
        watch(Step.SCREENED, str(draft.id))
        labelling = clock.timed(Stage.LABEL, lambda: with_label(screened))
        labelled = self._recorder.guarded(Stage.LABEL, cleared, labelling, screened.checks)
        if isinstance(labelled, Refusal):
            return labelled
        marking = clock.timed(Stage.WATERMARK, lambda: self._sealing.embed(labelled))
        marked = self._recorder.guarded(Stage.WATERMARK, cleared, marking, screened.checks)
        if isinstance(marked, Refusal):
            return marked
        watch(Step.MARKED, str(draft.id))
        signing = clock.timed(Stage.PROVENANCE, lambda: self._sealing.sign(marked, order))
        signed = self._recorder.guarded(Stage.PROVENANCE, cleared, signing, screened.checks)
        if isinstance(signed, Refusal):
            return signed
        watch(Step.SIGNED, str(draft.id))
        return self._recorder.release(signed, order.out, watch, clock.read())

    def _redrawn(self, cleared: Cleared, refusal: Refusal, order: Order) -> Outcome:
        """Draw again where a rule about works wants that first; every refused picture keeps its own record."""
        outcome: Outcome = refusal
        tries = redraws(refusal.findings, self.policy.similarity_rules) if cleared.request.seed is None else 0
        while tries and isinstance(outcome, Refusal) and outcome.stage is Stage.SIMILARITY:
            tries -= 1
            outcome = self._again(cleared, ImageId.new(), order)
        return outcome

    def _again(self, cleared: Cleared, image_id: ImageId, order: Order, seed: int | None = None) -> Outcome:
        """One picture more, drawn by itself: of `seed`, or of a fresh one."""
        cleared = dataclasses.replace(cleared, request=dataclasses.replace(cleared.request, count=1))
        pictures = self._recorder.guarded(
            Stage.GENERATION, cleared, lambda: self._drawing.draw(cleared, [image_id], None, seed)
        )
        if isinstance(pictures, Refusal):
            return pictures
        begin = partial(as_draft, cleared, image_id, pictures.drawn[0], pictures.latent)
        clock = Clock(prompt=cleared.decision.milliseconds, generation=pictures.milliseconds)
        return self._finish(cleared, begin, order, clock)


def _check_recordable(request: PromptRequest, file_format: ImageFormat, quality: int | None) -> None:
    if quality is not None and not 1 <= quality <= 100:
        raise OptionError(f"quality {quality} is outside 1..100", hint="leave it out for the default")
    if not file_format.writable:
        raise OptionError(
            f"{file_format.name} can be read but not written", hint="choose png, jpeg, webp, avif or tiff"
        )
    if request.count < 1:
        raise OptionError(f"{request.count} pictures cannot be drawn", hint="ask for at least one")
    numbers = (request.seed, request.count, request.steps, request.guidance_scale, request.width, request.height)
    try:
        canonical_json(numbers)
    except ValueError as error:
        raise OptionError(f"the request cannot be recorded: {error}", hint="use finite numbers below 2**53") from error


def _waits_for_review(outcome: Outcome) -> bool:
    return isinstance(outcome, Refusal) and not outcome.fault and strongest(outcome.findings) is Action.REVIEW
