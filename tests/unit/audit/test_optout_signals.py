from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from guardrails.audit.optout_signals import read_ai_txt, read_tdmrep, signals_of_file
from guardrails.domain.rights import Permission, SignalKind, strictest
from guardrails.errors import ImageError, InputError
from guardrails.imaging.encoding import ImageFormat, encode
from guardrails.testing.doubles import draw_shapes

NOW = "2026-01-01T00:00:00Z"
ELEMENT = "<plus:DataMining>http://ns.useplus.org/ldf/vocab/{}</plus:DataMining>"
ATTRIBUTE = '<rdf:Description p:DataMining="http://ns.useplus.org/ldf/vocab/{}"/>'


class Manifest:
    """A verifier that reads these assertions."""

    def __init__(self, assertions: Mapping[str, object] | None = None) -> None:
        self._assertions = assertions or {}

    def assertions(self, data: bytes) -> Mapping[str, object]:
        return self._assertions


def picture(xmp: str = "") -> bytes:
    return encode(draw_shapes(1, 64), ImageFormat.PNG, xmp=xmp.encode() or None)


def read(xmp: str = "", **assertions: object):
    named = {name.replace("_", ".", 1).replace("_", "-"): value for name, value in assertions.items()}
    return signals_of_file(picture(xmp), "a.png", NOW, Manifest(named))


@pytest.mark.parametrize("form", [ELEMENT, ATTRIBUTE], ids=["element", "attribute"])
@pytest.mark.parametrize(
    ("term", "permission"),
    [
        ("DMI-ALLOWED", Permission.ALLOWED),
        ("DMI-PROHIBITED", Permission.PROHIBITED),
        ("DMI-PROHIBITED-AIMLTRAINING", Permission.PROHIBITED),
        ("DMI-PROHIBITED-GENAIMLTRAINING", Permission.PROHIBITED),
        ("DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING", Permission.PROHIBITED),
        ("DMI-PROHIBITED-SEECONSTRAINT", Permission.CONSTRAINED),
    ],
)
def test_plus_terms_are_read_in_every_form_of_rdf(form, term, permission):
    (signal,) = read(form.format(term))
    assert (signal.kind, signal.permission, signal.raw) == (SignalKind.IPTC_PLUS, permission, term)
    assert (signal.source, signal.read_at) == ("a.png (XMP)", NOW)


@pytest.mark.parametrize("xmp", ["", "<x/>", ELEMENT.format("DMI-UNSPECIFIED"), ELEMENT.format("DMI-WHATEVER")])
def test_no_term_is_no_signal_and_unknown_is_not_allowed(xmp):
    signals = read(xmp)
    assert signals == ()
    assert strictest(signals) is Permission.UNKNOWN
    assert Permission.UNKNOWN is not Permission.ALLOWED


@pytest.mark.parametrize(
    ("use", "permission"),
    [
        ("allowed", Permission.ALLOWED),
        ("notAllowed", Permission.PROHIBITED),
        ("constrained", Permission.CONSTRAINED),
    ],
)
@pytest.mark.parametrize("label", ["cawg_training_mining", "c2pa_training_mining"])
def test_training_assertions_of_both_ages_are_read(label, use, permission):
    (signal,) = read(**{label: {"entries": {"cawg.ai_generative_training": {"use": use}}}})
    assert (signal.kind, signal.permission) == (SignalKind.CAWG, permission)
    assert signal.raw == f"cawg.ai_generative_training: {use}"


def test_inference_is_not_learning_and_odd_assertions_are_no_signals():
    assert read(cawg_training_mining={"entries": {"cawg.ai_inference": {"use": "notAllowed"}}}) == ()
    for odd in ([], "x", {"entries": []}, {"entries": {"a": 1, "b": {"use": 3}, "c": {"use": "perhaps"}}}):
        assert read(cawg_training_mining=odd) == ()


def test_the_strictest_of_all_layers_holds():
    entries = {"cawg.data_mining": {"use": "allowed"}, "cawg.ai_training": {"use": "constrained"}}
    signals = read(ELEMENT.format("DMI-ALLOWED"), cawg_training_mining={"entries": entries})
    assert len(signals) == 3
    assert strictest(signals) is strictest(reversed(signals)) is Permission.CONSTRAINED


def test_what_is_no_picture_is_refused():
    with pytest.raises(ImageError):
        signals_of_file(b"no picture", "a.png", NOW, Manifest())


def one(rules, address: str):
    return [(signal.permission, signal.raw) for signal in rules.signals(address)]


def test_the_longest_location_of_a_tdm_reservation_holds(tmp_path):
    path = tmp_path / "tdmrep.json"
    rules = [
        {"location": "/", "tdm-reservation": 1, "tdm-policy": "https://e.org/terms"},
        {"location": "/free/*", "tdm-reservation": 0},
        {"location": "/free/not.png$", "tdm-reservation": 1},
    ]
    path.write_text(json.dumps(rules))
    site = read_tdmrep(path, NOW)
    reserved = "tdm-reservation: 1, tdm-policy: https://e.org/terms"
    assert one(site, "https://e.org/art/a.png") == [(Permission.PROHIBITED, reserved)]
    assert one(site, "free/a.png") == [(Permission.ALLOWED, "tdm-reservation: 0")]
    assert one(site, "/free/not.png") == [(Permission.PROHIBITED, "tdm-reservation: 1")]
    assert one(site, "/free/not.png.jpg") == [(Permission.ALLOWED, "tdm-reservation: 0")]


def test_a_site_without_a_fitting_rule_says_nothing(tmp_path):
    (tmp_path / "t.json").write_text('[{"location": "/art/", "tdm-reservation": 1}]')
    (tmp_path / "ai.txt").write_text("User-Agent: *\nDisallow: *.jpg\n")
    assert one(read_tdmrep(tmp_path / "t.json", NOW), "/other") == []
    assert one(read_ai_txt(tmp_path / "ai.txt", NOW), "/a.png") == []


def test_ai_txt_forbids_by_pattern_for_all_agents(tmp_path):
    (tmp_path / "ai.txt").write_text(
        "# media\nUser-Agent: other\nDisallow: /\n"
        "User-Agent: *\nDisallow: *.png  # ours\nAllow: /free/*.png\nDisallow:\n"
    )
    rules = read_ai_txt(tmp_path / "ai.txt", NOW)
    assert one(rules, "https://e.org/a.png") == [(Permission.PROHIBITED, "Disallow: *.png")]
    assert one(rules, "/free/a.png") == [(Permission.ALLOWED, "Allow: /free/*.png")]
    assert one(rules, "/a.jpg") == []


@pytest.mark.parametrize("text", ["", "{", "{}", '[{"location": "/"}]', '[{"location": "/", "tdm-reservation": "x"}]'])
def test_a_damaged_reservation_file_is_refused(tmp_path, text):
    (tmp_path / "tdmrep.json").write_text(text)
    with pytest.raises(InputError, match="tdmrep"):
        read_tdmrep(tmp_path / "tdmrep.json", NOW)


def test_files_that_are_missing_or_too_large_are_refused(tmp_path):
    (tmp_path / "ai.txt").write_bytes(b" " * (1 << 21))
    for name in ("ai.txt", "none.txt"):
        with pytest.raises(InputError, match=name):
            read_ai_txt(tmp_path / name, NOW)
