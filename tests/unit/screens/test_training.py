"""Heads learn what separates two folders, say what they do on pictures held out, and refuse too little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from guardrails.errors import OptionError
from guardrails.screens.concepts import read_tensors
from guardrails.screens.heads import HeadSet
from guardrails.screens.references import read_references
from guardrails.screens.training import FITS, fit_linear, held_out, to_safetensors
from guardrails.testing.spaces import ENCODER, GUN, PHOTO, axis, cloud, unit

SHOWN = cloud(axis(PHOTO) + 0.4 * axis(GUN), 60, 21, spread=0.05)
OTHERS = cloud(axis(PHOTO), 60, 22, spread=0.05)


@pytest.mark.parametrize("kind", ["linear", "mlp", "exemplar"])
def test_a_head_separates_pictures_that_it_never_saw(kind: str) -> None:
    head = FITS[kind](SHOWN[:40], OTHERS[:40], concept="gun", encoder=ENCODER)
    heads = HeadSet([head])
    assert heads.raw(SHOWN[40:], ENCODER).min() > heads.raw(OTHERS[40:], ENCODER).max()
    again = FITS[kind](SHOWN[:40], OTHERS[:40], concept="gun", encoder=ENCODER)
    np.testing.assert_array_equal(HeadSet([again]).raw(SHOWN, ENCODER), heads.raw(SHOWN, ENCODER))


def test_a_hidden_layer_learns_what_no_line_separates() -> None:
    # Either of two marks, but not both and not none.
    one, two = 0.5 * axis(5), 0.5 * axis(6)
    shown = np.concatenate([cloud(axis(0) + one, 40, 1, 0.04), cloud(axis(0) + two, 40, 2, 0.04)])
    others = np.concatenate([cloud(axis(0), 40, 3, 0.04), cloud(axis(0) + one + two, 40, 4, 0.04)])
    margins = {}
    for kind in ("linear", "mlp"):
        raw = HeadSet([FITS[kind](shown, others, concept="either", encoder=ENCODER)])
        right = np.concatenate([raw.raw(shown, ENCODER) > 0, raw.raw(others, ENCODER) < 0])
        margins[kind] = float(right.mean())
    assert margins["mlp"] > 0.95
    assert margins["linear"] < 0.85


@pytest.mark.parametrize("kind", ["linear", "mlp", "exemplar"])
def test_what_is_held_out_is_reported_with_bounds(references: Path, kind: str) -> None:
    report = held_out(FITS[kind], SHOWN, OTHERS, read_references(references), (0.05, 0.02))
    for one in report:
        plain = one.to_json()
        assert (one.positives, one.negatives) == (60, 60)
        assert 0 <= plain["caught_lower_bound_95"] <= one.caught / one.positives <= 1
        assert plain["accused_upper_bound_95"] > one.accused / one.negatives
    assert report[0].caught >= 55
    assert report[0].caught >= report[1].caught


def test_labels_without_meaning_give_no_recall(references: Path) -> None:
    mixed = cloud(axis(PHOTO), 120, 31, spread=0.1)
    (report,) = held_out(fit_linear, mixed[:60], mixed[60:], read_references(references), (0.05,))
    assert report.caught <= 12


def test_too_little_is_refused(references: Path) -> None:
    for fit in FITS.values():
        with pytest.raises(OptionError, match="too few"):
            fit(SHOWN[:7], OTHERS, concept="gun", encoder=ENCODER)
    with pytest.raises(OptionError, match="too few"):
        held_out(fit_linear, SHOWN[:19], OTHERS, read_references(references), (0.05,))


@pytest.mark.parametrize("kind", ["linear", "mlp", "exemplar"])
def test_weights_are_read_back_for_their_own_encoder_only(tmp_path: Path, kind: str) -> None:
    from guardrails.screens.concepts import make_heads, read_pack

    head = FITS[kind](SHOWN, OTHERS, concept="gun", encoder=ENCODER)
    (tmp_path / "gun.safetensors").write_bytes(to_safetensors(head, {"made_by": "tests"}))
    pack = tmp_path / "gun.yaml"
    pack.write_text(
        "api_version: concepts/v1\nid: gun\nversion: '1'\nowner: tests\nconcepts:\n"
        f"  - {{id: gun, kind: {kind}, category: weapons, action: flag, weights: gun.safetensors}}\n"
    )
    (read,) = make_heads(read_pack(pack), ENCODER, 16, None)
    vectors = unit(np.random.default_rng(5).normal(size=(20, 16)))
    expected = HeadSet([head]).raw(vectors, ENCODER)
    np.testing.assert_allclose(HeadSet([read]).raw(vectors, ENCODER), expected, atol=0.05)
    with pytest.raises(Exception, match="belongs to encoder"):
        read_tensors(tmp_path / "gun.safetensors", "another")
