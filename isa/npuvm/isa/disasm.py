"""Disassembler: instructions and images as text, in the one canonical form that the assembler reads back.

Defaults are left out, indices carry the prefix of their kind, enumerations print by name, loop bodies are indented. Words that
are no instruction print as `.word` with their class. The form is described in docs/reference/assembly.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from npuvm.isa.codec import decode_at
from npuvm.isa.errors import DecodeError, IsaError
from npuvm.isa.image import ADDRESS_BITS, Image, Reloc
from npuvm.isa.model import Insn, Isa, OperandSpec

__all__ = ["PLAIN_NAME", "disassemble", "disassemble_words", "format_insn"]

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
"""Image names that need no quotes."""

_INDENT = "  "
_OPENING = ("loop", "grid")
_CLOSING = ("endloop", "endgrid")
_MAX_INDENT = 12
"""Levels of indentation printed at most; a legal program nests no deeper than its loops and one grid."""


def format_insn(isa: Isa, insn: Insn, relocs: Mapping[str, Reloc] | None = None) -> str:
    """One instruction in canonical form; `relocs` maps names of address operands to the relocations that patch them."""
    spec = isa.instruction(insn.op)
    types = (f".{insn.dtype}" if insn.dtype else "") + (f"->{insn.dtype2}" if insn.dtype2 else "")
    parts = [insn.op + types]
    for operand in spec.operands:
        value = insn.args.get(operand.name, operand.default)
        if value is None:
            raise IsaError(f"operand {operand.name} is missing", insn.op)
        reloc = relocs.get(operand.name) if relocs else None
        if reloc is not None:
            parts.append(f"{operand.name}={hex(value) if value else ''}{_format_reloc(reloc)}")
        elif value != operand.default:
            parts.append(f"{operand.name}={_format_value(operand, value)}")
    attributes = _format_attributes(isa, insn)
    return " ".join([*parts, "|", *attributes] if attributes else parts)


def disassemble_words(
    isa: Isa,
    words: Sequence[int] | npt.NDArray[np.uint64],
    relocs: Mapping[int, Reloc] | None = None,
    offsets: bool = False,
) -> list[str]:
    """The lines of a program; `relocs` by word index. With `offsets` each line ends in a comment with its word index."""
    plain: Sequence[int] = words.tolist() if isinstance(words, np.ndarray) else words
    by_word = relocs or {}
    lines: list[str] = []
    depth = index = 0
    while index < len(plain):
        try:
            insn, length = decode_at(isa, plain, index)
        except DecodeError as exc:
            reloc = f" {_format_reloc(by_word[index])}" if index in by_word else ""
            text, length = f".word {plain[index]:#018x}{reloc}  # {exc.word_class}", 1
        else:
            depth -= insn.op in _CLOSING and depth > 0
            text = _INDENT * min(depth, _MAX_INDENT) + format_insn(isa, insn, _named(isa, insn, index, by_word))
            depth += insn.op in _OPENING
        lines.append(f"{text}  # {index}" if offsets else text)
        index += length
    return lines


def disassemble(isa: Isa, image: Image, offsets: bool = False) -> str:
    """The image as text that `assemble` turns into the identical image; IsaError when it is of another instruction set."""
    if image.isa_hash != isa.hash:
        message = f"made for instruction set {image.isa_hash[:16]}..., this one is {isa.hash[:16]}..."
        raise IsaError(message, image.name)
    name = image.name if PLAIN_NAME.fullmatch(image.name) else json.dumps(image.name)
    lines = [f".image {name}", f".isa {isa.name} {isa.version} {isa.hash}", f".args {image.n_args}"]
    for entry in image.entries:
        ranges = "".join(f" {start}:{stop}" for start, stop in entry.ranges)
        lines.append(f".entry {entry.core_type} {entry.pc}{ranges}")
    inline = _inline_relocs(isa, image)
    if inline is None:
        lines += [f".reloc {r.word} {_format_reloc(r)}" for r in image.relocs]
    return "\n".join([*lines, *disassemble_words(isa, image.words, inline, offsets)]) + "\n"


def _inline_relocs(isa: Isa, image: Image) -> dict[int, Reloc] | None:
    """Relocations by word when each can stand on its instruction; None when the image needs `.reloc` lines.

    Those are needed when the order is not that of the words, a word has two, or one patches no address operand.
    """
    if any(a.word >= b.word for a, b in zip(image.relocs, image.relocs[1:], strict=False)):
        return None
    by_word = {r.word: r for r in image.relocs}
    plain = image.words.tolist()
    found = index = 0
    while index < len(plain):
        try:
            insn, length = decode_at(isa, plain, index)
            found += len(_named(isa, insn, index, by_word))
        except DecodeError:
            length = 1
            found += index in by_word
        index += length
    return by_word if found == len(by_word) else None


def _named(isa: Isa, insn: Insn, index: int, by_word: Mapping[int, Reloc]) -> dict[str, Reloc]:
    """Relocations of the instruction at word `index`, by the address operand that they patch."""
    if not by_word:
        return {}
    return {
        operand.name: by_word[index + operand.bits.word]
        for operand in isa.instruction(insn.op).operands
        if operand.kind.name == "addr"
        and operand.bits.low == 0
        and operand.bits.width == ADDRESS_BITS
        and index + operand.bits.word in by_word
    }


def _format_reloc(reloc: Reloc) -> str:
    sign = "-" if reloc.addend < 0 else "+"
    return f"@arg{reloc.arg}" + (f"{sign}{abs(reloc.addend):#x}" if reloc.addend else "")


def _format_value(operand: OperandSpec, value: int) -> str:
    kind = operand.kind.repr
    if kind == "index":
        return f"{operand.kind.prefix}{value}"
    if kind == "hex":
        return hex(value)
    if kind == "enum":
        names = [name for name, number in operand.values.items() if number == value]
        return names[0] if names else str(value)
    return str(value)


def _format_attributes(isa: Isa, insn: Insn) -> list[str]:
    parts: list[str] = []
    if insn.pred is not None:
        loops = ",".join(f"l{i}" for i in range(isa.limits["loops"]) if insn.pred.mask >> i & 1)
        parts.append(f"if {insn.pred.kind}({loops})")
    for word, numbers in (("wait", insn.wait), ("set", insn.set)):
        if numbers:
            parts.append(word + "".join(f" m{n}" for n in numbers))
    if insn.order:
        parts.append("order")
    return parts
