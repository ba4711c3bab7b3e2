"""Which bits of a program are values that shapes set, and which give it its form.

Values are the numbers of set-up instructions (sizes, bases, pitches, strides, slots) and plain 32-bit data that instructions
carry. They may have any bits, so that an image whose other bits are those of a legal one decodes to the same instructions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from npuvm.isa.image import Image
from npuvm.isa.image_tables import RelocTable
from npuvm.isa.model import Insn, Instruction, Isa, OperandSpec

__all__ = ["Forms", "Values"]

_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "szc": ("full",),
    "szt": ("full", "tail"),
    "sza": ("full", "base", "step_a", "step_b"),
    "desc": ("base", "pitch"),
    "dstr": ("stride",),
    "dwin": ("row0", "col0", "rows", "cols", "row_step", "col_step"),
    "ring": ("slot_bytes",),
}
"""Operands of set-up instructions whose values the checks of a template take as they are."""

_WORD = (1 << 64) - 1


class Forms:
    """The bits of each instruction of an instruction set that are no values."""

    def __init__(self, isa: Isa) -> None:
        opcode, length = isa.head["opcode"], isa.head["length"]
        self._head = opcode.mask | length.mask
        self._masks: dict[int, tuple[bytes, int]] = {}
        for spec in isa.instructions.values():
            masks = [_WORD] * (spec.words + 1)
            for operand in spec.operands:
                if _is_value(spec, operand):
                    masks[operand.bits.word] &= ~operand.bits.mask
            head = spec.opcode << opcode.low | spec.words << length.low
            self._masks[head] = np.array(masks, dtype=np.uint64).tobytes(), len(masks)

    def of(self, words: npt.NDArray[np.uint64]) -> bytes | None:
        """The form of a program: all its bits but those of values; None when it does not split into instructions."""
        if words.dtype != np.uint64:
            return None
        heads, masks, head, parts, at = words.tolist(), self._masks, self._head, [], 0
        while at < len(heads):
            found = masks.get(heads[at] & head)
            if found is None:
                return None
            parts.append(found[0])
            at += found[1]
        if at != len(heads):
            return None
        return (words & np.frombuffer(b"".join(parts), dtype=np.uint64)).tobytes()


def _is_value(spec: Instruction, operand: OperandSpec) -> bool:
    bits = operand.bits
    low, high = (0, (1 << bits.width) - 1) if operand.kind.repr != "sint" else _signed(bits.width)
    if operand.values or (operand.low, operand.high) != (low, high):
        return False
    if operand.kind.name == "bits32":
        return all(operand.name not in region.shape for region in spec.regions)
    return operand.name in _NUMBERS.get(spec.name, ())


def _signed(width: int) -> tuple[int, int]:
    return -(1 << width - 1), (1 << width - 1) - 1


class Values:
    """Where the values of a form stand, to be read from any image that has it, with `relocs` relocations.

    `number` and `addend` give the place of a value in what `read` returns, `constant` that of a number that is the same in all
    images. They are called before the first `read`.
    """

    def __init__(self, isa: Isa, insns: Mapping[int, tuple[Insn, int]], relocs: int) -> None:
        self._insns = insns
        self._places: dict[tuple[int, str], int] = {}
        fields: list[tuple[int, int, int, int]] = []
        for pc, (insn, _) in insns.items():
            spec = isa.instruction(insn.op)
            for name in _NUMBERS.get(insn.op, ()):
                operand = spec.operand(name)
                if _is_value(spec, operand):
                    bits = operand.bits
                    self._places[pc, name] = len(fields)
                    sign = 1 << bits.width - 1 if operand.kind.repr == "sint" else 0
                    fields.append((pc + bits.word, bits.low, (1 << bits.width) - 1, sign))
        columns = list(zip(*fields, strict=True)) or [(), (), (), ()]
        self._words = np.array(columns[0], dtype=np.int64)
        self._lows, self._masks = (np.array(each, dtype=np.uint64) for each in columns[1:3])
        self._signs = np.array(columns[3], dtype=np.int64)
        self._addends = len(fields)
        self._relocs = relocs
        self._constants: dict[int, int] = {}

    def number(self, pc: int, name: str) -> int:
        """The place of an operand of the set-up instruction at `pc`, a constant where the form has it."""
        place = self._places.get((pc, name))
        return self.constant(self._insns[pc][0].args[name]) if place is None else place

    def addend(self, reloc: int) -> int:
        """The place of a relocation's addend, by its index in the image."""
        return self._addends + reloc

    def constant(self, value: int) -> int:
        """The place of a number that is the same in all images."""
        return self._constants.setdefault(value, self._addends + self._relocs + len(self._constants))

    def read(self, image: Image, relocs: RelocTable) -> npt.NDArray[np.int64]:
        """All values of an image, then the addends of its relocations, then the constants."""
        raw = (image.words[self._words] >> self._lows & self._masks).astype(np.int64)
        fields = (raw ^ self._signs) - self._signs
        return np.concatenate((fields, relocs.addends, self._constant_values()))

    def _constant_values(self) -> npt.NDArray[np.int64]:
        return np.array(list(self._constants), dtype=np.int64)
