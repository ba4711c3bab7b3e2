"""Instruction sets that are odd: those that are legal give files that tools take, the others one clear error."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.isa.generate.sets import ODD_HEAD, TINY_FILE

from npuvm.isa import Isa, IsaError, load_isa_text
from npuvm.isa.generate import artifacts, c_header, decoder_sv, package_sv, reference_markdown

TEXT = TINY_FILE.read_text(encoding="utf-8")
RESERVED_WORDS = [
    *("input", "wire", "int", "default", "class", "template", "new", "this", "output", "logic", "const", "register"),
    *("while", "_Bool", "NULL", "xor", "assign", "case", "module", "begin", "int_", "int__"),
]


def with_format(layout: str, doc: str = "Odd.", more: str = "") -> str:
    """The small set with a format x of that layout (and more formats behind it), and an instruction of each format."""
    names = ["x", *re.findall(r"^  (\w+):", more, re.MULTILINE)]
    stanzas = "".join(
        f"  - {{name: odd{i}, opcode: {0x40 + i}, format: {name}, doc: {doc!r}}}\n" for i, name in enumerate(names)
    )
    text = TEXT.replace("features:\n", f"  x: {layout}\n{more}features:\n", 1)
    return text.replace("custom_opcodes:", f"{stanzas}custom_opcodes:", 1)


def of_word(*operands: str) -> str:
    return f"{{unit: seq, words: 1, dtyped: false, operands: {{{', '.join(operands)}}}}}"


LEGAL = {
    "head in another order": ODD_HEAD,
    "reserved words": with_format(
        of_word(*(f'{name}: {{bits: "1:{2 * i + 1}:{2 * i}", kind: uint}}' for i, name in enumerate(RESERVED_WORDS)))
    ),
    "comment in a sentence": with_format(of_word('k: {bits: "1:3:0", kind: uint}'), "a */ b /* c | d"),
    "seven words": with_format(
        '{unit: seq, words: 7, dtyped: false, operands: {z: {bits: "7:63:0", kind: sint}}}'
    ).replace("max_operand_words: 2", "max_operand_words: 7"),
    "narrow opcodes": TEXT.replace('opcode: "7:0"', 'opcode: "5:0"').replace("[0xc0, 0xff]", "[0x38, 0x3f]"),
}


def write_all(isa: Isa, folder: Path) -> None:
    (folder / "package.sv").write_text(package_sv(isa), encoding="utf-8")
    (folder / "decoder.sv").write_text(decoder_sv(isa), encoding="utf-8")
    (folder / "set.h").write_text(c_header(isa), encoding="utf-8")


@pytest.mark.parametrize("name", LEGAL)
@pytest.mark.parametrize(
    "command",
    [
        ["iverilog", "-g2012", "-Wall", "-t", "null", "package.sv", "decoder.sv"],
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c", "set.h"],
        ["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++", "set.h"],
    ],
    ids=["sv", "c", "c++"],
)
def test_what_is_made_of_a_legal_set_compiles(name: str, command: Sequence[str], tmp_path: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    write_all(load_isa_text(LEGAL[name]), tmp_path)
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_an_operand_called_like_a_renamed_one_keeps_a_name_of_its_own() -> None:
    text = c_header(load_isa_text(LEGAL["reserved words"]))
    (members,) = re.findall(r"^struct tiny_x_operands {\n(.*?)^};", text, re.MULTILINE | re.DOTALL)
    names = re.findall(r"uint64_t (\w+);", members)
    assert len(set(names)) == len(RESERVED_WORDS)
    assert {"input", "int_", "int__", "int___", "class_"} <= set(names)


def test_the_page_names_every_gap_of_the_head_and_no_bit_past_it() -> None:
    page = reference_markdown(load_isa_text(LEGAL["head in another order"]))
    table = page[page.index("## Head word") : page.index("### Decoding it")]
    bits = re.findall(r"^\| (\d+)(?::(\d+))? \|", table, re.MULTILINE)
    covered = sorted(bit for high, low in bits for bit in range(int(low or high), int(high) + 1))
    assert covered == list(range(64))
    assert "| 52:26 |  | fields of the instruction, or reserved |" in table


def test_a_sentence_of_several_lines_stays_in_its_cell() -> None:
    text = with_format(of_word('k: {bits: "1:3:0", kind: uint}'), "DOC").replace("'DOC'", '"one\\ntwo"')
    page = reference_markdown(load_isa_text(text))
    assert "one two |\n" in page


WRONG = {
    "two constants of the generated C header would be called TINY_X_A_WORD": with_format(
        of_word('A: {bits: "1:3:0", kind: uint}', 'a: {bits: "1:7:4", kind: uint}')
    ),
    "two constants of the generated C header would be called TINY_X_A_B_WORD": with_format(
        of_word('a_b: {bits: "1:3:0", kind: uint}'), more="  x_a: " + of_word('b: {bits: "1:5:2", kind: uint}') + "\n"
    ),
    "two constants of the generated package would be called VALUE_W_UP": with_format(
        of_word('w: {bits: "1:3:0", kind: enum, values: {Up: 1, up: 2}}')
    ),
    "head.length has 5 bits; the generated decoder has 4 for it": TEXT.replace('length: "10:8"', 'length: "59:55"'),
    "odd0: unit has 5 bits; a unit of the decoder has 3": with_format(
        '{unit: any, words: 0, dtyped: false, operands: {unit: {bits: "0:55:51", kind: enum, values: {vector: 5}}}}'
    ),
    "every instruction belongs to a feature that is off; there is nothing to decode": TEXT.replace(
        "base: {default: true", "base: {default: false"
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_generated_is_told(message: str) -> None:
    isa = load_isa_text(WRONG[message])
    with pytest.raises(IsaError) as caught:
        artifacts(isa)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'dtype2: "0:42:40"',
            'dtype2: "1:42:40"',
            "formats.cast.dtype2: bits '1:42:40': the second type stands in the head",
        ),
        (
            'dtype2: "0:42:40"',
            'dtype2: "7:2:0"',
            "formats.cast.dtype2: bits '7:2:0': the second type stands in the head",
        ),
        ("loops: 3", "loops: 6", "limits.loops: 6 do not fit the head's mask"),
        ('set1: "29:26"', 'set1: "28:26"', "limits.semaphores: 13 do not fit the head's wait and set fields"),
        ("[0xc0, 0xff]", "[0xff, 0xc0]", "custom_opcodes: 0xff to 0xc0 is no range of opcodes"),
    ],
)
def test_fields_that_the_encoder_would_write_over_are_refused(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(IsaError, match=re.escape(message)):
        load_isa_text(TEXT.replace(old, new))
