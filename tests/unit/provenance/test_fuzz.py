"""Random damage: image data never passes as intact, nothing raises, nothing hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from guardrails.domain.images import ManifestStatus
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.provenance import Signer, TrustStore, Verifier

FORMATS = [format for format in ImageFormat if format.writable]
NOT_INTACT = {ManifestStatus.TAMPERED, ManifestStatus.UNREADABLE, ManifestStatus.NO_MANIFEST}
SECONDS = 2.0


@pytest.fixture(scope="module")
def files(signer: Signer, make: SimpleNamespace) -> list[tuple[bytes, bytes]]:
    """Plain and signed bytes of one picture in every format."""
    plain = [(format, encode(make.pixels(1, 48), format)) for format in FORMATS]
    return [(data, signer.sign(data, format.mime, make.spec(1)).data) for format, data in plain]


@pytest.fixture(scope="module")
def family(sign, signer: Signer, make: SimpleNamespace) -> bytes:
    """A file with an ancestor."""
    return signer.sign(make.file(2), "image/png", make.spec(lineage=make.kinds(sign())["image-to-image"])).data


def _image_bytes(plain: bytes, signed: bytes) -> range:
    """Positions of the signed file in the longest run at the end or the beginning that it shares with the plain one."""
    tail = next(n for n in range(len(plain)) if plain[-1 - n] != signed[-1 - n])
    head = next(n for n in range(len(plain)) if plain[n] != signed[n])
    return range(len(signed) - tail, len(signed)) if tail > head else range(head)


def _flips(files: list[tuple[bytes, bytes]], count: int) -> Iterator[bytes]:
    random = np.random.default_rng(11)
    for plain, signed in files:
        places = _image_bytes(plain, signed)
        for place in random.integers(places.start, places.stop, count // len(files)):
            changed = bytearray(signed)
            changed[place] ^= 1 << int(random.integers(8))
            yield bytes(changed)


def _mutants(sources: list[bytes], count: int) -> Iterator[bytes]:
    """Flips, cuts, insertions, repeats and numbers at their limits, up to three a file."""
    random = np.random.default_rng(12)
    for number in range(count):
        data = bytearray(sources[number % len(sources)])
        for _ in range(int(random.integers(1, 4))):
            start = int(random.integers(len(data)))
            size = int(random.integers(1, 9))
            match int(random.integers(6)):
                case 0:
                    data[start] ^= 1 << int(random.integers(8))
                case 1:
                    del data[start : start + size * 16]
                case 2:
                    data[start:start] = random.bytes(size)
                case 3:
                    data[start:start] = data[start : start + size * 64]
                case 4:
                    data[start : start + 4] = [b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"][size % 3]
                case 5:
                    del data[start + 200 :]
            data = data or bytearray(b"\0")
        yield bytes(data)


def _check_flips(files: list[tuple[bytes, bytes]], verifier: Verifier, count: int) -> None:
    checked = [verifier.verify(data).status for data in _flips(files, count)]
    assert len(checked) >= count - len(files)
    assert set(checked) <= NOT_INTACT


def _check_mutants(sources: list[bytes], keys: Path, count: int) -> None:
    seen = set()
    for strict in (False, True):
        verifier = Verifier(TrustStore.dev(keys), strict=strict)
        for data in _mutants(sources, count // 2):
            start = time.thread_time()
            seen.add(verifier.verify(data).status)
            verifier.conformance(data)
            assert time.thread_time() - start < SECONDS
    assert seen >= NOT_INTACT


def test_flips_in_image_data_never_pass_as_intact(files: list[tuple[bytes, bytes]], verifier: Verifier) -> None:
    _check_flips(files, verifier, 350)


def test_mutants_neither_raise_nor_hang(files: list[tuple[bytes, bytes]], family: bytes, keys: Path) -> None:
    _check_mutants([signed for _, signed in files] + [family], keys, 400)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_20000_flips_in_image_data_never_pass_as_intact(files: list[tuple[bytes, bytes]], verifier: Verifier) -> None:
    _check_flips(files, verifier, 20_006)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_10000_mutants_neither_raise_nor_hang(
    files: list[tuple[bytes, bytes]], family: bytes, keys: Path, corpus_files: dict[str, bytes]
) -> None:
    foreign = [data for data in corpus_files.values() if len(data) < 300_000]
    _check_mutants([signed for _, signed in files] + [family] + foreign, keys, 10_000)
