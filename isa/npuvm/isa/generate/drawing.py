"""Bit fields as tables: how the words of a format are laid out, and how each operand is read from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from npuvm.isa.model import BitField, Instruction, Isa, OperandSpec

__all__ = ["WORD_BITS", "FieldRow", "bit_range", "field_rows", "markdown_table", "word_cells"]

WORD_BITS = 64


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field of an instruction in words: where it stands, how it is read, what it may hold."""

    name: str
    word: int
    bits: str
    read: str
    what: str


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a cell is one line, whatever its text."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").splitlines())


def bit_range(bits: BitField) -> str:
    """high:low, or the one bit."""
    return f"{bits.low + bits.width - 1}:{bits.low}" if bits.width > 1 else str(bits.low)


def word_cells(isa: Isa, instruction: Instruction, word: int) -> list[tuple[str, str]]:
    """(bits, field) of one word from bit 63 down; bits that must be zero have the field "0"."""
    owners = ["0"] * WORD_BITS
    for name, bits in _placed(isa, instruction):
        if bits.word == word:
            owners[bits.low : bits.low + bits.width] = [name] * bits.width
    cells: list[tuple[str, str]] = []
    high = WORD_BITS - 1
    for low in range(WORD_BITS - 1, -1, -1):
        if low == 0 or owners[low - 1] != owners[low]:
            cells.append((bit_range(BitField(word, low, high - low + 1)), owners[high]))
            high = low - 1
    return cells


def field_rows(instruction: Instruction) -> list[FieldRow]:
    """The operands in order, then the second type field if there is one."""
    rows = [
        FieldRow(o.name, o.bits.word, bit_range(o.bits), _read(o.bits, o.kind.repr == "sint"), _what(o))
        for o in instruction.operands
    ]
    if instruction.dtype2_bits is not None:
        bits = instruction.dtype2_bits
        rows.append(FieldRow("dtype2", bits.word, bit_range(bits), _read(bits, False), "code of the second data type"))
    return rows


def _placed(isa: Isa, instruction: Instruction) -> Iterator[tuple[str, BitField]]:
    for name, bits in isa.head.items():
        if name != "dtype" or instruction.dtypes:
            yield name, bits
    for operand in instruction.operands:
        yield operand.name, operand.bits
    if instruction.dtype2_bits is not None:
        yield "dtype2", instruction.dtype2_bits


def _read(bits: BitField, signed: bool) -> str:
    field = f"word{bits.word}[{bit_range(bits)}]"
    return f"sign_extend({field})" if signed else field


def _what(operand: OperandSpec) -> str:
    kind = operand.kind
    if operand.values:
        what = "one of " + ", ".join(f"{code} `{name}`" for name, code in operand.values.items())
    elif operand.is_region:
        roles = {"read": "read", "write": "written", "readwrite": "read and written"}
        shape = " x ".join(str(dim) for dim in operand.shape)
        dtype = {"dtype": "", "dtype2": ", in the second type", "acc": ", in the accumulator's type"}
        typed = dtype.get(operand.dtype, f", in {operand.dtype}")
        what = f"descriptor in {' or '.join(operand.spaces)}, {shape} {roles[operand.role or 'read']}{typed}"
    elif kind.repr == "index":
        what = f"{kind.name}, `{kind.prefix}{operand.low}` to `{kind.prefix}{operand.high}`"
    elif kind.repr == "hex":
        what = "pattern in the compute type: fp32 for floats, else the number" if kind.name == "bits32" else "address"
    else:
        what = f"{operand.low} to {operand.high}"
    if operand.default is not None and not operand.is_region:
        what += f"; default {operand.default}"
    return what
