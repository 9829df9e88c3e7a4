"""Concept packs: what a picture is screened for, as YAML that an operator writes.

A pack names its owner, its end and its concepts. What a concept looks like is given by its kind:

text        phrases, read by the text side that belongs to the encoder
exemplar    vectors of example pictures
linear      a weight and a bias
mlp         a small network
prompts     learned rows, safe ones and unsafe ones (Q16 and its like)
ocr         words that must not stand in the picture
face        enrolled persons

Vectors lie in safetensors files beside the pack, whose metadata names the encoder. No file of a pack is ever
unpickled.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardrails.domain.findings import Action
from guardrails.encoders.protocol import TextEncoder
from guardrails.errors import ModelUnavailable, PolicyError, ScreenUnavailable
from guardrails.policy.fields import Fields
from guardrails.policy.yamlio import Node, parse_yaml, read_limited
from guardrails.resources import policies_path
from guardrails.screens.exemplars import label
from guardrails.screens.heads import Contrast, Head, Linear, Mlp, Vectors

API_VERSION = "concepts/v1"
SHIPPED = ("concepts", "default.yaml")
KINDS = ("text", "exemplar", "linear", "mlp", "prompts", "ocr", "face")
VECTOR_KINDS = frozenset({"text", "exemplar", "linear", "mlp", "prompts"})
# What says how a concept of a kind looks; the kinds that are not named here have weights.
KEYS = {"text": ("phrases", "negatives"), "ocr": ("words", "negatives"), "face": ("persons",)}
WITH_WEIGHTS = ("weights", "thumbnails")
ACTIONS = ("flag", "review", "block")
MAX_WEIGHTS = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """One thing to look for.

    Attributes:
        action: what its owner asks for; the policy's rule decides.
        phrases, negatives: for kind text; a negative is what is easily mistaken for it.
        words: for kind ocr.
        persons: for kind face, ids of the gallery; empty for everybody who is enrolled.
        weights: name of the safetensors file, for kinds with vectors.
        thumbnails: name of the WebP with small pictures of its examples, or ""; see `exemplars`.
    """

    id: str
    kind: str
    category: str
    action: Action
    phrases: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()
    weights: str = ""
    thumbnails: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptPack:
    """One loaded pack.

    Attributes:
        digest: SHA-256 over the document and the files that it names.
        expires: ISO date of the last day, or "".
        against: phrases that every text concept must beat: harmless everyday things.
        folder: where its weight files lie.
        parts: SHA-256 of the files that it names, by name.
    """

    id: str
    version: str
    digest: str
    owner: str
    licence: str
    expires: str
    against: tuple[str, ...]
    concepts: tuple[Concept, ...]
    folder: Path
    parts: Mapping[str, str]

    def expired(self, today: datetime.date | None = None) -> bool:
        """Whether its last day is over."""
        return bool(self.expires) and (today or datetime.date.today()).isoformat() > self.expires

    def of_kind(self, *kinds: str) -> tuple[Concept, ...]:
        """The concepts of some kinds, in written order."""
        return tuple(concept for concept in self.concepts if concept.kind in kinds)


def concepts_of(packs: Iterable[ConceptPack], *kinds: str, reserved: Sequence[str] = ()) -> tuple[Concept, ...]:
    """The concepts of some kinds in all packs: those of one screen, which tells them apart by their ids.

    Args:
        reserved: ids that the screen has for itself.

    Raises:
        PolicyError: two are called the same, so that one would hide the other.
    """
    owners = dict.fromkeys(reserved, "the screen itself")
    found: list[Concept] = []
    for pack in packs:
        for concept in pack.of_kind(*kinds):
            if concept.id in owners:
                raise PolicyError(
                    f"the pack {pack.id} calls a concept `{concept.id}`, and so does {owners[concept.id]}",
                    hint="rename one of them, or leave one of the packs out",
                )
            owners[concept.id] = f"the pack {pack.id}"
            found.append(concept)
    return tuple(found)


def expired_concepts(packs: Iterable[ConceptPack], *kinds: str) -> dict[str, str]:
    """By concept of a pack whose last day is over, why it is not looked for any more."""
    return {
        concept.id: f"the concept pack {pack.id} expired on {pack.expires}"
        for pack in packs
        if pack.expired()
        for concept in pack.of_kind(*kinds)
    }


def foreign_concepts(packs: Iterable[ConceptPack], encoder: str) -> dict[str, str]:
    """By concept whose weights were made for another encoder, why it is not looked for.

    Raises:
        ScreenUnavailable: a weight file cannot be read.
    """
    made_for = {
        concept.id: _read_weights(pack.folder / concept.weights)[1]
        for pack in packs
        for concept in pack.of_kind(*VECTOR_KINDS - {"text"})
    }
    return {
        concept: f"its weights belong to encoder {own}, not to {encoder}"
        for concept, own in made_for.items()
        if own != encoder
    }


def shipped_pack() -> ConceptPack:
    """The default pack."""
    return read_pack(policies_path(*SHIPPED))


def read_pack(path: Path) -> ConceptPack:
    """Read one pack.

    Raises:
        PolicyError: the document is not one; names file, line and column.
        ScreenUnavailable: a weight file is missing.
    """
    data = read_limited(path)
    top = Fields(parse_yaml(data, source=str(path)))
    top.choice("api_version", (API_VERSION,))
    concepts = tuple(_concept(item) for item in top.items("concepts"))
    if not concepts:
        top.node.fail("a pack without concepts looks for nothing", hint="add at least one")
    ids = [concept.id for concept in concepts]
    if twice := next((one for one in ids if ids.count(one) > 1), ""):
        top.node.fail(f"two concepts are called `{twice}`", hint="rename one")
    digest, parts = hashlib.sha256(data), dict[str, str]()
    for name in sorted({name for concept in concepts for name in (concept.weights, concept.thumbnails) if name}):
        part = read_part(path.parent / name)
        digest.update(part)
        parts[name] = hashlib.sha256(part).hexdigest()
    pack = ConceptPack(
        id=top.text("id"),
        version=top.text("version"),
        digest=digest.hexdigest(),
        owner=top.text("owner"),
        licence=top.optional_text("licence"),
        expires=top.day("expires"),
        against=top.texts("against"),
        concepts=concepts,
        folder=path.parent,
        parts=parts,
    )
    top.finish()
    return pack


def _concept(node: Node) -> Concept:
    fields = Fields(node)
    kind = fields.choice("kind", KINDS)
    own = KEYS.get(kind, WITH_WEIGHTS)

    def texts(name: str) -> tuple[str, ...]:
        return fields.texts(name) if name in own else ()

    def text(name: str) -> str:
        return fields.optional_text(name) if name in own else ""

    concept = Concept(
        id=fields.text("id"),
        kind=kind,
        category=fields.text("category"),
        action=Action.parse(fields.choice("action", ACTIONS)),
        phrases=texts("phrases"),
        negatives=texts("negatives"),
        words=texts("words"),
        persons=texts("persons"),
        weights=text("weights"),
        thumbnails=text("thumbnails"),
    )
    # A key of another kind would mean nothing, so it is unknown here.
    fields.finish()
    needed = {"text": concept.phrases, "ocr": concept.words, "face": True}.get(kind, concept.weights)
    if not needed:
        key = {"text": "phrases", "ocr": "words"}.get(kind, "weights")
        node.fail(f"a concept of kind `{kind}` needs `{key}`", hint=f"add `{key}:` here")
    if "/" in concept.weights or "\\" in concept.weights or Path(concept.weights).suffix not in ("", ".safetensors"):
        node.fail(
            f"`{concept.weights}` cannot hold weights here",
            hint="put a .safetensors file beside the pack; pickled files are never read",
        )
    if "/" in concept.thumbnails or "\\" in concept.thumbnails or Path(concept.thumbnails).suffix not in ("", ".webp"):
        node.fail(f"`{concept.thumbnails}` cannot hold thumbnails here", hint="put a .webp file beside the pack")
    return concept


def read_part(path: Path) -> bytes:
    """The bytes of a file that a pack names.

    Raises:
        ScreenUnavailable: it is missing, or larger than `MAX_WEIGHTS`.
    """
    try:
        if path.stat().st_size > MAX_WEIGHTS:
            raise ScreenUnavailable(f"{path} is larger than {MAX_WEIGHTS} bytes", hint="heads are small files")
        return path.read_bytes()
    except OSError as error:
        raise ScreenUnavailable(f"{path} cannot be read: {error.strerror}", hint="restore the pack's files") from error


def make_heads(pack: ConceptPack, encoder: str, dim: int, text: TextEncoder | None) -> list[Head]:
    """The heads of a pack's concepts that look at vectors.

    Args:
        encoder, dim: of the image encoder.
        text: its text side, for concepts of kind text.

    Raises:
        ScreenUnavailable: weights belong to another encoder, have another shape or have changed since the pack was
            read, or there is no text side.
    """
    against = _embed(text, pack.against) if pack.against and pack.of_kind("text") else np.empty((0, dim), np.float32)
    heads: list[Head] = []
    for concept in pack.of_kind(*VECTOR_KINDS):
        if concept.kind == "text":
            heads.append(_text_head(concept, encoder, against, text))
        else:
            heads.append(_weights_head(concept, encoder, dim, read_tensors(_unchanged(pack, concept), encoder)))
    return heads


def _unchanged(pack: ConceptPack, concept: Concept) -> Path:
    """The weight file of a concept, as it was when the pack was read: records name the pack by its digest."""
    path = pack.folder / concept.weights
    if hashlib.sha256(read_part(path)).hexdigest() != pack.parts[concept.weights]:
        raise ScreenUnavailable(f"{path} has changed since the pack {pack.id} was read", hint="read the pack again")
    return path


def _embed(text: TextEncoder | None, phrases: Sequence[str]) -> Vectors:
    if text is None:
        raise ScreenUnavailable(
            "this encoder has no text side, so words cannot be looked for",
            hint="use an encoder with one, or give exemplars",
        )
    return text.embed(phrases)


def _text_head(concept: Concept, encoder: str, against: Vectors, text: TextEncoder | None) -> Contrast:
    negatives = np.concatenate([against, _embed(text, concept.negatives)]) if concept.negatives else against
    return Contrast(
        concept=concept.id,
        encoder=encoder,
        positives=_embed(text, concept.phrases),
        negatives=negatives,
        labels=concept.phrases,
    )


def read_tensors(path: Path, encoder: str) -> dict[str, Vectors]:
    """The tensors of a weight file, float32.

    Raises:
        ScreenUnavailable: it is no safetensors file, or its metadata names another encoder.
    """
    tensors, own = _read_weights(path)
    if own != encoder:
        raise ScreenUnavailable(
            f"{path} belongs to encoder {own}, not to {encoder}",
            hint="load the encoder that the weights name, or make them for this one",
        )
    return tensors


def _read_weights(path: Path) -> tuple[dict[str, Vectors], str]:
    """The tensors of a weight file, and the encoder that it names."""
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise ModelUnavailable(
            "weights need safetensors, which is not installed", hint="pip install 'latent-guardrails[semantics]'"
        ) from error
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: np.asarray(file.get_tensor(name), dtype=np.float32) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ScreenUnavailable(
            f"{path} is no safetensors file: {error}", hint="convert the weights; pickled files are never read"
        ) from error
    return tensors, str(metadata.get("encoder", "(not named)"))


def _weights_head(concept: Concept, encoder: str, dim: int, tensors: Mapping[str, Vectors]) -> Head:
    own = {
        name.removeprefix(f"{concept.id}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{concept.id}.")
    }
    make = {"exemplar": _contrast, "prompts": _contrast, "linear": _linear, "mlp": _mlp}[concept.kind]
    head = make(concept, encoder, own)
    if head is None or _widths(head) != {dim}:
        shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in sorted(own.items())) or "nothing"
        raise ScreenUnavailable(
            f"{concept.weights} holds no {concept.kind} head for {concept.id!r} over {dim} numbers: {shapes}",
            hint="docs/screens.md lists the tensors of every kind",
        )
    return head


def _contrast(concept: Concept, encoder: str, own: Mapping[str, Vectors]) -> Contrast | None:
    positives, negatives = own.get("positives"), own.get("negatives")
    if positives is None or positives.ndim != 2 or not len(positives):
        return None
    if negatives is None:
        negatives = np.empty((0, positives.shape[1]), np.float32)
    elif negatives.ndim != 2 or negatives.shape[1] != positives.shape[1]:
        return None
    return Contrast(
        concept=concept.id,
        encoder=encoder,
        positives=_unit(positives),
        negatives=_unit(negatives),
        labels=tuple(label(row) for row in range(len(positives))),
    )


def _unit(rows: Vectors) -> Vectors:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or np.any(lengths == 0):
        raise ScreenUnavailable("a row of the weights is not finite or is zero", hint="make the weights again")
    unit: Vectors = rows / lengths
    return unit


def _linear(concept: Concept, encoder: str, own: Mapping[str, Vectors]) -> Linear | None:
    weight, bias = own.get("weight"), own.get("bias")
    if weight is None or bias is None or weight.ndim != 1 or bias.size != 1:
        return None
    examples = _examples(own)
    return Linear(concept=concept.id, encoder=encoder, weight=weight, bias=float(bias.reshape(())), examples=examples)


def _examples(own: Mapping[str, Vectors]) -> Vectors | None:
    examples = own.get("examples")
    return None if examples is None or examples.ndim != 2 or not len(examples) else _unit(examples)


def _mlp(concept: Concept, encoder: str, own: Mapping[str, Vectors]) -> Mlp | None:
    examples = _examples(own)
    own = {name: tensor for name, tensor in own.items() if name != "examples"}
    count = len(own) // 2
    names = [(f"{number}.weight", f"{number}.bias") for number in range(count)]
    if not count or {name for pair in names for name in pair} != own.keys():
        return None
    layers = tuple((own[weight], own[bias]) for weight, bias in names)
    fits = all(weight.ndim == 2 and bias.shape == (weight.shape[0],) for weight, bias in layers) and all(
        layers[i][0].shape[0] == layers[i + 1][0].shape[1] for i in range(count - 1)
    )
    if not fits or layers[-1][0].shape[0] != 1:
        return None
    return Mlp(concept=concept.id, encoder=encoder, layers=layers, examples=examples)


def _widths(head: Head) -> set[int]:
    """Of the vectors that it takes, and of its examples."""
    if isinstance(head, Contrast):
        return {head.positives.shape[1]}
    own = head.weight.shape[0] if isinstance(head, Linear) else head.layers[0][0].shape[1]
    return {own} if head.examples is None else {own, head.examples.shape[1]}
