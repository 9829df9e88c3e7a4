from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.similarity.hashes import (
    HASH_BYTES,
    ORIENTATIONS,
    PDQ256,
    PHASH64,
    ImageHash,
    code_distances,
    oriented,
    pdq256,
    phash64,
)
from guardrails.similarity.views import full_frame


def test_hash_constants_are_frozen(work_on):
    assert str(phash64(work_on(1))) == "b99ac6619ac63c8e"
    hashes = pdq256(work_on(1))
    assert str(hashes.upright) == "21f11c99e73c344ed98cb2e648e34bc6b4b36c38569eb4316d2987c397a1796c"
    assert hashes.quality == 100


def test_codes_are_those_of_the_reference_libraries(work_on):
    import imagehash
    import pdqhash
    from PIL import Image

    picture = work_on(2)
    assert str(phash64(picture)) == str(imagehash.phash(Image.fromarray(picture)))
    vector, quality = pdqhash.compute(picture)
    assert pdq256(picture).upright.bits == np.packbits(vector.astype(np.uint8)).tobytes()
    assert pdq256(picture).quality == quality


def test_row_k_is_the_hash_of_the_picture_in_orientation_k(work_on):
    view = full_frame(work_on(5))
    codes = pdq256(view).codes
    for orientation in range(ORIENTATIONS):
        turned = pdq256(oriented(view, orientation)).codes[0]
        distances = code_distances(codes, turned[None])[0]
        # Ties at the median may fall either way; every other orientation is some hundred bits away.
        assert distances[orientation] <= 6
        assert np.delete(distances, orientation).min() > 60


def test_orientations_are_eight_different_ones_of_the_same_pixels(work_on):
    view = full_frame(work_on(5))
    turned = [oriented(view, orientation) for orientation in range(ORIENTATIONS)]
    assert len({picture.tobytes() for picture in turned}) == ORIENTATIONS
    assert all(np.array_equal(np.sort(picture, axis=None), np.sort(view, axis=None)) for picture in turned)


def test_a_blank_picture_has_no_usable_hash():
    assert not pdq256(np.full((256, 256, 3), 200, np.uint8)).hashable


def test_hashes_of_different_algorithms_are_not_compared():
    with pytest.raises(TypeError, match="cannot be compared"):
        ImageHash(PHASH64, bytes(8)) - ImageHash(PDQ256, bytes(32))


@pytest.mark.parametrize(("algorithm", "text"), [("md5", "00" * 16), (PHASH64, "00" * 7), (PDQ256, "00" * 8)])
def test_a_hash_of_unknown_kind_or_wrong_length_is_refused(algorithm, text):
    with pytest.raises(ValueError, match=r"hashes|bytes"):
        ImageHash.from_hex(algorithm, text)


@given(st.sampled_from(sorted(HASH_BYTES)), st.data())
def test_distance_counts_differing_bits_and_hex_round_trips(algorithm, data):
    size = HASH_BYTES[algorithm]
    one, other = (data.draw(st.binary(min_size=size, max_size=size)) for _ in range(2))
    first, second = ImageHash(algorithm, one), ImageHash(algorithm, other)
    bits = np.unpackbits(np.frombuffer(one, np.uint8)) != np.unpackbits(np.frombuffer(other, np.uint8))
    assert first - second == second - first == bits.sum()
    assert ImageHash.from_hex(algorithm, str(first)) == first
    matrix = code_distances(np.frombuffer(one, np.uint8)[None], np.frombuffer(other, np.uint8)[None])
    assert matrix.tolist() == [[bits.sum()]]
