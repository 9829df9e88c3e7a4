"""`guardrails verify` on files of every kind, healthy and hostile."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline import Guard, Sealed
from guardrails.testing.doubles import draw_shapes

Cli = Callable[..., Any]


@pytest.fixture
def sealed(guard: Guard, tmp_path: Path) -> Sealed:
    outcome = guard.generate("a red apple", seed=1, out=tmp_path / "out")
    assert isinstance(outcome, Sealed)
    return outcome


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 2.5 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def picture() -> Image.Image:
    return Image.fromarray(draw_shapes(40))


HEALTHY: dict[str, Callable[[], bytes]] = {
    "16-bit grey": lambda: saved(Image.fromarray((np.asarray(picture().convert("L")).astype(np.uint16)) * 257), "PNG"),
    "RGBA": lambda: saved(picture().convert("RGBA"), "PNG"),
    "palette": lambda: saved(picture().quantize(32), "PNG"),
    "palette with transparency": lambda: saved(picture().quantize(32), "GIF", transparency=0),
    "CMYK": lambda: saved(picture().convert("CMYK"), "JPEG"),
    "one bit": lambda: saved(picture().convert("1"), "TIFF"),
    "grey": lambda: saved(picture().convert("L"), "WEBP"),
    "BMP": lambda: saved(picture(), "BMP"),
}
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"hello", "not an image"),
    "cut short": (lambda: saved(picture(), "JPEG")[:900], "damaged or incomplete"),
    "decompression bomb": (bomb, "pixels, over the limit"),
    "animation": (
        lambda: saved(picture(), "GIF", save_all=True, append_images=[Image.fromarray(draw_shapes(41))]),
        "frames",
    ),
    "32-bit samples": (lambda: saved(Image.new("F", (256, 256)), "TIFF"), "no defined brightness"),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_pictures_of_every_kind_of_samples_are_looked_at(cli: Cli, tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.img").write_bytes(HEALTHY[kind]())
    run = cli("verify", "a.img", "--json")
    assert run.status == 4
    (report,) = run.json
    assert report["verdict"] == "not_found"
    assert report["mark"]["verdict"] == "not_detected"
    assert "does not mean" in report["explanation"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_unreadable_with_a_reason_and_no_traceback(cli: Cli, tmp_path: Path, kind: str) -> None:
    make, reason = HOSTILE[kind]
    (tmp_path / "a.png").write_bytes(make())
    as_json = cli("verify", "a.png", "--json")
    assert as_json.status == 4
    (report,) = as_json.json
    assert report["verdict"] == "unreadable"
    assert reason in report["problem"]
    text = cli("verify", "a.png")
    assert text.status == 4
    assert "UNREADABLE" in text.out
    assert reason in text.out


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "I;16"])
def test_the_watermark_is_found_through_a_change_of_samples(
    cli: Cli, tmp_path: Path, sealed: Sealed, mode: str
) -> None:
    image = Image.fromarray(sealed.pixels)
    match mode:
        case "P":
            data = saved(image.quantize(256), "PNG")
        case "CMYK":
            data = saved(image.convert("CMYK"), "TIFF")
        case "I;16":
            data = saved(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")
        case _:
            data = saved(image.convert(mode), "PNG")
    (tmp_path / "copy").write_bytes(data)
    run = cli("verify", "copy", "--json")
    assert (run.status, run.json[0]["verdict"]) == (0, "recovered")


def test_a_folder_is_all_its_images_and_one_bad_file_does_not_hide_the_others(
    cli: Cli, tmp_path: Path, sealed: Sealed
) -> None:
    out = tmp_path / "out"
    (out / "deeper").mkdir()
    (out / "deeper" / "broken.jpg").write_bytes(b"broken")
    (out / "notes.txt").write_text("not looked at")
    (out / ".staged-x.png").write_bytes(b"not looked at either")
    run = cli("verify", "out", "missing.png", "--json")
    assert run.status == 4
    assert [report["verdict"] for report in run.json] == ["confirmed", "unreadable", "unreadable"] or [
        report["verdict"] for report in run.json
    ] == ["unreadable", "confirmed", "unreadable"]
    assert "3 files: 2 unreadable, 1 confirmed" in cli("verify", "out", "missing.png").out


def test_a_folder_without_images_exits_with_2(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = cli("verify", "empty")
    assert run.status == 2
    assert "no image" in run.err


def test_trust_makes_a_foreign_signature_count(
    cli: Cli, tmp_path: Path, guard_in: Callable[..., Guard], sealed: Sealed
) -> None:
    theirs = tmp_path / "theirs"
    foreign = guard_in(theirs).generate("a green pear", out=tmp_path / "foreign")
    assert isinstance(foreign, Sealed)
    assert cli("verify", "foreign").status == 4
    root = str(theirs / "keys" / "c2pa" / "root.pem")
    run = cli("verify", "foreign", "out", "--trust", root, "--json")
    assert run.status == 0
    assert [report["verdict"] for report in run.json] == ["signed", "confirmed"]
    bad = cli("verify", "out", "--trust", "missing.pem")
    assert bad.status == 6
    assert bad.err.startswith("error[key_unusable]")


def test_a_report_for_people_shows_every_layer(cli: Cli, sealed: Sealed) -> None:
    text = cli("verify", "out").out
    for word in ("CONFIRMED", "manifest", "watermark", "ledger", "inclusion proof verified", sealed.id.mark_id):
        assert word in text
    assert "the very bytes that were released" in text


def test_a_file_name_cannot_steer_the_terminal(cli: Cli, tmp_path: Path, sealed: Sealed) -> None:
    name = "a\x1b[2J.png"
    shutil.copy(str(sealed.path), tmp_path / name)
    assert "\x1b" not in cli("verify", name).out
    assert cli("verify", name, "--json").json[0]["source"] == name


@pytest.mark.parametrize("mode", ["fast", "standard", "deep"])
def test_every_mode_confirms_the_released_file(cli: Cli, sealed: Sealed, mode: str) -> None:
    assert cli("verify", "out", "--mode", mode).status == 0


def test_a_changed_picture_is_tampered_and_exits_with_4(cli: Cli, tmp_path: Path, sealed: Sealed) -> None:
    jpeg = encode(draw_shapes(7), ImageFormat.JPEG)
    assert b"\xff\xda" in jpeg
    data = bytearray(sealed.data)
    data[data.index(b"trainedAlgorithmicMedia")] ^= 1
    (tmp_path / "changed.png").write_bytes(data)
    run = cli("verify", "changed.png", "--json")
    assert run.status == 4
    assert run.json[0]["verdict"] in ("tampered", "unreadable")
