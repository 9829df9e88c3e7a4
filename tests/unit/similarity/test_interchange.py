"""Hash lists in the forms of others, and the lines that cannot be used."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import OptionError
from guardrails.similarity.hashes import DHASH64, ISCC_IMAGE64, PDQ256, PHASH64, ImageHash
from guardrails.similarity.ingest import export_list, import_list
from guardrails.similarity.interchange import (
    ListedHash,
    ListFormat,
    Rejected,
    read_hash,
    read_list,
    write_hash,
    write_list,
)
from guardrails.similarity.parts import State
from guardrails.similarity.store import Store

ONE, TWO = "ab" * 32, "0123456789abcdef" * 4


def read(path, text, algorithm=PDQ256, name="list.txt", format=None):
    file = path / name
    file.write_text(text)
    rejected: list[Rejected] = []
    return list(read_list(file, algorithm, rejected, format)), [(one.line, one.reason) for one in rejected]


def test_lines_of_python_threatexchange(tmp_path):
    text = f"# a comment\npdq {ONE}\n\n{TWO}\nvideo_md5 {'00' * 16}\npdq {ONE[:-2]}\npdq {'xy' * 32}\n"
    hashes, rejected = read(tmp_path, text)
    assert [str(one.hash) for one in hashes] == [ONE, TWO]
    assert [line for line, _ in rejected] == [5, 6, 7]
    assert [word in reason for word, (_, reason) in zip(["video_md5", "64", "hex"], rejected, strict=True)] == [
        True
    ] * 3


def test_csv_with_quality_and_other_columns(tmp_path):
    text = f"hash,quality,id,source\n{ONE},80,a,NCMEC\n{TWO},12,b,NCMEC\n{TWO},,,\n"
    hashes, rejected = read(tmp_path, text, name="list.csv")
    assert [(one.id, dict(one.facts)) for one in hashes] == [("a", {"quality": "80", "source": "NCMEC"}), (TWO, {})]
    assert rejected == [(3, "quality 12 is below 50: it would match everything")]
    with pytest.raises(OptionError, match="no column of hashes: a, b"):
        read(tmp_path, "a,b\n1,2\n", name="list.csv")


@pytest.mark.parametrize("wrap", [lambda records: records, lambda records: {"hashRecords": records}])
def test_stopncii_documents(tmp_path, wrap):
    records = [
        {"hashValue": ONE, "signalType": "ImagePDQ", "hashStatus": "Active"},
        {"hashValue": TWO, "signalType": "ImagePDQ", "hashStatus": "Withdrawn"},
        {"hashValue": "00" * 16, "signalType": "MD5", "hashStatus": "Active"},
    ]
    hashes, rejected = read(tmp_path, json.dumps(wrap(records)), name="list.json")
    assert [(str(one.hash), dict(one.facts)) for one in hashes] == [(ONE, {"status": "active"})]
    assert rejected == [(2, "withdrawn by its owner"), (3, "a MD5 signal, not pdq256")]


def test_stopncii_documents_one_to_a_line(tmp_path):
    text = json.dumps({"hashValue": ONE}) + "\nnonsense\n" + json.dumps({"hashValue": TWO}) + "\n"
    hashes, rejected = read(tmp_path, text, format=ListFormat.STOPNCII)
    assert [str(one.hash) for one in hashes] == [ONE, TWO]
    assert rejected == [(2, "no JSON document")]


def test_a_list_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(OptionError, match="cannot read"):
        list(read_list(tmp_path / "nothing", PDQ256, []))


def test_what_others_read_and_write_is_read_back(tmp_path):
    hashes = [
        ListedHash("a", ImageHash.from_hex(PDQ256, ONE), {"quality": "70"}),
        ListedHash("b", ImageHash.from_hex(PDQ256, TWO)),
    ]
    for format, name in ((ListFormat.LINES, "out.txt"), (ListFormat.CSV, "out.csv")):
        out = io.StringIO()
        assert write_list(out, hashes, format) == 2
        again, rejected = read(tmp_path, out.getvalue(), name=name)
        assert ([one.hash for one in again], rejected) == ([one.hash for one in hashes], [])
    assert [one.id for one in again] == ["a", "b"]
    with pytest.raises(OptionError, match="only read"):
        write_list(io.StringIO(), hashes, ListFormat.STOPNCII)


def test_imagehash_s_digits_are_ours():
    import imagehash

    text = "b99ac6619ac63c8e"
    code = read_hash(text, PHASH64)
    other = read_hash("b99ac6619ac63c00", PHASH64)
    assert code - other == imagehash.hex_to_hash(text) - imagehash.hex_to_hash(str(other))
    with pytest.raises(ValueError, match="16 hexadecimal digits"):
        read_hash(ONE, DHASH64)


def test_iscc_of_the_standard_s_example():
    # iscc-core, "cat": the Image-Code of its documentation.
    code = read_hash("ISCC:EEA4GQZQTY6J5DTH", ISCC_IMAGE64)
    assert code.bits.hex() == "c343309e3c9e8e67"
    assert write_hash(code) == "ISCC:EEA4GQZQTY6J5DTH"
    assert read_hash("EEA4GQZQTY6J5DTH", ISCC_IMAGE64) == code


@given(st.binary(min_size=8, max_size=8))
def test_iscc_round_trips(bits):
    code = ImageHash(ISCC_IMAGE64, bits)
    assert read_hash(write_hash(code), ISCC_IMAGE64) == code


@pytest.mark.parametrize(
    "text",
    [
        "ISCC:EAA4GQZQTY6J5DTH",
        "ISCC:EEDQAAAAAA",
        "ISCC:!!",
        "",
        "ISCC:KECWRY3VY6R5SNV4YNBTBHR4T2HGP3HKVFO7TYUP2BKVFG724W63HVI",
    ],
)
def test_other_units_are_refused(text):
    with pytest.raises(ValueError, match=r"ISCC|Image-Code"):
        read_hash(text, ISCC_IMAGE64)


def test_a_list_becomes_an_index_and_a_list_again(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text(f"hash,quality,id\n{ONE},80,a\n{TWO},90,b\n{TWO},90,b\nbad,90,c\n")
    store = Store.create(tmp_path / "index", PDQ256)
    report = import_list(store, file)
    assert (report.added, report.known, [one.line for one in report.rejected]) == (2, 1, [5])
    again = import_list(store, file)
    assert (again.added, again.known) == (0, 3)
    store.set_state("b", State.DISABLED)
    out = io.StringIO()
    write_list(out, export_list(store), ListFormat.CSV)
    assert out.getvalue() == f"hash,quality,id\n{ONE},80,a\n"
