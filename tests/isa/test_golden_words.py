"""The words of isa/conformance/golden_words.yaml, assembled by hand, against encoder, decoder, assembler and disassembler."""

from __future__ import annotations

import re
from typing import Any

import pytest

from npuvm.isa import assemble_insns, classify, decode_at, encode, format_insn, load_isa
from npuvm.isa.model import WordClass
from npuvm.isa.resources import data_root
from npuvm.isa.yaml_strict import load_yaml

ISA = load_isa()
FILE = load_yaml(data_root() / "isa" / "conformance" / "golden_words.yaml").data
GOLDEN: list[dict[str, Any]] = FILE["golden"]
REFUSED: list[dict[str, Any]] = FILE["refused"]
TERM = re.compile(r"(?P<value>0x[0-9a-f]+|[0-9]+)(?:<<(?P<bit>[0-9]+))?(?P<label> .*)?")


def words_of(entry: dict[str, Any]) -> list[int]:
    assert all(re.fullmatch(r"0x[0-9a-f]{16}", word) for word in entry["words"])
    return [int(word, 16) for word in entry["words"]]


def terms_of(line: str) -> list[tuple[int, int, str]]:
    """(value, bit, label) of each field of a line of the working."""
    matches = [TERM.fullmatch(term) for term in line.split(" + ")]
    return [(int(m["value"], 0), int(m["bit"] or 0), (m["label"] or "").strip()) for m in matches if m]


def by_name(entries: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("entry", entries, ids=[entry["name"] for entry in entries])


@by_name(GOLDEN + REFUSED)
def test_the_working_adds_up(entry: dict[str, Any]) -> None:
    """Every term has a label, no two share a bit, and each line's sum is its word."""
    lines = entry["working"].splitlines()
    sums = []
    for line in lines:
        terms = terms_of(line)
        assert len(terms) == len(line.split(" + ")) and all(label for _, _, label in terms)
        parts = [value << bit for value, bit, _ in terms]
        total = 0
        for part in parts:
            assert not total & part, f"two fields share a bit in: {line}"
            total |= part
        sums.append(total)
    assert sums == words_of(entry)


@by_name(GOLDEN)
def test_golden_words(entry: dict[str, Any]) -> None:
    words = words_of(entry)
    (insn,) = assemble_insns(ISA, entry["asm"])
    assert encode(ISA, insn) == words
    decoded, length = decode_at(ISA, words)
    assert (decoded, length) == (insn, len(words))
    assert format_insn(ISA, decoded) == entry["asm"]
    assert classify(ISA, words) is WordClass.LEGAL


@by_name(GOLDEN)
def test_labels_name_what_the_text_names(entry: dict[str, Any]) -> None:
    """The first term is the opcode and says whose; every index in the text stands in the working as well."""
    op = re.split(r"[ .]", entry["asm"])[0]
    lines = entry["working"].splitlines()
    assert terms_of(lines[0])[0][1:] == (0, op)
    if len(lines) > 1:
        assert terms_of(lines[0])[1] == (len(lines) - 1, 8, "length")
    labels = " ".join(label for line in lines for _, _, label in terms_of(line))
    for index in re.findall(r"\b[mgr][1-9][0-9]*\b|\b[dsl][1-9][0-9]*\b", entry["asm"]):
        number = int(index[1:])
        kind = index[0]
        named = re.search(rf"\b{index}\b", labels) is not None
        ranged = kind == "l" and "l0..l7" in labels
        loops_of_window = kind == "l" and re.search(rf"\b{number} (row|col)_loop", " + ".join(lines)) is not None
        assert named or ranged or loops_of_window, f"{index} does not stand in the working"


@by_name(REFUSED)
def test_refused_words(entry: dict[str, Any]) -> None:
    assert classify(ISA, words_of(entry)).value == entry["class"]


def test_the_golden_words_cover_every_format_and_field() -> None:
    """Every format that is on, every operand kind, data type, predicate, wait and set, and each class of refused words."""
    insns = [assemble_insns(ISA, entry["asm"])[0] for entry in GOLDEN]
    on = [i for i in ISA.instructions.values() if ISA.features[i.feature]]
    used = [ISA.instruction(insn.op) for insn in insns]
    assert {i.format for i in used} == {i.format for i in on}
    assert {o.kind.name for i in used for o in i.operands} == {o.kind.name for i in on for o in i.operands}
    assert {i.unit for i in used} == {i.unit for i in on}
    assert {d for insn in insns for d in (insn.dtype, insn.dtype2) if d} == set(ISA.dtypes)
    assert {insn.pred.kind for insn in insns if insn.pred} == set(ISA.predicates) - {"always"}
    assert {len(insn.wait) for insn in insns} == {len(insn.set) for insn in insns} == {0, 1, 2}
    assert {0, 62} <= {number for insn in insns for number in (*insn.wait, *insn.set)}
    assert any(insn.order for insn in insns)
    assert any(value < 0 for insn in insns for value in insn.args.values())
    assert {entry["class"] for entry in REFUSED} == {c.value for c in WordClass if c is not WordClass.LEGAL}


def test_the_file_is_not_thin() -> None:
    assert len(GOLDEN) >= 45
    assert len({entry["name"] for entry in GOLDEN + REFUSED}) == len(GOLDEN + REFUSED)
