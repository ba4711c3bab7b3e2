"""The decoder's ports, against a list written by hand, and what the decoder has no room for."""

from __future__ import annotations

import re

import pytest
from tests.isa.generate.sets import BASE, SETS, TINY, TINY_FILE
from tests.isa.off import isa_without

from npuvm.isa import IsaError, load_isa_text
from npuvm.isa.generate import Port, decoder_ports, decoder_sv, package_sv

FIXED = {
    "words": 512,
    "avail": 4,
    "word_class": 3,
    "length": 4,
    "opcode": 8,
    "unit": 3,
    "dtype_valid": 1,
    "dtype2_valid": 1,
    "dtype": 4,
    "dtype2": 4,
    "wait0": 6,
    "wait1": 6,
    "set0": 6,
    "set1": 6,
    "pred": 3,
    "mask": 8,
    "order": 1,
    "tile0": 8,
    "tile1": 8,
    "tile2": 8,
    "tile3": 8,
    "tile_valid": 4,
    "size0": 6,
    "size1": 6,
    "size2": 6,
    "size_valid": 3,
}


@pytest.mark.parametrize("name", SETS)
def test_the_fixed_ports_are_the_same_for_every_set(name: str) -> None:
    ports = decoder_ports(SETS[name])
    assert {port.name: port.width for port in ports if not port.name.startswith("op_")} == FIXED
    assert [port.name for port in ports if port.direction == "input"] == ["words", "avail"]


def test_operand_ports_have_the_widest_operand() -> None:
    base = {port.name: port for port in decoder_ports(BASE)}
    assert base["op_rows"] == Port("op_rows", 32, "output", signed=False)  # 32 bits in dwin, 6 elsewhere
    assert base["op_base"] == Port("op_base", 48, "output", signed=True)  # signed in sza, an address in desc
    assert base["op_stride"].width == 48
    assert "op_index" in base
    off = [port.name for port in decoder_ports(isa_without("indexed"))]
    assert "op_index" not in off  # only instructions of that feature have one
    tiny = {port.name: port.width for port in decoder_ports(TINY) if port.name.startswith("op_")}
    assert tiny == {
        "op_at": 16,
        "op_step": 64,
        "op_reg": 4,
        "op_way": 3,
        "op_power": 4,
        "op_unit": 3,
        "op_dst": 5,
        "op_a": 5,
        "op_rows": 4,
        "op_register": 64,
    }


@pytest.mark.parametrize("name", SETS)
def test_the_module_declares_these_ports(name: str) -> None:
    isa = SETS[name]
    declared = re.findall(r"^  (input|output) +logic(?: \[(\d+):0\])? (\w+)", decoder_sv(isa), re.MULTILINE)
    expected = [
        (port.direction, str(port.width - 1) if port.width > 1 else "", port.name) for port in decoder_ports(isa)
    ]
    assert declared == expected


REGION = "{bits: '1:%d:%d', kind: desc, role: read, spaces: [ub], shape: [1, 1]}"
FIVE_TILES = ", ".join(f"{name}: {REGION % (8 * i + 7, 8 * i)}" for i, name in enumerate("abcde"))
FOUR_SIZES = ", ".join(f"{name}: {{bits: '1:{6 * i + 5}:{6 * i}', kind: size}}" for i, name in enumerate("klmn"))


UNIT = "unit: {bits: '0:63:61', kind: uint}"
NO_ROOM = {
    "5 tile operands (a, b, c, d, e); the generated decoder gives 4": f"{{unit: seq, words: 1, operands: {{{FIVE_TILES}}}}}",
    "4 size operands (k, l, m, n); the generated decoder gives 3": (
        f"{{unit: any, words: 1, operands: {{{UNIT}, {FOUR_SIZES}}}}}"
    ),
    "k has 7 bits; a size of the decoder has 6": (
        f"{{unit: any, words: 1, operands: {{{UNIT}, k: {{bits: '1:6:0', kind: size}}}}}}"
    ),
    "a has 9 bits; a tile of the decoder has 8": f"{{unit: seq, words: 1, operands: {{a: {REGION % (8, 0)}}}}}",
    "an instruction for any unit needs an operand `unit` that names it": (
        "{unit: any, words: 0, operands: {k: {bits: '0:63:61', kind: uint}}}"
    ),
    "dtype2 has more than 4 bits": "{unit: seq, words: 0, dtype2: '0:60:56', operands: {}}",
}


@pytest.mark.parametrize("message", NO_ROOM)
def test_what_has_no_room_is_refused(message: str) -> None:
    layout = NO_ROOM[message]
    dtypes = "dtypes: [fp32->fp32], " if "dtype2" in layout else ""
    text = TINY_FILE.read_text(encoding="utf-8")
    stanza = f'  - {{name: x, opcode: 0x40, format: x, {dtypes}doc: ""}}\n'
    text = text.replace("features:\n", f"  x: {layout}\nfeatures:\n").replace(
        "custom_opcodes:", f"{stanza}custom_opcodes:"
    )
    isa = load_isa_text(text)
    with pytest.raises(IsaError) as caught:
        decoder_sv(isa)
    assert str(caught.value) == f"x: {message}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('mask: "36:33"', 'mask: "59:51"', "head.mask has 9 bits; the generated decoder has 8 for it"),
        ("vector: {code: 5", "vector: {code: 9", "UNIT_VECTOR is 9; the generated decoder has 3 bits for it"),
    ],
)
def test_a_head_or_a_code_that_is_too_wide_is_refused(old: str, new: str, message: str) -> None:
    text = TINY_FILE.read_text(encoding="utf-8")
    assert old in text
    isa = load_isa_text(text.replace(old, new))
    with pytest.raises(IsaError) as caught:
        package_sv(isa)
    assert str(caught.value) == message
