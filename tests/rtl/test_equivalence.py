"""The generated decoder equals a reference that other code writes, for all words; and a fault in it does not pass."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from npuvm.hw.errors import RtlError
from npuvm.hw.rtl import decoder_sources, reference_decoder
from npuvm.hw.rtl.equivalence import CounterExample, prove_equivalent, prove_hits
from npuvm.hw.rtl.reference_decoder import reference_sv
from npuvm.hw.rtl.yosys import Yosys
from npuvm.isa import Isa, IsaError, WordClass, classify, load_isa
from npuvm.isa.resources import data_root, list_resources

TINY = load_isa(Path(__file__).resolve().parents[1] / "isa" / "generate" / "tiny.yaml")
CLASSES = (
    WordClass.LEGAL,
    WordClass.RESERVED_BITS,
    WordClass.ILLEGAL_OPERAND,
    WordClass.UNALLOCATED,
    WordClass.FEATURE_OFF,
)
Words = tuple[int, ...]


def resolved(isa: Isa) -> Mapping[str, Any]:
    """The public JSON, which is all that the reference may read."""
    document: Mapping[str, Any] = json.loads(isa.resolved_json())
    return document


def faulty(isa: Isa, folder: Path, old: str, new: str) -> list[Path]:
    """The generated files with `old` replaced by `new` in one place of the decoder."""
    package, decoder = decoder_sources(isa, folder / "sources")
    text = decoder.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"the fault to plant in {decoder} does not fit: {old}"
    (folder / "faulty").mkdir()
    file = folder / "faulty" / decoder.name
    file.write_text(text.replace(old, new), encoding="utf-8")
    return [package, file]


def bits(word: int, low: int, width: int) -> Callable[[Words], int]:
    return lambda words: words[word] >> low & (1 << width) - 1


def class_of(isa: Isa, found: CounterExample) -> int:
    return CLASSES.index(classify(isa, found.words[: found.avail]))


def test_the_decoder_of_a_small_set_equals_the_reference(yosys: Yosys, tmp_path: Path) -> None:
    """This set has signed ranges, enums with holes, names of several widths, and fewer loops than the head has room for."""
    sources = decoder_sources(TINY, tmp_path / "sources")
    assert prove_equivalent(yosys, sources, resolved(TINY), tmp_path) is None
    assert prove_hits(yosys, sources, resolved(TINY), tmp_path) is None


def test_at_most_one_hit_in_the_committed_decoder(yosys: Yosys, tmp_path: Path) -> None:
    isa = load_isa()
    assert prove_hits(yosys, decoder_sources(isa, tmp_path / "sources"), resolved(isa), tmp_path) is None


def test_the_committed_decoder_equals_the_reference(yosys: Yosys, tmp_path: Path) -> None:
    isa = load_isa()
    sources = decoder_sources(isa, tmp_path / "sources")
    assert sources[1] == data_root() / "hw" / "rtl" / "npu_decoder.sv", "the committed decoder is stale"
    assert prove_equivalent(yosys, sources, resolved(isa), tmp_path) is None


@pytest.mark.slow
def test_the_decoder_with_every_extension_equals_the_reference(yosys: Yosys, tmp_path: Path) -> None:
    isa = load_isa(extensions=list_resources("extension"))
    sources = decoder_sources(isa, tmp_path / "sources")
    assert prove_hits(yosys, sources, resolved(isa), tmp_path) is None
    assert prove_equivalent(yosys, sources, resolved(isa), tmp_path) is None


FAULTS: dict[str, tuple[str, str, str, Callable[[Words], int] | None]] = {
    # name: what stands in the decoder, the fault, the output that shows it, its right value (None: the Python class)
    "field shifted by a bit": ("& {3'd0, words[73:69]}", "& {3'd0, words[74:70]}", "tile1", bits(1, 5, 5)),
    "two operands swapped": ("assign op_dst = {5{sel_op_dst_1_4_0}} & words[68:64]",
                             "assign op_dst = {5{sel_op_dst_1_4_0}} & words[73:69]", "op_dst", bits(1, 0, 5)),
    "a reserved bit ignored": ("wire reserved_1_63_52 = (|words[127:116])",
                               "wire reserved_1_63_52 = (|words[126:116])", "word_class", None),
    "reserved bits of an instruction ignored": ("reserved_1_9_0 = (|words[73:64]) & fmt_wide",
                                                "reserved_1_9_0 = 1'b0", "word_class", None),
    "sign not extended": ("{{8{words[71]}}, words[71:64]}", "{8'd0, words[71:64]}", "op_at", None),
    "range compared as unsigned": ("(($signed(words[71:64]) < 8'sh9c)", "((words[71:64] < 8'h9c)", "word_class", None),
    "range one too wide": ("words[107:104] > 4'hc", "words[107:104] > 4'hd", "word_class", None),
    "enum with a hole filled": ("(words[110:108] == 3'd6)", "(words[110:108] == 3'd7)", "word_class", None),
    "second wait without a first": ("(~(|words[17:14]) & (|words[21:18])) | ", "", "word_class", None),
    "semaphore past the last": ("| (words[25:22] > 4'hd) ", "", "word_class", None),
    "mask of a loop past the last": (" | (|words[36])", "", "word_class", None),
    "truncated instruction accepted": ("(avail > 4'd2)", "(avail > 4'd1)", "word_class", None),
    "feature off decoded as unallocated": ("wire off = off_vgetx;", "wire off = 1'b0;", "word_class", None),
    "classes in the wrong order": ("hit & ~reserved & illegal}", "hit & illegal}", "word_class", None),
    "type pair with swapped ends": ("(dtype_is_fp32 & dtype2_0_42_40_is_fp16)",
                                    "(dtype_is_fp32 & dtype2_0_42_40_is_fp32)", "word_class", None),
    "length without the head": ("({1'd0, words[10:8]} + 4'd1)", "{1'd0, words[10:8]}", "length",
                                lambda words: (words[0] >> 8 & 7) + 1),
    "field given without a hit": ("assign order = hit & words[37]", "assign order = words[37]", "order",
                                  lambda words: 0),
    "wrong unit": ("{3{is_vector}} & npu_isa_pkg::UNIT_VECTOR", "{3{is_vector}} & npu_isa_pkg::UNIT_SEQ", "unit",
                   lambda words: 5),
    "one tile too few announced": ("assign tile_valid[1] = sel_tile1_1_9_5", "assign tile_valid[1] = 1'b0",
                                   "tile_valid", lambda words: 3),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_gives_a_counter_example(fault: str, yosys: Yosys, tmp_path: Path) -> None:
    old, new, output, expected = FAULTS[fault]
    found = prove_equivalent(yosys, faulty(TINY, tmp_path, old, new), resolved(TINY), tmp_path)
    assert found is not None
    assert output in found.differences
    reference, decoder = found.differences[output]
    assert reference != decoder
    if expected is not None:
        assert reference == expected(found.words)
    if "word_class" in found.differences:
        assert found.differences["word_class"][0] == class_of(TINY, found)


def test_an_opcode_used_twice_is_two_hits(yosys: Yosys, tmp_path: Path) -> None:
    sources = faulty(TINY, tmp_path, "npu_isa_pkg::OP_PUTN)", "npu_isa_pkg::OP_PUT)")
    found = prove_hits(yosys, sources, resolved(TINY), tmp_path)
    assert found is not None
    assert found.words[0] & 0xFF in (0x10, 0x11)  # put, hit twice, or putn, not hit at all


def test_a_counter_example_says_which_words_and_what_python_makes_of_them(yosys: Yosys, tmp_path: Path) -> None:
    sources = faulty(TINY, tmp_path, "& {3'd0, words[73:69]}", "& {3'd0, words[74:70]}")
    found = prove_equivalent(yosys, sources, resolved(TINY), tmp_path)
    assert found is not None
    text = found.describe(TINY)
    reference, decoder = found.differences["tile1"]
    assert f"{found.words[0]:016x} {found.words[1]:016x}" in text
    assert f"{found.avail} available" in text
    assert f"tile1: reference {reference:#x}, decoder {decoder:#x}" in text
    assert f"the Python decoder: {classify(TINY, found.words[: found.avail]).value}" in text


def test_a_legal_counter_example_is_printed_as_its_instruction() -> None:
    text = CounterExample((0x20 | 1 << 8 | 5 << 11, 3 | 4 << 5 | 9 << 16, *[0] * 6), 8, {"length": (2, 0)}).describe(
        TINY
    )
    assert "the Python decoder: legal, 2 words, vneg.fp16 dst=d3 a=d4 rows=s9" in text


def test_an_output_that_nothing_drives_is_refused(yosys: Yosys, tmp_path: Path) -> None:
    """The solver reads such a wire as zero, which could hide that it is missing."""
    sources = faulty(TINY, tmp_path, "assign tile3 = 8'd0;", "")
    with pytest.raises(RtlError, match="tile3"):
        prove_equivalent(yosys, sources, resolved(TINY), tmp_path)


def test_an_output_that_is_missing_is_refused(yosys: Yosys, tmp_path: Path) -> None:
    sources = faulty(TINY, tmp_path, "output logic [4:0] op_dst", "output logic [4:0] op_dest")
    with pytest.raises(RtlError, match="op_d"):
        prove_equivalent(yosys, sources, resolved(TINY), tmp_path)


def test_the_reference_shares_no_code_with_the_generator() -> None:
    source = Path(reference_decoder.__file__).read_text(encoding="utf-8")
    imported = {
        node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module
    } | {alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in imported if name.startswith("npuvm")} == {"npuvm.isa.errors"}


def test_the_reference_refuses_what_the_outputs_cannot_carry() -> None:
    document = json.loads(TINY.resolved_json())
    vneg = next(entry for entry in document["instructions"] if entry["name"] == "vneg")
    (dst,) = (operand for operand in vneg["operands"] if operand["name"] == "dst")
    vneg["operands"] += [{**dst, "name": f"d{i}", "bits": [1, 20 + 5 * i, 5]} for i in range(3)]
    with pytest.raises(IsaError, match="vneg: has 5 tile operands; the decoder gives 4"):
        reference_sv(document)
    dst["bits"] = [1, 20, 9]
    with pytest.raises(IsaError, match="a field of 9 bits does not fit output tile0 of 8"):
        vneg["operands"] = [dst]
        reference_sv(document)
