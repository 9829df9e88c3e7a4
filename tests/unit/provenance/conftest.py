"""One set of development keys, small pictures, and manifests for them."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from guardrails.domain.findings import Action, Component, Finding
from guardrails.domain.identity import ImageId
from guardrails.domain.images import GenerationFacts, MarkEmbedding, Match, MatchState, Rights
from guardrails.domain.requests import PolicyRef
from guardrails.imaging import Pixels
from guardrails.provenance import ManifestSpec, Signer, TrustStore, Verifier, backend, create_dev_chain, image_code
from guardrails.provenance.certificates import load_dev_key
from guardrails.provenance.lineage import Ingredient, Lineage, Process, Source

PROMPT = "a heron above seventeen quiet lanterns"


def make_pixels(seed: int = 0, side: int = 64) -> Pixels:
    """A smooth random picture, so that JPEG and WebP treat it as they treat photographs."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def make_file(seed: int = 0, format: str = "PNG", side: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(make_pixels(seed, side)).save(buffer, format)
    return buffer.getvalue()


def make_kinds(parent: bytes) -> dict[str, Lineage]:
    """Every way in which a picture can come about, from a signed PNG and an unsigned one."""
    signed = Source(data=parent, mime="image/png")
    plain = Source(data=make_file(21), mime="image/png")
    return {
        "text-to-image": Lineage(),
        "references": Lineage(references=(signed, plain)),
        "image-to-image": Lineage(process=Process.IMAGE_TO_IMAGE, parent=signed, strength=0.6),
        "inpainting": Lineage(process=Process.INPAINTING, parent=plain, references=(signed,), strength=0.75),
        "upscaling": Lineage(process=Process.UPSCALING, parent=signed),
    }


def make_spec(seed: int = 0, image_id: ImageId | None = None, lineage: Lineage | None = None) -> ManifestSpec:
    image_id = image_id or ImageId.new()
    return ManifestSpec.generated(
        image_id=image_id,
        facts=GenerationFacts(
            model="pocket-diffusion",
            revision="1.0",
            weights_sha256="ab" * 32,
            pipeline="StableDiffusionPipeline",
            sampler="DDIMScheduler",
            steps=20,
            guidance_scale=5.5,
            seed=42,
            width=64,
            height=64,
            device="cpu",
            dtype="float32",
        ),
        policy=PolicyRef(id="default", version="3", digest="cd" * 32),
        decision=Action.FLAG,
        findings=(
            Finding(
                rule="SCREEN-02",
                category="violence",
                action=Action.FLAG,
                message=f"the prompt {PROMPT!r} was flagged",
                detector=Component(name="concepts", version="1"),
                score=0.625,
                threshold=0.5,
                error_rate="1 % (n=300)",
                evidence={"view": PROMPT, "box": [10, 20.5, 300, 400]},
            ),
        ),
        mark=MarkEmbedding(
            scheme="pixel-1", mark_id=image_id.mark_id, epoch=3, psnr=41.0, robust=True, strength_db=0.0, p_value=1e-9
        ),
        fingerprint=image_code(make_pixels(seed)),
        prompt_digest="ef" * 32,
        similar=(
            Match(
                entry="work-7",
                title="Blue boats",
                rights=Rights(licence="CC-BY-4.0", licence_url="", creator="N. N.", source="museum"),
                state=MatchState.CANDIDATE,
                distances={"phash64": 4, "pdq256": 18},
                sha256="12" * 32,
            ),
        ),
        version="0.1.0",
        lineage=lineage,
        created_at=datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
    )


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    create_dev_chain(folder, now=datetime.now(UTC))
    return folder


@pytest.fixture(scope="session")
def foreign_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    create_dev_chain(folder, now=datetime.now(UTC))
    return folder


@pytest.fixture(scope="session")
def signer(keys: Path) -> Signer:
    return Signer.dev(keys)


@pytest.fixture(scope="session")
def verifier(keys: Path) -> Verifier:
    return Verifier(TrustStore.dev(keys))


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """Makers: `pixels(seed, side)`, `file(seed, format, side)`, `spec(seed, image_id, lineage)`, `kinds(parent)`."""
    return SimpleNamespace(pixels=make_pixels, file=make_file, spec=make_spec, kinds=make_kinds, prompt=PROMPT)


@pytest.fixture(scope="session")
def sign(signer: Signer) -> Callable[..., bytes]:
    """A fresh signed PNG."""

    def signed(seed: int = 0) -> bytes:
        return signer.sign(make_file(seed), "image/png", make_spec(seed)).data

    return signed


@pytest.fixture(scope="session")
def edit(keys: Path) -> Callable[..., bytes]:
    """Sign a new picture that declares another one as what it was made from."""

    def edited(parent: bytes, trust: TrustStore | None = None) -> bytes:
        actions = [
            {"action": "c2pa.opened", "parameters": {"ingredientIds": ["parent"]}},
            {"action": "c2pa.edited", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/humanEdits"},
        ]
        data = {"allActionsIncluded": True, "actions": actions}
        definition = {
            "claim_version": 2,
            "label": ImageId.new().urn,
            "title": "image",
            "claim_generator_info": [{"name": "guardrails", "version": "0"}],
            "assertions": [{"label": "c2pa.actions.v2", "created": True, "data": data}],
        }
        ingredient = Ingredient(id="parent", relationship="parentOf", source=Source(data=parent, mime="image/png"))
        signed, _ = backend.sign(
            make_file(9),
            "image/png",
            definition,
            load_dev_key(keys),
            anchors=(trust or TrustStore.dev(keys)).anchors,
            ingredients=[ingredient],
        )
        return signed

    return edited


@pytest.fixture(scope="session")
def expiring(
    tmp_path_factory: pytest.TempPathFactory, keys: Path, edit: Callable[..., bytes], sign: Callable[..., bytes]
) -> SimpleNamespace:
    """A file signed in the last seconds of its certificate, and one made from it then; those seconds have passed."""
    edit(sign())  # so that loading the SDK does not eat those seconds
    began = time.monotonic()
    edit(sign())  # and that they are enough for this machine
    seconds = 3 + 8 * (time.monotonic() - began)
    folder = tmp_path_factory.mktemp("expiring")
    create_dev_chain(folder, now=datetime.now(UTC) - timedelta(days=365) + timedelta(seconds=seconds))
    late = Signer.dev(folder)
    signed = late.sign(make_file(), "image/png", make_spec()).data
    child = edit(signed, TrustStore.dev(keys) + TrustStore.dev(folder))
    end = load_dev_key(folder).leaf.not_valid_after_utc
    time.sleep(max((end - datetime.now(UTC)).total_seconds(), 0) + 1)
    return SimpleNamespace(folder=folder, signer=late, signed=signed, child=child)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of public files of other makers; it need not exist."""
    return Path(os.environ.get("GUARDRAILS_C2PA_CORPUS") or Path(__file__).parents[4] / "shared" / "data" / "c2pa")


@pytest.fixture(scope="session")
def corpus_files(corpus: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((corpus / "public-testfiles").glob("*.jp*g"))}


@pytest.fixture(scope="session")
def corpus_trust(corpus: Path) -> TrustStore:
    """The official list and the test roots; empty where they are not at hand."""
    return TrustStore.pem(*sorted((corpus / "trust").glob("*.pem")))
