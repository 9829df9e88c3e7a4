"""What turns screened pixels into a file that tells where it comes from: label, watermark, manifest."""

from __future__ import annotations

import hashlib
import io

from guardrails.concurrency import together
from guardrails.domain.canonical import Json
from guardrails.domain.findings import Component, Finding, strongest
from guardrails.domain.identity import ImageId
from guardrails.domain.images import ManifestStatus, ManifestVerdict, MarkReading, MarkVerdict
from guardrails.domain.records import Refusal, Stage
from guardrails.errors import QualityError, SigningError, WatermarkError
from guardrails.imaging import Pixels
from guardrails.imaging.decoding import decode
from guardrails.imaging.encoding import DEFAULT_QUALITY, encode
from guardrails.imaging.iscc import code_bits
from guardrails.imaging.labels import draw_label, read_back
from guardrails.imaging.metadata import ai_generated_xmp
from guardrails.ledger import commit
from guardrails.pipeline.approval import approved, for_picture
from guardrails.pipeline.original import Original
from guardrails.pipeline.recording import Recorder
from guardrails.pipeline.stages import Draft, Labelled, Marked, Order, Screened, Signed
from guardrails.policy import Policy
from guardrails.policy.labelling import TC260
from guardrails.provenance import ManifestSpec, Signer, Verifier, image_code
from guardrails.provenance import Signed as SignedFile
from guardrails.provenance.repository import Fingerprints, Repository, to_entry
from guardrails.similarity.hashes import pdq256
from guardrails.similarity.judge import attributed
from guardrails.version import __version__
from guardrails.watermark.binding import EdgeMap
from guardrails.watermark.protocol import Scheme

GENERATOR = f"latent-guardrails {__version__}"


class Sealing:
    """Marks and signs under one policy, and reads back what it did."""

    def __init__(
        self,
        policy: Policy,
        mark: Scheme,
        signer: Signer,
        verifier: Verifier,
        manifests: Repository,
        recorder: Recorder,
    ) -> None:
        self._policy = policy
        self._mark = mark
        self._signer = signer
        self._verifier = verifier
        self._manifests = manifests
        self._recorder = recorder

    def examine(self, original: Original) -> tuple[ManifestVerdict, dict[str, Json]]:
        """The history of a picture that was given, and what its record says of it."""
        manifest = self._verifier.verify(original.source.data)
        try:
            mark_id = self._mark.detect(original.pixels, "standard").mark_id
        except WatermarkError:
            # Too small to carry one.
            mark_id = ""
        return manifest, original.facts(manifest, mark_id)

    def embed(self, labelled: Labelled) -> Marked | Refusal:
        """Put the watermark in; a rule decides about one that will not last."""
        screened, draft = labelled.screened, labelled.screened.draft
        embedded = self._mark.embed(labelled.pixels, draft.id.mark_id)
        rule = self._policy.watermark_rule
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
        findings = approved(findings, for_picture(draft.cleared.approval, draft.pixels))
        if not strongest(findings).releases:
            kept = self._recorder.keep_held(draft, findings)
            return self._recorder.refuse(Stage.WATERMARK, draft.cleared, findings, screened.checks, draft, kept=kept)
        return Marked(labelled=labelled, pixels=embedded.pixels, embedding=embedded.embedding, findings=findings)

    def sign(self, marked: Marked, order: Order) -> Signed:
        """Make the final file and read everything in it back.

        Raises:
            SigningError: its manifest does not verify.
            WatermarkError, LabelError: the mark or the label is not in it.
        """
        file_format, quality = order.format, order.quality
        draft = marked.screened.draft
        commitment = commit("prompt", draft.cleared.request.prompt)
        pixels, xmp = marked.pixels, self._xmp(draft)
        encoded, fingerprint, edges, hashes = together(
            lambda: encode(pixels, file_format, quality=DEFAULT_QUALITY if quality is None else quality, xmp=xmp),
            lambda: image_code(pixels),
            lambda: EdgeMap.of(pixels).to_text(),
            lambda: pdq256(pixels),
        )
        spec = ManifestSpec.generated(
            image_id=draft.id,
            facts=draft.facts,
            policy=self._policy.ref,
            decision=marked.action,
            findings=marked.all_findings,
            mark=marked.embedding,
            label=marked.labelled.label,
            fingerprint=fingerprint,
            prompt_digest=commitment[0],
            similar=attributed(marked.screened.matches, self._policy.similarity_rules),
            version=__version__,
            lineage=None if draft.cleared.original is None else draft.cleared.original.lineage,
        )
        signed = self._signer.sign(encoded, file_format.mime, spec)
        data = signed.data
        verdict, (final, reading) = together(lambda: self._verify(data, draft.id), lambda: self._read_back(data))
        if reading.verdict is not MarkVerdict.PRESENT or reading.mark_id != draft.id.mark_id:
            message = f"the mark was not found in the final {file_format.name} file"
            if quality is not None:
                raise QualityError(f"{message} of quality {quality}", hint="ask for a higher quality, or for png")
            raise WatermarkError(message, hint="choose png, or a larger picture")
        drawn = marked.labelled.label
        label = None if drawn is None else read_back(final, drawn)
        pdq = hashes.upright.bits if hashes.hashable else b""
        self._keep(signed, marked, Fingerprints(iscc=code_bits(fingerprint), pdq=pdq))
        return Signed(
            marked=marked,
            data=data,
            format=file_format,
            sha256=hashlib.sha256(data).hexdigest(),
            fingerprint=fingerprint,
            edges=edges,
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

    def _verify(self, data: bytes, image_id: ImageId) -> ManifestVerdict:
        """What a reader of the final file learns from its manifest; raises SigningError unless that is everything."""
        verdict = self._verifier.verify(data)
        if verdict.status is not ManifestStatus.TRUSTED or verdict.manifest_id != image_id.urn:
            raise SigningError(
                f"the signed file did not verify: {verdict.explanation}", hint="run `guardrails keys doctor`"
            )
        return verdict

    def _read_back(self, data: bytes) -> tuple[Pixels, MarkReading]:
        """The pixels of the final file, and the mark in them."""
        final = decode(data).pixels
        return final, self._mark.detect(final, "fast")

    def _keep(self, signed: SignedFile, marked: Marked, fingerprints: Fingerprints) -> None:
        """Before anything leaves: one manifest too many is harmless, a released file without its own is not."""
        self._manifests.add(
            to_entry(
                io.BytesIO(signed.data),
                manifest_id=signed.manifest_id,
                mark_id=marked.screened.draft.id.mark_id,
                fingerprints=fingerprints,
                store=signed.manifest,
            ),
            # Under this id there is no record yet: a manifest that is kept for it is of a run that died.
            replace=True,
        )


def with_label(screened: Screened) -> Labelled:
    """Draw the visible label that the request's jurisdiction or somebody wants."""
    draft = screened.draft
    profiles = draft.cleared.labels
    if not profiles:
        return Labelled(screened=screened, pixels=draft.pixels)
    pixels, label = draw_label(draft.pixels, profiles, edited=draft.cleared.original is not None)
    return Labelled(screened=screened, pixels=pixels, label=label)
