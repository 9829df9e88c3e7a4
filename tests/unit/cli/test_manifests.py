"""`guardrails manifests`: keep, list, find, recover, remove."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.pipeline import Guard, Sealed
from guardrails.provenance import image_code
from guardrails.provenance.placement import locate
from guardrails.testing.doubles import draw_shapes

Cli = Callable[..., Any]


@pytest.fixture
def sealed(guard: Guard, tmp_path: Path) -> Sealed:
    outcome = guard.generate("a red apple", seed=1, out=tmp_path / "out")
    assert isinstance(outcome, Sealed)
    return outcome


def strip(data: bytes) -> bytes:
    placement = locate(io.BytesIO(data))
    assert placement is not None
    return data[: placement.start] + data[placement.start + placement.length :]


def test_what_was_generated_is_kept_and_found_by_everything(cli: Cli, sealed: Sealed, tmp_path: Path) -> None:
    listed = cli("manifests", "list", "--json").json
    assert (listed["size"], listed["manifests"][0]["manifest_id"]) == (1, sealed.id.urn)
    Image.fromarray(sealed.pixels).save(tmp_path / "copy.jpg", quality=70)
    for what, found_by in (
        (sealed.id.urn, "manifest"),
        (sealed.id.mark_id, "watermark"),
        (image_code(sealed.pixels), "fingerprint"),
        ("copy.jpg", "watermark"),
    ):
        run = cli("manifests", "find", what, "--json")
        assert run.status == 0
        assert [(m["manifest_id"], m["found_by"]) for m in run.json] == [(sealed.id.urn, found_by)]
    assert sealed.id.urn in cli("manifests", "find", sealed.id.mark_id).out
    none = cli("manifests", "find", "0" * 16, "--json")
    assert (none.status, none.json) == (4, [])


def test_a_stripped_file_is_written_again_and_confirmed(cli: Cli, sealed: Sealed, tmp_path: Path) -> None:
    (tmp_path / "stripped.png").write_bytes(strip(sealed.data))
    run = cli("manifests", "recover", "stripped.png", "--json")
    assert (run.status, run.json["recovery"]["level"]) == (0, "bit_identical")
    assert run.json["recovery"]["manifest"]["status"] == "trusted"
    assert Path(run.json["target"]).read_bytes() == sealed.data
    (report,) = cli("verify", "stripped.recovered.png", "--json").json
    assert (report["verdict"], report["exact"], report["recovery"]) == ("confirmed", True, None)
    assert "BIT IDENTICAL" in cli("manifests", "recover", "stripped.png", "--out", "whole.png").out
    assert (tmp_path / "whole.png").read_bytes() == sealed.data


def test_verify_shows_the_file_and_the_kept_manifest(cli: Cli, sealed: Sealed, tmp_path: Path) -> None:
    (tmp_path / "stripped.png").write_bytes(strip(sealed.data))
    run = cli("verify", "stripped.png", "--json")
    assert run.status == 0
    (report,) = run.json
    assert (report["verdict"], report["manifest"]["status"]) == ("recovered", "recovered")
    assert report["recovery"]["level"] == "bit_identical"
    assert report["recovery"]["manifest"]["manifest_id"] == sealed.id.urn
    text = cli("verify", "stripped.png").out
    for word in ("RECOVERED", "kept manifest", "bit identical, found by digest", sealed.id.urn, "put back"):
        assert word in text


def test_a_copy_gets_its_manifest_as_a_sidecar(cli: Cli, sealed: Sealed, tmp_path: Path) -> None:
    Image.fromarray(sealed.pixels).save(tmp_path / "copy.jpg", quality=60)
    run = cli("manifests", "recover", "copy.jpg", "--json")
    assert (run.status, run.json["recovery"]["level"]) == (0, "certain")
    assert (tmp_path / "copy.jpg.c2pa").read_bytes() in sealed.data
    (tmp_path / "plain.png").write_bytes(encode(draw_shapes(1), ImageFormat.PNG))
    run = cli("manifests", "recover", "plain.png", "--json")
    assert (run.status, run.json["recovery"]["level"]) == (4, "candidate")
    (tmp_path / "other.png").write_bytes(encode(draw_shapes(70), ImageFormat.PNG))
    run = cli("manifests", "recover", "other.png")
    assert run.status == 4
    assert "NOT FOUND" in run.out
    assert not (tmp_path / "other.png.c2pa").exists()


def test_signed_files_of_elsewhere_are_taken_in_when_their_signer_is_trusted(
    cli: Cli, home: Path, sealed: Sealed, tmp_path: Path, guard_in: Callable[..., Guard]
) -> None:
    theirs = tmp_path / "theirs"
    foreign = guard_in(theirs).generate("a green pear", seed=5, out=tmp_path / "foreign")
    assert isinstance(foreign, Sealed)
    root = theirs / "keys" / "c2pa" / "root.pem"
    refused = cli("manifests", "add", "foreign", "--json")
    assert (refused.status, [one["kept"] for one in refused.json]) == (4, [False])
    assert "not on the trust list" in refused.json[0]["why"]
    (tmp_path / "plain.png").write_bytes(encode(draw_shapes(1), ImageFormat.PNG))
    mixed = cli("manifests", "add", "foreign", "plain.png", "missing.png", "--trust", root)
    assert mixed.status == 4
    assert "NOT KEPT" in mixed.out
    assert cli("manifests", "list", "--json").json["size"] == 2
    assert cli("manifests", "add", "foreign", "out", "--untrusted", "--json").status == 0
    (tmp_path / "stripped.png").write_bytes(strip(foreign.data))
    assert cli("manifests", "recover", "stripped.png", "--json").json["recovery"]["level"] == "bit_identical"
    assert cli("manifests", "find", foreign.id.mark_id, "--json").status == 0


def test_a_lost_repository_is_filled_again_from_the_files(cli: Cli, home: Path, sealed: Sealed, tmp_path: Path) -> None:
    shutil.rmtree(home / "manifests")
    assert cli("manifests", "add", "out", "--json").status == 0
    Image.fromarray(sealed.pixels).save(tmp_path / "copy.jpg", quality=70)
    assert cli("manifests", "recover", "copy.jpg", "--json").json["recovery"]["level"] == "certain"


def test_removed_manifests_are_gone(cli: Cli, sealed: Sealed, one_line_error: Callable[..., None]) -> None:
    assert cli("manifests", "remove", sealed.id.urn, "--json").json == {"removed": sealed.id.urn}
    assert cli("manifests", "find", sealed.id.urn).status == 4
    one_line_error(cli("manifests", "remove", sealed.id.urn), "invalid_option", 2)


def test_mistakes_end_with_one_line(
    cli: Cli, home: Path, sealed: Sealed, tmp_path: Path, one_line_error: Callable[..., None]
) -> None:
    one_line_error(cli("manifests", "recover", "missing.png"), "invalid_image", 2)
    one_line_error(cli("manifests", "recover", sealed.path), "invalid_option", 2)
    one_line_error(cli("manifests", "find", "missing.png"), "invalid_image", 2)
    one_line_error(cli("manifests", "find", "ISCC:AAAA"), "invalid_option", 2)
    (tmp_path / "text.png").write_bytes(b"text")
    one_line_error(cli("manifests", "find", "text.png"), "invalid_image", 2)
    shutil.rmtree(home / "manifests")
    for words in (("list",), ("find", "x.png"), ("recover", "x.png"), ("remove", "x")):
        one_line_error(cli("manifests", *words), "repository_failed", 7)
    assert not (home / "manifests").exists()
