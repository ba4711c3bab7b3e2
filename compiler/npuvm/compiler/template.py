"""Templates: the words of a program in which fields are open, and what fills them once the sizes are known.

An instance costs one call of a function of plain integers and a fixed number of array operations, whatever the sizes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.symint import Function, SymInt, compile_values
from npuvm.isa import Insn, Isa, RelocTable, encode
from npuvm.isa.image import ADDRESS_BITS

__all__ = ["Template", "TemplateWriter"]

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class _Field:
    """An open operand: bits of a word, and the values that it may take. `what` names it in errors."""

    word: int
    low_bit: int
    width: int
    low: int
    high: int
    value: SymInt
    what: str


class TemplateWriter:
    """Collects the instructions of a template."""

    def __init__(self, isa: Isa) -> None:
        self._isa = isa
        self._words: list[int] = []
        self._fields: list[_Field] = []
        self._relocs: list[tuple[int, int, int]] = []
        self._grids: list[int] = []

    def relocate(self, word: int, argument: int, addend: int) -> None:
        """Word number `word` of the next instruction takes the address of an argument plus `addend` bytes."""
        self._relocs.append((len(self._words) + word, argument, addend))

    def add(self, insn: Insn) -> None:
        """Append an instruction; operands that are SymInts stay open."""
        if insn.op == "grid":
            self._grids.append(len(self._words))
        open_args = {name: value for name, value in insn.args.items() if isinstance(value, SymInt)}
        if not open_args:
            self._words += encode(self._isa, insn)
            return
        spec = self._isa.instruction(insn.op)
        operands = {name: spec.operand(name) for name in open_args}
        closed = {name: max(operand.low, 0) for name, operand in operands.items()}
        start = len(self._words)
        self._words += encode(self._isa, replace(insn, args={**insn.args, **closed}))
        for name, operand in operands.items():
            bits = operand.bits
            self._words[start + bits.word] &= ~((1 << bits.width) - 1 << bits.low)
            self._fields.append(
                _Field(
                    start + bits.word,
                    bits.low,
                    bits.width,
                    operand.low,
                    operand.high,
                    open_args[name],
                    f"{insn.op}: operand {name}",
                )
            )

    def template(self, name: str, n_args: int, variables: Sequence[str]) -> Template:
        """The finished template."""
        fields = sorted(self._fields, key=lambda field: field.word)
        values: list[int] = [field.value for field in fields]
        addends = [addend for *_, addend in self._relocs]
        loose = any(isinstance(addend, SymInt) for addend in addends)
        return Template(
            name,
            self._isa.hash,
            np.array(self._words, dtype=np.uint64),
            tuple(fields),
            RelocTable(
                [word for word, *_ in self._relocs],
                [arg for _, arg, _ in self._relocs],
                [0 if loose else addend for addend in addends],
            ),
            n_args,
            tuple(self._grids),
            compile_values(variables, values + (addends if loose else []), "fields"),
            loose_addends=loose,
        )


class Template:
    """A program for all sizes of one structure. `function` gives the values of its fields, and of addends that are loose."""

    def __init__(
        self,
        name: str,
        isa_hash: str,
        words: Words,
        fields: Sequence[_Field],
        relocs: RelocTable,
        n_args: int,
        grids: tuple[int, ...],
        function: Function,
        *,
        loose_addends: bool,
    ) -> None:
        self.name = name
        self.isa_hash = isa_hash
        self.words = words
        self.relocs = relocs
        self.n_args = n_args
        self.grids = grids
        self._fields = fields
        self._function = function
        self._loose = loose_addends
        self._count = len(fields)
        numbers = np.array([each.word for each in fields], dtype=np.int64)
        self._where, self._starts = np.unique(numbers, return_index=True)
        self._base = words[self._where]
        self._shifts = np.array([each.low_bit for each in fields], dtype=np.uint64)
        self._masks = np.array([(1 << each.width) - 1 for each in fields], dtype=np.uint64)
        self._low = np.array([each.low for each in fields], dtype=np.int64)
        self._high = np.array([min(each.high, (1 << 63) - 1) for each in fields], dtype=np.int64)

    def instance(self, values: Sequence[int]) -> tuple[Words, RelocTable]:
        """Words and relocations for values of the variables; CompileError when one does not fit its field."""
        found = self._function(*values)
        fields, relocs = found, self.relocs
        words = self.words.copy()
        try:
            if self._loose:
                fields, relocs = found[: self._count], relocs.moved(found[self._count :])
            numbers = np.array(fields, dtype=np.int64)
        except OverflowError:
            self._refuse(found)
        if not self._count:
            return words, relocs
        if (numbers < self._low).any() or (numbers > self._high).any():
            self._refuse(found)
        bits = (numbers.view(np.uint64) & self._masks) << self._shifts
        words[self._where] = self._base | np.bitwise_or.reduceat(bits, self._starts)
        return words, relocs

    def _refuse(self, found: Sequence[int]) -> NoReturn:
        for field, value in zip(self._fields, found, strict=False):
            if not field.low <= value <= field.high:
                raise CompileError(f"{field.what} is {value}; allowed: {field.low} to {field.high}", self.name)
        farthest = max(found[self._count :], key=abs)
        raise CompileError(f"an offset of {farthest} bytes does not fit {ADDRESS_BITS} bits", self.name)
