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
import hashlib
import io
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from guardrails import home as homes
from guardrails.domain.canonical import Json, canonical_json, to_plain
from guardrails.domain.findings import Action, Check, Component, Finding, strongest
from guardrails.domain.identity import ImageId
from guardrails.domain.images import LatentStart, ManifestStatus, MarkVerdict, Match
from guardrails.domain.records import Receipt, Record, RecordKind, Refusal, Stage
from guardrails.domain.requests import PromptRequest
from guardrails.errors import (
    GenerationError,
    GuardrailsError,
    InputError,
    LedgerError,
    OptionError,
    QualityError,
    SigningError,
    StorageError,
    WatermarkError,
)
from guardrails.files import check_writable, clear_abandoned, stage, write_atomically
from guardrails.generation.defaults import WithDefaults
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.editing import DiffusersEditor
from guardrails.generation.loading import load_generator
from guardrails.generation.protocol import Drawn, EditingGenerator, Generator, Part, Progress, SignedGenerator
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import DEFAULT_QUALITY, ImageFormat, encode
from guardrails.imaging.iscc import code_bits
from guardrails.imaging.labels import draw_label, read_back
from guardrails.imaging.metadata import ai_generated_xmp
from guardrails.ledger import Ledger, commit
from guardrails.pipeline.approval import Approval, approved
from guardrails.pipeline.evidence import public_facts
from guardrails.pipeline.original import Original, check_history
from guardrails.pipeline.persons import join_persons
from guardrails.pipeline.pictures import RebuiltPictures
from guardrails.pipeline.stages import (
    Asked,
    Begun,
    Cleared,
    Draft,
    Labelled,
    Marked,
    Order,
    Pictures,
    Screened,
    Sealed,
    Signed,
    Step,
    Watch,
    watch_nothing,
)
from guardrails.pipeline.timings import Clock, Timings
from guardrails.policy import Policy, default_policy
from guardrails.policy.labelling import TC260, wanted_labels
from guardrails.prompts import PromptGuard
from guardrails.provenance import ManifestSpec, Signer, TrustStore, Verifier, image_code
from guardrails.provenance import Signed as SignedFile
from guardrails.provenance.repository import Fingerprints, Repository, to_entry
from guardrails.resources import datasets_path
from guardrails.screens import Screen, default_screens, run_screens
from guardrails.screens import judge as judge_screens
from guardrails.similarity.evidence import side_by_side
from guardrails.similarity.hash_lists import HashLists
from guardrails.similarity.hashes import pdq256
from guardrails.similarity.judge import attributed, redraws
from guardrails.similarity.judge import judge as judge_similarity
from guardrails.similarity.protocol import WorksIndex
from guardrails.similarity.search import SimilarityIndex
from guardrails.tracing import span
from guardrails.version import __version__
from guardrails.watermark.binding import EdgeMap
from guardrails.watermark.keys import Keyring
from guardrails.watermark.latent import LatentMark
from guardrails.watermark.protocol import Scheme
from guardrails.watermark.scheme import PixelMark

Outcome: TypeAlias = Sealed | Refusal
_Result = TypeVar("_Result")

POCKET = "pocket"
POCKET_STEPS = 20
POCKET_GUIDANCE = 3.0
GENERATOR = f"latent-guardrails {__version__}"

# Up to here an input error is a mistake of the caller; behind the model it is a fault of a guard.
_CALLERS_STAGES = (Stage.PROMPT, Stage.GENERATION)
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
        self._evidence = homes.evidence_folder(home)
        self._prompts = PromptGuard(self.policy)
        self._generator: Generator = (
            pipeline if hasattr(pipeline, "draw") else DiffusersGenerator(pipeline, name=type(pipeline).__name__)
        )
        self._screens = default_screens(gallery=homes.faces_folder(home)) if screens is None else tuple(screens)
        self._index = shipped_index(home) if index is None else index
        self._hash_lists = HashLists(homes.hash_lists_folder(home)) if hash_lists is None else hash_lists
        self._signer = signer or Signer.dev(keys)
        self._verifier = verifier or Verifier(TrustStore.dev(keys))
        self._latent = latent
        if mark is None:
            keyring = Keyring.load_or_create(keys)
            mark, self._latent = PixelMark(keyring), latent or LatentMark(keyring)
        self._mark = mark
        self._manifests = Repository(homes.manifests_folder(home)) if manifests is None else manifests

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
            listed = self._guarded(Stage.SIMILARITY, asked, partial(self._look_up, asked, original.pixels))
            if isinstance(listed, Refusal):
                return listed
            parent = self._examine(original)
        cleared = self._clear(request, order.approval)
        if isinstance(cleared, Refusal):
            return cleared
        cleared = dataclasses.replace(cleared, labels=labels)
        if original is not None:
            cleared = dataclasses.replace(cleared, original=original, parent=parent)
            refused = self._guarded(Stage.SCREENING, cleared, partial(self._screen_original, cleared, original))
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
            pictures = self._guarded(Stage.GENERATION, cleared, lambda: self._draw(cleared, ids, order.progress, seed))
        if isinstance(pictures, Refusal):
            return [pictures]
        order.watch(Step.DRAWN, "")
        decided = cleared.decision.milliseconds / len(ids)
        outcomes = [
            self._finish(
                cleared,
                partial(_draft, cleared, image_id, picture, pictures.latent),
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
        return self._part(begun.cleared, begun.ids)

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
        decision = self._guarded(Stage.PROMPT, Asked(request=request), lambda: self._prompts.decide(request))
        if isinstance(decision, Refusal):
            return decision
        findings = approved(decision.findings, approval)
        decision = dataclasses.replace(decision, findings=findings, action=strongest(findings))
        if not decision.action.releases:
            return self._refuse(Stage.PROMPT, Asked(request=request, decision=decision), decision.findings)
        return Cleared(request=request, decision=decision, approval=approval)

    def _part(self, cleared: Cleared, ids: Sequence[ImageId]) -> tuple[LatentStart, Part]:
        request, prompt, generator = cleared.request, cleared.decision.prompt, self._generator
        latent = self._latent_start(request)
        if not (latent.scheme and self._latent is not None and isinstance(generator, SignedGenerator)):
            return latent, Part(request=request, prompt=prompt)
        shape = generator.latent_shape(request)
        signs = [self._latent.signs(image_id.mark_id, shape) for image_id in ids]
        return latent, Part(request=request, prompt=prompt, signs=signs)

    def _draw(
        self, cleared: Cleared, ids: Sequence[ImageId], progress: Progress | None, seed: int | None = None
    ) -> Pictures:
        """The pictures of one request; from `seed` when it was drawn before."""
        started = time.perf_counter()
        latent, part = self._part(cleared, ids)
        # Whether the noise carries the id is decided by what was asked for at first.
        request = part.request if seed is None else dataclasses.replace(part.request, seed=seed)
        if cleared.original is not None:
            latent = LatentStart(reason="drawn from a picture")
            drawn = self._edit(dataclasses.replace(cleared, request=request), cleared.original, progress)
        elif isinstance(self._generator, SignedGenerator) and len(part.signs):
            drawn = self._generator.draw(request, part.prompt, progress=progress, signs=part.signs)
        else:
            drawn = self._generator.draw(request, part.prompt, progress=progress)
        if len(drawn) != request.count:
            raise GenerationError(
                f"the model gave {len(drawn)} pictures where {request.count} were asked for",
                hint="the generator must return one picture for each seed",
            )
        each = (time.perf_counter() - started) * 1e3 / request.count
        return Pictures(latent=latent, drawn=drawn, milliseconds=each)

    def _examine(self, original: Original) -> dict[str, Json]:
        """The history of a picture that was given; raises ImageError when it does not hold."""
        manifest = self._verifier.verify(original.source.data)
        check_history(manifest)
        try:
            mark_id = self._mark.detect(original.pixels, "standard").mark_id
        except WatermarkError:
            # Too small to carry one.
            mark_id = ""
        return original.facts(manifest, mark_id)

    def _screen_original(self, cleared: Cleared, original: Original) -> Refusal | None:
        """What was given is looked at as what is made is."""
        checks = run_screens(self._screens, original.pixels)
        findings = approved(judge_screens(checks, self.policy.screen_rules), cleared.approval)
        return None if strongest(findings).releases else self._refuse(Stage.SCREENING, cleared, findings, checks)

    def _edit(self, cleared: Cleared, original: Original, progress: Progress | None) -> list[Drawn]:
        if not isinstance(self._generator, EditingGenerator):
            raise OptionError(
                f"{type(self._generator).__name__} cannot change pictures", hint="ask for a picture without an original"
            )
        prompt, change = cleared.decision.prompt, (original.pixels, original.strength, original.mask)
        return self._generator.edit(cleared.request, prompt, *change, progress=progress)

    def _latent_start(self, request: PromptRequest) -> LatentStart:
        """Whether the noise of a request's pictures carries their ids; when not, why."""
        wanted = self.policy.watermark_rule.latent
        if wanted == "never":
            return LatentStart(reason="the policy does not ask for it")
        if wanted == "unseeded" and request.seed is not None:
            return LatentStart(reason="the request names the seed")
        if self._latent is None:
            return LatentStart(reason="no key for it")
        if not isinstance(self._generator, SignedGenerator):
            return LatentStart(reason=f"{type(self._generator).__name__} takes no initial latents")
        reason = self._generator.refuses_signs(request)
        return LatentStart(reason=reason) if reason else self._latent.start(self._generator.latent_shape(request))

    def _finish(self, cleared: Cleared, begin: Callable[[], Draft], order: Order, clock: Clock) -> Outcome:
        watch = order.watch
        draft = self._guarded(Stage.GENERATION, cleared, begin)
        if isinstance(draft, Refusal):
            return draft
        screening = clock.timed(Stage.SCREENING, lambda: self._screen(draft))
        screened = self._guarded(Stage.SCREENING, cleared, screening)
        if isinstance(screened, Refusal):
            return screened
        watch(Step.SCREENED, str(draft.id))
        labelling = clock.timed(Stage.LABEL, lambda: _labelled(screened))
        labelled = self._guarded(Stage.LABEL, cleared, labelling, screened.checks)
        if isinstance(labelled, Refusal):
            return labelled
        marking = clock.timed(Stage.WATERMARK, lambda: self._embed(labelled))
        marked = self._guarded(Stage.WATERMARK, cleared, marking, screened.checks)
        if isinstance(marked, Refusal):
            return marked
        watch(Step.MARKED, str(draft.id))
        signing = clock.timed(Stage.PROVENANCE, lambda: self._sign(marked, order))
        signed = self._guarded(Stage.PROVENANCE, cleared, signing, screened.checks)
        if isinstance(signed, Refusal):
            return signed
        watch(Step.SIGNED, str(draft.id))
        return self._release(signed, order.out, watch, clock.read())

    def _redrawn(self, cleared: Cleared, refusal: Refusal, order: Order) -> Outcome:
        """Draw again where a rule about works wants that first; every refused picture keeps its own record."""
        outcome: Outcome = refusal
        again = dataclasses.replace(cleared, request=dataclasses.replace(cleared.request, count=1))
        tries = redraws(refusal.findings, self.policy.similarity_rules) if cleared.request.seed is None else 0
        while tries and isinstance(outcome, Refusal) and outcome.stage is Stage.SIMILARITY:
            tries -= 1
            outcome = self._again(again, ImageId.new(), order)
        return outcome

    def _again(self, cleared: Cleared, image_id: ImageId, order: Order, seed: int | None = None) -> Outcome:
        """One picture more, drawn by itself: of `seed`, or of a fresh one."""
        pictures = self._guarded(Stage.GENERATION, cleared, lambda: self._draw(cleared, [image_id], None, seed))
        if isinstance(pictures, Refusal):
            return pictures
        begin = partial(_draft, cleared, image_id, pictures.drawn[0], pictures.latent)
        clock = Clock(prompt=cleared.decision.milliseconds, generation=pictures.milliseconds)
        return self._finish(cleared, begin, order, clock)

    def _look_up(self, asked: Asked | Cleared, pixels: Pixels) -> tuple[Check, ...] | Refusal:
        """Before anything else sees a picture, and before anything of it could be kept for a review."""
        answer = self._hash_lists.look(pixels)
        if answer is None:
            return ()
        if answer.finding is None:
            return (answer.check,)
        return self._refuse(
            Stage.SIMILARITY, asked, (answer.finding,), (answer.check,), private={"hash_list": answer.finding.evidence}
        )

    def _screen(self, draft: Draft) -> Screened | Refusal:
        listed = self._look_up(draft.cleared, draft.pixels)
        if isinstance(listed, Refusal):
            return listed
        screened = join_persons(run_screens(self._screens, draft.pixels), draft.cleared.decision.findings)
        checks = (*listed, *screened)
        approval = draft.cleared.approval
        seen = "" if approval is None else approval.pixels_sha256
        if seen and seen != hashlib.sha256(draft.pixels.tobytes()).hexdigest():
            raise GenerationError("the picture is not the one that was reviewed", hint="ask for it again")
        findings = approved(judge_screens(checks, self.policy.screen_rules), approval)
        if not strongest(findings).releases:
            evidence = self._keep_for_review(draft.pixels, draft.id) if strongest(findings) is Action.REVIEW else ""
            return self._refuse(Stage.SCREENING, draft.cleared, findings, checks, draft, evidence_file=evidence)
        searched = self._guarded(Stage.SIMILARITY, draft.cleared, lambda: self._search(draft), checks)
        if isinstance(searched, Refusal):
            return searched
        similarity, matches = searched
        similar = approved(judge_similarity(similarity, matches, self.policy.similarity_rules), approval)
        checks, findings = (*checks, similarity), (*findings, *similar)
        if not strongest(similar).releases:
            evidence = self._show_side_by_side(draft, matches) if matches else ""
            return self._refuse(Stage.SIMILARITY, draft.cleared, findings, checks, draft, evidence_file=evidence)
        return Screened(draft=draft, checks=checks, findings=findings, matches=matches)

    def _search(self, draft: Draft) -> tuple[Check, tuple[Match, ...]]:
        start = time.perf_counter()
        result = self._index.find(draft.pixels)
        return result.check(self._index.component, (time.perf_counter() - start) * 1e3), result.matches

    def _show_side_by_side(self, draft: Draft, matches: tuple[Match, ...]) -> str:
        """Keep what a reviewer needs to see, inside the installation: the draft beside the work that it repeats."""
        match = next((match for match in matches if match.rights.reservation), matches[0])
        source, thumbnail = self._index.picture(match.entry), self._index.thumbnail(match.entry)
        picture = side_by_side(draft.pixels, source, match, thumbnail)
        return self._keep_for_review(picture, draft.id)

    def _keep_for_review(self, picture: Pixels, image_id: ImageId) -> str:
        path = self._evidence / f"{image_id}.png"
        try:
            write_atomically(path, encode(picture, ImageFormat.PNG), mode=0o600)
        except StorageError:
            # The rule has spoken; the refusal stands without its picture.
            return ""
        return str(path)

    def _embed(self, labelled: Labelled) -> Marked | Refusal:
        screened = labelled.screened
        embedded = self._mark.embed(labelled.pixels, screened.draft.id.mark_id)
        rule = self.policy.watermark_rule
        findings: tuple[Finding, ...] = ()
        if not embedded.embedding.robust:
            findings = (
                Finding(
                    rule=rule.id,
                    category="provenance",
                    action=rule.not_robust,
                    message=rule.message,
                    detector=Component(name=self._mark.name, version=__version__),
                    evidence={"psnr": embedded.embedding.psnr},
                ),
            )
        if not strongest(findings).releases:
            return self._refuse(Stage.WATERMARK, screened.draft.cleared, findings, screened.checks, screened.draft)
        return Marked(labelled=labelled, pixels=embedded.pixels, embedding=embedded.embedding, findings=findings)

    def _sign(self, marked: Marked, order: Order) -> Signed:
        file_format, quality = order.format, order.quality
        draft = marked.screened.draft
        commitment = commit("prompt", draft.cleared.request.prompt)
        fingerprint = image_code(marked.pixels)
        xmp = self._xmp(draft)
        encoded = encode(marked.pixels, file_format, quality=DEFAULT_QUALITY if quality is None else quality, xmp=xmp)
        spec = ManifestSpec.generated(
            image_id=draft.id,
            facts=draft.facts,
            policy=self.policy.ref,
            decision=marked.action,
            findings=marked.all_findings,
            mark=marked.embedding,
            label=marked.labelled.label,
            fingerprint=fingerprint,
            prompt_digest=commitment[0],
            similar=attributed(marked.screened.matches, self.policy.similarity_rules),
            version=__version__,
            lineage=None if draft.cleared.original is None else draft.cleared.original.lineage,
        )
        signed = self._signer.sign(encoded, file_format.mime, spec)
        data = signed.data
        verdict = self._verifier.verify(data)
        if verdict.status is not ManifestStatus.TRUSTED or verdict.manifest_id != draft.id.urn:
            raise SigningError(
                f"the signed file did not verify: {verdict.explanation}", hint="run `guardrails keys doctor`"
            )
        final = decode(data).pixels
        reading = self._mark.detect(final, "fast")
        if reading.verdict is not MarkVerdict.PRESENT or reading.mark_id != draft.id.mark_id:
            message = f"the mark was not found in the final {file_format.name} file"
            if quality is not None:
                raise QualityError(f"{message} of quality {quality}", hint="ask for a higher quality, or for png")
            raise WatermarkError(message, hint="choose png, or a larger picture")
        drawn = marked.labelled.label
        label = None if drawn is None else read_back(final, drawn)
        self._keep(signed, marked, fingerprint)
        return Signed(
            marked=marked,
            data=data,
            format=file_format,
            sha256=hashlib.sha256(data).hexdigest(),
            fingerprint=fingerprint,
            edges=EdgeMap.of(marked.pixels).to_text(),
            prompt_commitment=commitment,
            manifest=verdict,
            label=label,
        )

    def _xmp(self, draft: Draft) -> bytes:
        """The plain-text declaration, with the file label that a jurisdiction defines."""
        edited, urn = draft.cleared.original is not None, draft.id.urn
        wants_aigc = any(profile.file_label == TC260 for profile in draft.cleared.labels)
        producer = self._signer.organisation if wants_aigc else ""
        return ai_generated_xmp(urn, GENERATOR, draft.facts.model, edited=edited, aigc_producer=producer)

    def _keep(self, signed: SignedFile, marked: Marked, fingerprint: str) -> None:
        """Before anything leaves: one manifest too many is harmless, a released file without its own is not."""
        hashes = pdq256(marked.pixels)
        pdq = hashes.upright.bits if hashes.hashable else b""
        self._manifests.add(
            to_entry(
                io.BytesIO(signed.data),
                manifest_id=signed.manifest_id,
                mark_id=marked.screened.draft.id.mark_id,
                fingerprints=Fingerprints(iscc=code_bits(fingerprint), pdq=pdq),
                store=signed.manifest,
            ),
            # Under this id there is no record yet: a manifest that is kept for it is of a run that died.
            replace=True,
        )

    def _release(self, signed: Signed, out: Path | None, watch: Watch, timings: Timings) -> Sealed:
        marked = signed.marked
        draft = marked.screened.draft
        digest, salt = signed.prompt_commitment
        record = Record(
            id=str(draft.id),
            kind=RecordKind.GENERATION,
            created_at=_now(),
            policy=self.policy.ref,
            mark_id=draft.id.mark_id,
            manifest_id=draft.id.urn,
            image_sha256=signed.sha256,
            commitments={"prompt": digest},
            facts=public_facts(
                findings=marked.all_findings,
                checks=marked.screened.checks,
                action=marked.action,
                generation=draft.facts,
                latent=draft.latent,
                embedding=marked.embedding,
                label=signed.label,
                fingerprint=signed.fingerprint,
                edges=signed.edges,
                approval=draft.cleared.approval,
                parent=draft.cleared.parent,
                timings=timings,
            ),
        )
        payload = _private(draft.cleared, salt)
        path = None if out is None else out / f"{draft.id}{signed.format.suffix}"
        receipt = self._record(record, payload, signed.data, path, watch)
        return Sealed(
            id=draft.id,
            data=signed.data,
            format=signed.format,
            sha256=signed.sha256,
            path=path,
            pixels=marked.pixels,
            facts=draft.facts,
            latent=draft.latent,
            decision=draft.cleared.decision,
            findings=marked.all_findings,
            checks=marked.screened.checks,
            matches=marked.screened.matches,
            embedding=marked.embedding,
            manifest=signed.manifest,
            receipt=receipt,
            timings=timings,
            label=signed.label,
        )

    def _record(self, record: Record, payload: dict[str, Any], data: bytes, path: Path | None, watch: Watch) -> Receipt:
        """Make the record durable, then give the file its name; without a record no file stays behind."""
        if path is None:
            return self.ledger.append(record, payload)
        staged = stage(path.parent, data)
        try:
            with span("guardrails.record"):
                receipt = self.ledger.append(record, payload, release=(staged, path))
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        watch(Step.RECORDED, record.id)
        with span("guardrails.release"):
            self.ledger.finish_release(record.id)
        return receipt

    def _guarded(
        self, stage_: Stage, asked: Asked | Cleared, step: Callable[[], _Result], checks: tuple[Check, ...] = ()
    ) -> _Result | Refusal:
        """Run a step; whatever goes wrong inside becomes a recorded Refusal, never a release."""
        try:
            with span(f"guardrails.{stage_.value}"):
                return step()
        except (LedgerError, StorageError):
            # A refusal that cannot be recorded.
            raise
        except GuardrailsError as error:
            if isinstance(error, InputError) and stage_ in _CALLERS_STAGES:
                raise
            return self._refuse(stage_, asked, (), checks, fault=(error.code, error.message))
        except Exception as error:
            return self._refuse(stage_, asked, (), checks, fault=(type(error).__name__, str(error)))

    def _refuse(
        self,
        stage_: Stage,
        asked: Asked | Cleared,
        findings: tuple[Finding, ...],
        checks: tuple[Check, ...] = (),
        draft: Draft | None = None,
        *,
        fault: tuple[str, str] = ("", ""),
        evidence_file: str = "",
        private: Mapping[str, Any] | None = None,
    ) -> Refusal:
        """Record a refusal; `private` is kept in place of what was asked."""
        code, message = fault
        digest, salt = commit("prompt", asked.request.prompt)
        record = Record(
            id=str(uuid.uuid4()),
            kind=RecordKind.REFUSAL,
            created_at=_now(),
            policy=self.policy.ref,
            commitments={"prompt": digest},
            facts={
                "stage": stage_.value,
                "fault": code,
                **public_facts(
                    findings=findings,
                    checks=checks,
                    action=strongest(findings) if findings else Action.BLOCK,
                    generation=draft.facts if draft else None,
                ),
            },
        )
        # The message of a fault may quote the prompt.
        kept = _private(asked, salt) if private is None else private
        payload = {**kept, "fault": message, "evidence_file": evidence_file}
        receipt = self.ledger.append(record, payload)
        return Refusal(
            id=record.id,
            stage=stage_,
            policy=self.policy.ref,
            findings=findings,
            checks=checks,
            fault=f"{code}: {message}" if code else "",
            evidence_file=evidence_file,
            receipt=receipt,
        )


def pocket_model() -> Path:
    """The folder of the embedded model, in diffusers format."""
    return datasets_path("pocket", "model")


def default_generator() -> Generator:
    """The embedded pocket model with the settings it was evaluated at."""
    return with_pocket_defaults(load_generator(str(pocket_model())))


def with_pocket_defaults(generator: DiffusersGenerator) -> Generator:
    """The pocket model as it was evaluated."""
    generator.name = POCKET
    editor = DiffusersEditor(generator)
    return WithDefaults(generator=generator, steps=POCKET_STEPS, guidance_scale=POCKET_GUIDANCE, editor=editor)


def shipped_index(home: Path) -> SimilarityIndex:
    """The index of the pocket collection, with its pictures where they have been rebuilt."""
    pictures = RebuiltPictures.open(homes.pictures_folder(home))
    return SimilarityIndex.open(datasets_path("pocket", "index"), pictures)


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


def _draft(cleared: Cleared, image_id: ImageId, picture: Drawn, latent: LatentStart) -> Draft:
    pixels = picture.pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        # Screens would see something else than what leaves.
        raise GenerationError(
            f"the model gave {pixels.dtype} pixels of shape {pixels.shape}", hint="draw RGB uint8, height x width x 3"
        )
    if picture.own_checker_fired:
        raise GenerationError(
            "the model's own safety checker replaced the picture", hint="change the prompt or the seed"
        )
    # Raises for facts that no record can hold, such as NaN, while there is still time to refuse.
    canonical_json(picture.facts)
    return Draft(cleared=cleared, id=image_id, pixels=pixels, facts=picture.facts, latent=latent)


def _waits_for_review(outcome: Outcome) -> bool:
    return isinstance(outcome, Refusal) and not outcome.fault and strongest(outcome.findings) is Action.REVIEW


def _labelled(screened: Screened) -> Labelled:
    draft = screened.draft
    profiles = draft.cleared.labels
    if not profiles:
        return Labelled(screened=screened, pixels=draft.pixels)
    pixels, label = draw_label(draft.pixels, profiles, edited=draft.cleared.original is not None)
    return Labelled(screened=screened, pixels=pixels, label=label)


def _private(asked: Asked | Cleared, salt: str) -> dict[str, Any]:
    """What is private and erasable: the words, and the salt that ties them to the record."""
    return {"request": to_plain(asked.request), "decision": to_plain(asked.decision), "salts": {"prompt": salt}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
