"""The C2PA SDK behind our own types. No other file imports `c2pa`, and it is imported on first use (0.2 s).

The SDK's defaults are not used: its default context fetches remote manifests and embeds thumbnails. Native contexts and
signers do not survive a fork, so they are made once per process id.
"""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

from guardrails.domain.canonical import Json
from guardrails.errors import SigningError
from guardrails.provenance.certificates import CLAIM_SIGNING, SigningKey
from guardrails.provenance.lineage import Ingredient
from guardrails.provenance.private_keys import raw_signer
from guardrails.provenance.services import Call
from guardrails.provenance.shapes import members

DEFAULT_SERVICE_SECONDS = 10.0

# What a signing certificate may be issued for; without this list the SDK calls document-signing certificates invalid.
# Claim signing, document signing, e-mail protection, Microsoft C2PA signing, time stamping, OCSP signing.
_PURPOSES = (
    CLAIM_SIGNING.dotted_string,
    "1.3.6.1.5.5.7.3.36",
    "1.3.6.1.5.5.7.3.4",
    "1.3.6.1.4.1.311.76.59.1.9",
    "1.3.6.1.5.5.7.3.8",
    "1.3.6.1.5.5.7.3.9",
)
_ANCESTOR_CONFIRMED = "ingredient.manifest.validated"
STORE_FORMAT = "application/c2pa"

# What reading hostile files makes the SDK's Python layer raise besides its own errors (a bare KeyError was seen).
_READ_FAULTS = (LookupError, ValueError, TypeError, AttributeError, OSError, RuntimeError, ArithmeticError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The manifests of one file and what checking them gave.

    Attributes:
        active: label of the manifest that speaks for the file.
        manifests: by label, as the SDK renders them to JSON; content is whatever the signer wrote. Lists of numbers
            come out wrong there (c2pa-rs #2570), see `crjson`.
        failures: codes of what is wrong with the active manifest.
        changes: codes of what is wrong with ancestors now and was not yet when the active manifest was signed.
        successes: codes of what is right with the active manifest.
        confirmed: labels of ancestors that the SDK found to be the very manifests that were signed for.
        anchors, reader: what `recheck` needs.
    """

    active: str
    manifests: Mapping[str, Json]
    failures: tuple[str, ...]
    changes: tuple[str, ...]
    successes: tuple[str, ...]
    confirmed: frozenset[str]
    anchors: bytes = field(repr=False)
    reader: Any = field(repr=False)

    def crjson(self) -> Mapping[str, Json]:
        """The file in crJSON, the form of the conformance programme; `manifests` cuts lists of numbers short.

        Empty when the SDK cannot render it.
        """
        try:
            return members(json.loads(self.reader.crjson()))
        except (_sdk().C2paError, *_READ_FAULTS):
            return {}

    def recheck(self, label: str) -> Reading:
        """Validate one ancestor by itself, now, against our anchors, without the picture that it was bound to.

        The SDK's own report on ancestors rests on what the signers in between recorded.
        """
        store = io.BytesIO()
        try:
            self.reader.resource_to_stream(label, store)
        except (_sdk().C2paError, *_READ_FAULTS) as error:
            return Unreadable(reason=_one_line(error))
        return read(store.getvalue(), self.anchors, STORE_FORMAT)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoStore:
    """The file has no manifest; `remote` when it only names an address of one, which was not fetched."""

    remote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """The file or its manifests cannot be read."""

    reason: str


Reading: TypeAlias = Store | NoStore | Unreadable


def sign(
    data: bytes,
    mime: str,
    definition: Mapping[str, Json],
    key: SigningKey,
    *,
    anchors: bytes = b"",
    ingredients: Sequence[Ingredient] = (),
    spacious: bool = False,
) -> tuple[bytes, bytes]:
    """Embed a signed manifest into bytes, see `sign_stream`.

    Returns:
        The signed file and the manifest store alone.
    """
    target = io.BytesIO()
    manifest = sign_stream(
        io.BytesIO(data), target, mime, definition, key, anchors=anchors, ingredients=ingredients, spacious=spacious
    )
    return target.getvalue(), manifest


def sign_stream(
    source: BinaryIO,
    target: BinaryIO,
    mime: str,
    definition: Mapping[str, Json],
    key: SigningKey,
    *,
    anchors: bytes = b"",
    ingredients: Sequence[Ingredient] = (),
    service_seconds: float = DEFAULT_SERVICE_SECONDS,
    spacious: bool = False,
) -> bytes:
    """Copy a file with a signed manifest in it; the SDK verifies the result.

    Args:
        source: the finished file.
        target: empty; readable, writable and seekable. What it holds after an error is worthless.
        anchors: whom to trust when the state of the ingredients is recorded (PEM).
        service_seconds: how long a key service may take.
        spacious: leave about 10 kB of padding beside the signature, for a time-stamp of any authority.

    Returns:
        The manifest store.

    Raises:
        SigningError: the SDK refused the key, the definition, the picture or its own result, or the key service failed.
    """
    c2pa = _sdk()
    call = None if key.service is None else Call(key.service, service_seconds)
    try:
        signer = _signer(os.getpid(), key, spacious) if call is None else _caller(call, key)
        builder = c2pa.Builder(dict(definition), _context(os.getpid(), anchors))
        for ingredient in ingredients:
            entry = {"title": ingredient.id, "relationship": ingredient.relationship, "label": ingredient.id}
            with ingredient.source.open() as stream:
                builder.add_ingredient(entry, ingredient.source.mime, stream)
        return bytes(builder.sign(signer, mime, source, target))
    except c2pa.C2paError as error:
        if call is not None and call.fault is not None:
            raise SigningError(
                f"the key service {key.source} failed: {_one_line(call.fault)}",
                hint="check that it can be reached and that this account may use the key",
            ) from call.fault
        raise SigningError(
            f"the {mime} file could not be signed with {key.source}: {_one_line(error)}",
            hint="check the key with `guardrails keys doctor`, and that the bytes are a picture of that type",
        ) from error


def read(data: bytes, anchors: bytes, format: str | None = None) -> Reading:
    """Validate the manifests of a file against trust anchors (PEM, may be empty).

    Args:
        format: media type; found out from the bytes by default.
    """
    return read_stream(io.BytesIO(data), anchors, format)


def read_stream(stream: BinaryIO, anchors: bytes, format: str | None = None) -> Reading:
    """As `read`, piece by piece; the stream must stay open while the reading is used."""
    c2pa = _sdk()
    try:
        reader = c2pa.Reader.try_create(format, stream, None, _context(os.getpid(), anchors))
        return NoStore() if reader is None else _to_store(reader, anchors)
    except c2pa.C2paError as error:
        # There is only an address, and fetching is off: this error has no type of its own that could be caught.
        return NoStore(remote=True) if str(error).startswith("Remote") else Unreadable(reason=_one_line(error))
    except _READ_FAULTS as error:
        return Unreadable(reason=f"{type(error).__name__}: {_one_line(error)}")


def _to_store(reader: Any, anchors: bytes) -> Store:
    report = json.loads(reader.json())
    results = report["validation_results"]
    deltas = [delta["validationDeltas"] for delta in results.get("ingredientDeltas", [])]
    return Store(
        active=report["active_manifest"],
        manifests=report["manifests"],
        failures=_codes(results["activeManifest"], "failure"),
        changes=tuple(code for delta in deltas for code in _codes(delta, "failure")),
        successes=_codes(results["activeManifest"], "success"),
        confirmed=frozenset(
            _label(entry["url"])
            for delta in deltas
            for entry in delta.get("success", [])
            if entry["code"] == _ANCESTOR_CONFIRMED
        ),
        anchors=anchors,
        reader=reader,
    )


def _codes(results: Mapping[str, Json], kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry["code"] for entry in results.get(kind, [])))


def _label(url: str) -> str:
    """The manifest that a JUMBF address is in, "self#jumbf=/c2pa/<label>/..."."""
    return url.partition("/c2pa/")[2].partition("/")[0]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _sdk() -> Any:
    import c2pa

    return c2pa


@functools.lru_cache(maxsize=16)
def _context(process: int, anchors: bytes) -> Any:
    """The settings of every operation. Names are spelled with care: the SDK accepts unknown ones in silence."""
    trust = {"trust_config": "\n".join(_PURPOSES)}
    if anchors:
        trust["trust_anchors"] = anchors.decode("ascii")
    return _sdk().Context.from_dict(
        {
            "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": True},
            "core": {"allowed_network_hosts": []},
            "builder": {"thumbnail": {"enabled": False}},
            "trust": trust,
        }
    )


@functools.lru_cache(maxsize=16)
def _signer(process: int, key: SigningKey, spacious: bool) -> Any:
    c2pa = _sdk()
    # No address of a time-stamp authority: signing opens no connection.
    if spacious:
        # The SDK leaves more room beside the signature of a callback than beside that of a key it holds.
        algorithm = c2pa.C2paSigningAlg[key.algorithm.upper()]
        return c2pa.Signer.from_callback(raw_signer(key), algorithm, key.chain_pem.decode("ascii"))
    return c2pa.Signer.from_info(c2pa.C2paSignerInfo(key.algorithm, key.chain_pem, key.key_pem, None))


def _caller(call: Call, key: SigningKey) -> Any:
    """A signer for one signature, so that what goes wrong in the service is told to the one who asked."""
    c2pa = _sdk()
    algorithm = c2pa.C2paSigningAlg[key.algorithm.upper()]
    return c2pa.Signer.from_callback(call, algorithm, key.chain_pem.decode("ascii"))
