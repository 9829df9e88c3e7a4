"""What signing and verifying cost, beside the bare C2PA SDK in the same run, and what a manifest adds to a file.

Run: python benchmarks/provenance.py [ROUNDS]

Milliseconds are processor time of one process, medians over interleaved rounds; the ratio is the median of the ratios
within a round, so that a busy machine disturbs both sides alike. "raw" is c2pa-python with the same settings: for
signing it verifies its own result, for verifying it reads the file and asks for the state, and walks no ancestors.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import c2pa
import numpy as np
from PIL import Image

from guardrails.domain.findings import Action
from guardrails.domain.identity import ImageId
from guardrails.domain.images import GenerationFacts, MarkEmbedding
from guardrails.domain.requests import PolicyRef
from guardrails.imaging import Pixels
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.provenance import (
    Lineage,
    ManifestSpec,
    Process,
    Signer,
    Source,
    TrustStore,
    Verifier,
    backend,
    create_dev_chain,
    image_code,
)
from guardrails.provenance.certificates import load_dev_key

ROUNDS = 60
SIDES = {ImageFormat.JPEG: 512, ImageFormat.PNG: 1024, ImageFormat.WEBP: 512, ImageFormat.AVIF: 512}
FACTS = GenerationFacts(
    model="a model",
    revision="1.0",
    weights_sha256="ab" * 32,
    pipeline="StableDiffusionPipeline",
    sampler="DDIMScheduler",
    steps=25,
    guidance_scale=7.5,
    seed=42,
    width=512,
    height=512,
    device="cpu",
    dtype="float32",
)


def picture(side: int) -> Pixels:
    """Smooth shapes with some noise, which compress about as a photograph does."""
    generator = np.random.default_rng(7)
    small = Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16)
    return np.clip(smooth + generator.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


def spec(lineage: Lineage | None = None) -> ManifestSpec:
    """A manifest under a policy of which no rule spoke."""
    image_id = ImageId.new()
    return ManifestSpec.generated(
        image_id=image_id,
        facts=FACTS,
        policy=PolicyRef(id="default", version="1", digest="cd" * 32),
        decision=Action.ALLOW,
        findings=(),
        mark=MarkEmbedding(
            scheme="pixel-1", mark_id=image_id.mark_id, epoch=1, psnr=42.0, robust=True, strength_db=0.0, p_value=1e-9
        ),
        fingerprint=image_code(picture(64)),
        prompt_digest="ef" * 32,
        similar=(),
        version="0.1.0",
        lineage=lineage,
    )


def paired(ours: Callable[[], object], raw: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median milliseconds of both, and the median of their ratio."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        spent = []
        for work in (ours, raw):
            start = time.process_time()
            work()
            spent.append((time.process_time() - start) * 1e3)
        times.append((spent[0], spent[1]))
    mine, theirs = zip(*times, strict=True)
    return statistics.median(mine), statistics.median(theirs), statistics.median(a / b for a, b in times)


def measure(format: ImageFormat, side: int, keys: Path, rounds: int) -> None:
    """Print the rows of one format."""
    trust, key = TrustStore.dev(keys), load_dev_key(keys)
    signer, verifier, strict = Signer.dev(keys), Verifier(trust), Verifier(trust, strict=True)
    context = backend._context(os.getpid(), trust.anchors)
    plain = encode(picture(side), format)
    parent = signer.sign(plain, format.mime, spec()).data
    edited = Lineage(process=Process.IMAGE_TO_IMAGE, parent=Source(data=parent, mime=format.mime), strength=0.5)
    child = signer.sign(plain, format.mime, spec(edited)).data

    def raw_sign() -> None:
        sdk = c2pa.Builder(dict(spec().definition), context)
        sdk.sign(backend._signer(os.getpid(), key, False), format.mime, io.BytesIO(plain), io.BytesIO())

    def raw_verify(data: bytes) -> str:
        return str(c2pa.Reader(format.mime, io.BytesIO(data), None, context).get_validation_state())

    rows = {
        "sign and verify the result": (lambda: signer.sign(plain, format.mime, spec()), raw_sign),
        "verify": (lambda: verifier.verify(parent), lambda: raw_verify(parent)),
        "verify, strict": (lambda: strict.verify(parent), lambda: raw_verify(parent)),
        "verify, one ancestor": (lambda: verifier.verify(child), lambda: raw_verify(child)),
    }
    for name, (ours, raw) in rows.items():
        mine, theirs, ratio = paired(ours, raw, rounds)
        print(f"| {side} {format.name} | {name} | {mine:.2f} | {theirs:.2f} | {ratio:.2f} |")
    print(
        f"| {side} {format.name} | bytes added: text-to-image {len(parent) - len(plain):,}, "
        f"image-to-image {len(child) - len(plain):,} | | | |"
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        create_dev_chain(Path(folder), now=datetime.now(UTC))
        print("| file | work | ms | raw ms | ratio |\n|---|---|---|---|---|")
        for format, side in SIDES.items():
            measure(format, side, Path(folder), rounds)


if __name__ == "__main__":
    main()
