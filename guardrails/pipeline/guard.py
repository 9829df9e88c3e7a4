"""The order of steps, and nothing else.

1. The prompt is decided by the policy.
2. The model draws.
3. Screens and the similarity search look at the pixels.
4. The watermark goes in and is read back.
5. The file is encoded, declared in XMP, signed last; the final bytes are read back.
6. The record is durable.
7. The file gets its name.

A rule that does not release, or a fault in any guard, ends in a recorded Refusal. Only a mistake of the caller (an
`InputError`) and a ledger that cannot be written leave as exceptions: then nothing was released either.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from guardrails import home as homes
from guardrails.domain.canonical import to_plain
from guardrails.domain.findings import Action, Check, Component, Finding, strongest
from guardrails.domain.identity import ImageId
from guardrails.domain.images import ManifestStatus, MarkVerdict, Match
from guardrails.domain.records import Record, RecordKind, Refusal, Stage
from guardrails.domain.requests import PromptDecision, PromptRequest
from guardrails.errors import GenerationError, GuardrailsError, InputError, SigningError, WatermarkError
from guardrails.files import check_writable, stage
from guardrails.generation.diffusers_pipeline import DiffusersGenerator
from guardrails.generation.loading import load_generator
from guardrails.generation.protocol import Drawn, Generator, Progress
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.imaging.metadata import ai_generated_xmp
from guardrails.ledger import Ledger, commit
from guardrails.pipeline.evidence import public_facts
from guardrails.pipeline.pictures import RebuiltPictures
from guardrails.pipeline.stages import Cleared, Draft, Marked, Screened, Sealed, Signed
from guardrails.policy import Policy, default_policy
from guardrails.prompts import PromptGuard
from guardrails.provenance import ManifestSpec, Signer, TrustStore, Verifier, image_code
from guardrails.resources import datasets_path
from guardrails.screens import Screen, default_screens, run_screens
from guardrails.screens import judge as judge_screens
from guardrails.similarity.judge import judge as judge_similarity
from guardrails.similarity.search import SimilarityIndex
from guardrails.version import __version__
from guardrails.watermark.keys import Keyring
from guardrails.watermark.protocol import Scheme
from guardrails.watermark.scheme import PixelMark

Outcome: TypeAlias = Sealed | Refusal
_Result = TypeVar("_Result")

GENERATOR = f"latent-guardrails {__version__}"


class Guard:
    """A latent diffusion pipeline that releases nothing unguarded.

    Args:
        pipeline: a diffusers pipeline, or anything with `Generator.draw`.
        policy: the default pack when omitted.
        screens: the default screens when omitted. An empty sequence is legal; the policy's rules about screens that
            did not run then decide.
        index: the rights-bearing similarity index; the shipped one when omitted.
        home: folder of keys and ledger; `guardrails.home.home()` when omitted.
        signer, mark, ledger: taken from `home` when omitted.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        policy: Policy | None = None,
        screens: Sequence[Screen] | None = None,
        index: SimilarityIndex | None = None,
        home: Path | None = None,
        signer: Signer | None = None,
        verifier: Verifier | None = None,
        mark: Scheme | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        home = home or homes.home()
        keys = homes.keys_folder(home)
        self.policy = policy or default_policy()
        self.ledger = Ledger.open(homes.ledger_folder(home)) if ledger is None else ledger
        self.ledger.recover()
        self._prompts = PromptGuard(self.policy)
        self._generator: Generator = (
            pipeline if hasattr(pipeline, "draw") else DiffusersGenerator(pipeline, name=type(pipeline).__name__)
        )
        self._screens = default_screens() if screens is None else tuple(screens)
        self._index = index or shipped_index(home)
        self._signer = signer or Signer.dev(keys)
        self._verifier = verifier or Verifier(TrustStore.dev(keys))
        self._mark = mark or PixelMark(Keyring.load_or_create(keys))

    @classmethod
    def default(cls, *, home: Path | None = None, policy: Policy | None = None) -> Guard:
        """The embedded default: the pocket pipeline under the default policy."""
        return cls(load_generator(str(pocket_model())), home=home, policy=policy)

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
        )
        return self.generate_all(request, format=format, out=out, progress=progress)[0]

    def generate_all(
        self,
        request: PromptRequest,
        *,
        format: ImageFormat | str = ImageFormat.PNG,
        out: Path | None = None,
        progress: Progress | None = None,
    ) -> list[Outcome]:
        """Make `request.count` pictures.

        Args:
            format: "png", "jpeg" or "webp".
            out: folder that released files appear in, named by their id; without it the bytes are only returned.
            progress: told after every denoising step.

        Returns:
            One outcome a picture; a single Refusal when the prompt or the drawing was refused.

        Raises:
            InputError: the request cannot be used; nothing was drawn.
            LedgerError, StorageError: no record could be written; nothing was released.
        """
        file_format = ImageFormat.parse(format) if isinstance(format, str) else format
        if out is not None:
            check_writable(out)
        cleared = self._clear(request)
        if isinstance(cleared, Refusal):
            return [cleared]
        drawn = self._guarded(Stage.GENERATION, cleared, (), lambda: self._draw(cleared, progress))
        if isinstance(drawn, Refusal):
            return [drawn]
        return [self._finish(draft, file_format, out) for draft in drawn]

    def _clear(self, request: PromptRequest) -> Cleared | Refusal:
        decision = self._prompts.decide(request)
        cleared = Cleared(request=request, decision=decision)
        if decision.action.releases:
            return cleared
        return self._refuse(Stage.PROMPT, cleared, decision.findings)

    def _draw(self, cleared: Cleared, progress: Progress | None) -> list[Draft]:
        drawn = self._generator.draw(cleared.request, cleared.decision.prompt, progress=progress)
        return [_draft(cleared, picture) for picture in drawn]

    def _finish(self, draft: Draft, file_format: ImageFormat, out: Path | None) -> Outcome:
        cleared = draft.cleared
        screened = self._guarded(Stage.SCREENING, cleared, (), lambda: self._screen(draft))
        if isinstance(screened, Refusal):
            return screened
        marked = self._guarded(Stage.WATERMARK, cleared, screened.checks, lambda: self._embed(screened))
        if isinstance(marked, Refusal):
            return marked
        signed = self._guarded(Stage.PROVENANCE, cleared, screened.checks, lambda: self._sign(marked, file_format))
        if isinstance(signed, Refusal):
            return signed
        return self._release(signed, out)

    def _screen(self, draft: Draft) -> Screened | Refusal:
        checks = run_screens(self._screens, draft.pixels)
        findings = judge_screens(checks, self.policy.screen_rules)
        if not strongest(findings).releases:
            return self._refuse(Stage.SCREENING, draft.cleared, findings, checks)
        similarity, matches = self._search(draft)
        similar = judge_similarity(similarity, matches, self.policy.similarity_rules)
        checks = (*checks, similarity)
        if not strongest(similar).releases:
            return self._refuse(Stage.SIMILARITY, draft.cleared, (*findings, *similar), checks, draft)
        return Screened(draft=draft, checks=checks, findings=(*findings, *similar), matches=matches)

    def _search(self, draft: Draft) -> tuple[Check, tuple[Match, ...]]:
        start = time.perf_counter()
        result = self._index.find(draft.pixels)
        return result.check(self._index.component, (time.perf_counter() - start) * 1e3), result.matches

    def _embed(self, screened: Screened) -> Marked | Refusal:
        embedded = self._mark.embed(screened.draft.pixels, screened.draft.id.mark_id)
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
            return self._refuse(Stage.WATERMARK, screened.draft.cleared, findings, screened.checks)
        return Marked(screened=screened, pixels=embedded.pixels, embedding=embedded.embedding, findings=findings)

    def _sign(self, marked: Marked, file_format: ImageFormat) -> Signed:
        draft = marked.screened.draft
        commitment = commit("prompt", draft.cleared.request.prompt)
        xmp = ai_generated_xmp(draft.id.urn, GENERATOR, draft.facts.model)
        encoded = encode(marked.pixels, file_format, xmp=xmp)
        spec = ManifestSpec.generated(
            image_id=draft.id,
            facts=draft.facts,
            policy=self.policy.ref,
            decision=marked.action,
            findings=marked.all_findings,
            mark=marked.embedding,
            fingerprint=image_code(marked.pixels),
            prompt_digest=commitment[0],
            similar=marked.screened.matches,
            version=__version__,
        )
        data = self._signer.sign(encoded, file_format.mime, spec).data
        verdict = self._verifier.verify(data)
        if verdict.status is not ManifestStatus.TRUSTED or verdict.manifest_id != draft.id.urn:
            raise SigningError(
                f"the signed file did not verify: {verdict.explanation}", hint="run `guardrails keys doctor`"
            )
        reading = self._mark.detect(decode(data).pixels, "fast")
        if reading.verdict is not MarkVerdict.PRESENT or reading.mark_id != draft.id.mark_id:
            raise WatermarkError(
                f"the mark was not found in the final {file_format.name} file", hint="choose png, or a larger picture"
            )
        return Signed(
            marked=marked,
            data=data,
            format=file_format,
            sha256=hashlib.sha256(data).hexdigest(),
            prompt_commitment=commitment,
            manifest=verdict,
        )

    def _release(self, signed: Signed, out: Path | None) -> Sealed:
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
                embedding=marked.embedding,
                fingerprint=image_code(marked.pixels),
            ),
        )
        payload = _payload(draft.cleared.decision, draft.cleared.request, salt)
        path = None if out is None else out / f"{draft.id}{signed.format.suffix}"
        release = None
        if path is not None:
            release = (stage(path.parent, signed.data), path)
        receipt = self.ledger.append(record, payload, release=release)
        if release is not None:
            self.ledger.finish_release(record.id)
        return Sealed(
            id=draft.id,
            data=signed.data,
            format=signed.format,
            sha256=signed.sha256,
            path=path,
            pixels=marked.pixels,
            facts=draft.facts,
            decision=draft.cleared.decision,
            findings=marked.all_findings,
            checks=marked.screened.checks,
            matches=marked.screened.matches,
            embedding=marked.embedding,
            manifest=signed.manifest,
            receipt=receipt,
        )

    def _guarded(
        self, stage_: Stage, cleared: Cleared, checks: tuple[Check, ...], step: Callable[[], _Result]
    ) -> _Result | Refusal:
        """Run a step; whatever goes wrong inside becomes a recorded Refusal, never a release."""
        try:
            return step()
        except InputError:
            raise
        except GuardrailsError as error:
            return self._refuse(stage_, cleared, (), checks, fault=f"{error.code}: {error.message}")
        except Exception as error:
            return self._refuse(stage_, cleared, (), checks, fault=f"{type(error).__name__}: {error}")

    def _refuse(
        self,
        stage_: Stage,
        cleared: Cleared,
        findings: tuple[Finding, ...],
        checks: tuple[Check, ...] = (),
        draft: Draft | None = None,
        *,
        fault: str = "",
    ) -> Refusal:
        identifier = str(uuid.uuid4())
        digest, salt = commit("prompt", cleared.request.prompt)
        record = Record(
            id=identifier,
            kind=RecordKind.REFUSAL,
            created_at=_now(),
            policy=self.policy.ref,
            commitments={"prompt": digest},
            facts={
                "stage": stage_.value,
                "fault": fault,
                **public_facts(
                    findings=findings,
                    checks=checks,
                    action=strongest(findings) if findings else Action.BLOCK,
                    generation=draft.facts if draft else None,
                ),
            },
        )
        receipt = self.ledger.append(record, _payload(cleared.decision, cleared.request, salt))
        return Refusal(
            id=identifier,
            stage=stage_,
            policy=self.policy.ref,
            findings=findings,
            checks=checks,
            fault=fault,
            receipt=receipt,
        )


def pocket_model() -> Path:
    """The folder of the embedded model, in diffusers format."""
    return datasets_path("pocket", "model")


def shipped_index(home: Path) -> SimilarityIndex:
    """The index of the pocket collection, with its pictures where they have been rebuilt."""
    pictures = RebuiltPictures.open(homes.pictures_folder(home))
    return SimilarityIndex.open(datasets_path("pocket", "index"), pictures)


def _draft(cleared: Cleared, picture: Drawn) -> Draft:
    if picture.own_checker_fired:
        raise GenerationError(
            "the model's own safety checker replaced the picture", hint="change the prompt or the seed"
        )
    return Draft(cleared=cleared, id=ImageId.new(), pixels=picture.pixels, facts=picture.facts)


def _payload(decision: PromptDecision, request: PromptRequest, salt: str) -> dict[str, Any]:
    """What is private and erasable: the words, and the salt that ties them to the record."""
    return {"request": to_plain(request), "decision": to_plain(decision), "salts": {"prompt": salt}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
