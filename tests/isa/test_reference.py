"""The reference pages say what the instruction set says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from npuvm.isa import Instruction, Isa, load_isa
from npuvm.isa.generate import reference_markdown
from npuvm.isa.model import BitField
from npuvm.isa.verifier import RULES

PAGES = Path(__file__).resolve().parents[2] / "docs/reference"
ISA = load_isa()
TEXT = reference_markdown(ISA)

_DRAWN = re.compile(r"^\| word(\d) \| (.*) \|\n\|[- |]+\|\n\|  \| (.*) \|$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """Instruction name -> the section of the page that draws its format."""
    found: dict[str, str] = {}
    for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        if heading.startswith("Format"):
            for name in re.findall(r"`(\w+)`", heading)[1:]:
                assert name not in found
                found[name] = body.split("\n## ")[0]
    return found


def drawn_fields(section: str) -> dict[str, tuple[int, int, int]]:
    """Field -> (word, highest bit, lowest bit), from the drawing; asserts that each word is drawn whole."""
    fields: dict[str, tuple[int, int, int]] = {}
    for word, ranges, names in _DRAWN.findall(section):
        expected_high = 63
        for bits, name in zip(ranges.split(" | "), names.split(" | "), strict=True):
            high, _, low = bits.partition(":")
            assert int(high) == expected_high
            expected_high = int(low or high) - 1
            if name != "0":
                fields[name.strip("`")] = (int(word), int(high), int(low or high))
        assert expected_high == -1
    return fields


def place(bits: BitField) -> tuple[int, int, int]:
    return bits.word, bits.low + bits.width - 1, bits.low


@pytest.mark.parametrize("instruction", ISA.instructions.values(), ids=lambda i: i.name)
def test_every_instruction_is_drawn_with_all_its_fields(instruction: Instruction) -> None:
    expected = {name: place(bits) for name, bits in ISA.head.items() if name != "dtype" or instruction.dtypes}
    expected |= {operand.name: place(operand.bits) for operand in instruction.operands}
    if instruction.dtype2_bits is not None:
        expected["dtype2"] = place(instruction.dtype2_bits)
    section = sections(TEXT)[instruction.name]
    assert drawn_fields(section) == expected
    for operand in instruction.operands:
        word, high, low = place(operand.bits)
        bits = f"word{word}[{high}:{low}]" if high > low else f"word{word}[{low}]"
        read = f"sign_extend({bits})" if operand.kind.repr == "sint" else bits
        assert f"| `{operand.name}` | `{read}` |" in section


def test_page_of_an_extension_has_its_instructions() -> None:
    isa: Isa = load_isa(extensions=["fma"])
    text = reference_markdown(isa)
    assert re.search(
        r"^\| `vfma` \| 0xc0 \| `vtri` \| fp32, fp16, bf16 \| .* \| `dst = a \* b \+ c`\. ", text, re.MULTILINE
    )
    assert "fma 1.0" in text
    assert isa.hash in text
    assert isa.hash not in TEXT


def test_class_codes_are_those_of_the_hardware() -> None:
    codes = dict(
        re.findall(r"^\| `([a-z-]+)` \| (\d) \| ", TEXT.split("## Classes")[1].split("\n## ")[0], re.MULTILINE)
    )
    assert codes == {"legal": "0", "reserved-bits": "1", "illegal-operand": "2", "unallocated": "3", "feature-off": "4"}


def test_verifier_page_has_every_rule() -> None:
    text = (PAGES / "verifier.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(RULES)
