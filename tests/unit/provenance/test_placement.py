"""The store's place in a file: the same as the one its own data hash leaves out, found without reading pixels."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from guardrails.provenance import ManifestSpec, Signer, backend
from guardrails.provenance.placement import locate, read_store, write_store

FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]


def _long(make: SimpleNamespace) -> ManifestSpec:
    """A manifest that takes several JPEG segments and many GIF blocks."""
    spec = make.spec()
    note = {"label": "org.guardrails.note", "kind": "Json", "data": {"text": "x" * 140_000}}
    assertions = [*spec.definition["assertions"], note]
    return ManifestSpec(manifest_id=spec.manifest_id, definition={**spec.definition, "assertions": assertions})


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", ["short", "long"])
def test_the_place_is_what_the_data_hash_leaves_out(
    format: str, size: str, signer: Signer, make: SimpleNamespace
) -> None:
    data = make.file(1, format)
    signed = signer.sign(data, f"image/{format.lower()}", make.spec() if size == "short" else _long(make))
    placement = locate(io.BytesIO(signed.data))
    assert placement is not None
    store = backend.read(signed.data, b"")
    assert isinstance(store, backend.Store)
    binding = json.loads(store.reader.crjson())["manifests"][0]["assertions"]["c2pa.hash.data"]
    ((start, length),) = [(exclusion["start"], exclusion["length"]) for exclusion in binding["exclusions"]]
    # The hash does cover the byte that fills up a WebP chunk of odd length, though it comes and goes with the store.
    assert (placement.start, placement.length) == (start, length + (length % 2 if format == "WEBP" else 0))
    assert read_store(io.BytesIO(signed.data), placement) == signed.manifest
    rest = signed.data[: placement.start] + signed.data[placement.start + placement.length :]
    # The SDK may have lengthened the RIFF header, and it writes XMP references of its own in no format here.
    assert len(rest) == len(data)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_without_a_store_has_no_place(format: str, make: SimpleNamespace) -> None:
    assert locate(io.BytesIO(make.file(1, format))) is None


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"RIFF\0\0\0\0WEBP", b"\xff\xd8", b"GIF89a", b"text" * 99], ids=repr)
def test_what_is_no_picture_has_no_place(data: bytes) -> None:
    assert locate(io.BytesIO(data)) is None


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_never_raise_and_end(format: str, signer: Signer, make: SimpleNamespace) -> None:
    signed = signer.sign(make.file(1, format), f"image/{format.lower()}", make.spec()).data
    rng = random.Random(11)
    for _ in range(400):
        changed = bytearray(signed[: rng.randint(1, len(signed))] if rng.random() < 0.4 else signed)
        for _ in range(rng.randint(1, 5)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        placement = locate(io.BytesIO(changed))
        if placement is not None:
            assert all(offset + length <= len(changed) for offset, length in placement.pieces)


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_only_headers_are_read(sign: Callable[..., bytes]) -> None:
    """Half a gigabyte of pixels behind the store would not be touched."""
    file = Counting(sign())
    assert locate(file) is not None
    assert file.count < 200


def test_a_store_of_another_length_is_not_written(sign: Callable[..., bytes], tmp_path: Path) -> None:
    file = io.BytesIO(sign())
    placement = locate(file)
    assert placement is not None
    with pytest.raises(ValueError, match="another length"):
        write_store(file, placement, b"short")
