"""Templates: the words of a program in which fields are open, and what fills them once the sizes are known.

An instance costs one call of a function of plain integers and a fixed number of array operations, whatever the sizes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from struct import Struct
from struct import error as StructError
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.errors import CompileError
from npuvm.compiler.native.field_layout import Field
from npuvm.compiler.native.loading import Native, loaded
from npuvm.isa import Insn, Isa, RelocTable, encode
from npuvm.isa.image import ADDRESS_BITS

__all__ = ["Template", "TemplateWriter"]

Words = npt.NDArray[np.uint64]


class _Place(NamedTuple):
    """Bits of an operand in the words of an instruction, and the values that it may take. `what` names it in errors."""

    word: int
    low_bit: int
    width: int
    low: int
    high: int
    what: str


class _Field(NamedTuple):
    """An open operand of the instruction that begins at word `start`."""

    start: int
    place: _Place
    value: SymInt

    @property
    def word(self) -> int:
        """The word that it is a part of."""
        return self.start + self.place.word


_ENCODED: dict[tuple[object, ...], tuple[list[int], tuple[_Place, ...]]] = {}
"""Words of instructions, and their open operands: templates repeat most of their instructions."""
_MOST_ENCODED = 1 << 14


def _encoded(isa: Isa, insn: Insn, names: Sequence[str]) -> tuple[list[int], tuple[_Place, ...]]:
    """Words of an instruction whose operands `names` are open, and where these lie in them."""
    spec = isa.instruction(insn.op)
    operands = [spec.operand(name) for name in names]
    closed = {operand.name: max(operand.low, 0) for operand in operands}
    words = encode(isa, replace(insn, args={**insn.args, **closed}))
    places = []
    for operand in operands:
        bits = operand.bits
        words[bits.word] &= ~((1 << bits.width) - 1 << bits.low)
        what = f"{insn.op}: operand {operand.name}"
        places.append(_Place(bits.word, bits.low, bits.width, operand.low, operand.high, what))
    return words, tuple(places)


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
        names = [name for name, value in insn.args.items() if isinstance(value, SymInt)]
        known = tuple([None if isinstance(value, SymInt) else value for value in insn.args.values()])
        key = (
            *(self._isa.hash, insn.op, insn.dtype, insn.dtype2, tuple(insn.args), known),
            *(insn.wait, insn.set, insn.pred, insn.order),
        )
        found = _ENCODED.get(key)
        if found is None:
            if len(_ENCODED) >= _MOST_ENCODED:
                _ENCODED.clear()
            found = _ENCODED[key] = _encoded(self._isa, insn, names)
        words, places = found
        start = len(self._words)
        self._words += words
        for name, place in zip(names, places, strict=True):
            value = insn.args[name]
            assert isinstance(value, SymInt)
            self._fields.append(_Field(start, place, value))

    def begin(self) -> int:
        """The number of the word with which the next program begins; those of several programs share a template."""
        return len(self._words)

    def template(self, name: str, n_args: int, variables: Sequence[str]) -> Template:
        """The finished template."""
        fields = sorted(self._fields, key=lambda field: field.word)
        addends = [addend for *_, addend in self._relocs]
        loose = any(isinstance(addend, SymInt) for addend in addends)
        # Most values are those of several fields.
        values: dict[int, int] = {}
        which = [values.setdefault(field.value, len(values)) for field in fields]
        moved: dict[int, int] = {}
        where = [moved.setdefault(addend, len(moved)) for addend in (addends if loose else ())]
        return Template(
            name,
            self._isa.hash,
            np.array(self._words, dtype=np.uint64),
            tuple(fields),
            which,
            RelocTable(
                [word for word, *_ in self._relocs],
                [arg for _, arg, _ in self._relocs],
                [0 if loose else addend for addend in addends],
            ),
            where,
            n_args,
            tuple(self._grids),
            compile_values(variables, (*values, *moved), "fields"),
        )


class Template:
    """A program for all sizes of one structure.

    `function` gives the values of its fields, and of the addends of its relocations where these are not known; `which` and
    `where` say which of them is that of each field, and of each relocation. `where` is empty where addends are known.
    """

    def __init__(
        self,
        name: str,
        isa_hash: str,
        words: Words,
        fields: Sequence[_Field],
        which: Sequence[int],
        relocs: RelocTable,
        where: Sequence[int],
        n_args: int,
        grids: tuple[int, ...],
        function: Function,
    ) -> None:
        self.name = name
        self.isa_hash = isa_hash
        self.words = words
        self.relocs = relocs
        self.n_args = n_args
        self.grids = grids
        self._fields = fields
        self._function = function
        self._count = max(which, default=-1) + 1
        # Takes half the time of an array of a tuple.
        self._packed = Struct(f"={self._count + max(where, default=-1) + 1}q").pack
        self._which = np.array(which, dtype=np.int64)
        self._moved = np.array(where, dtype=np.int64)
        self._loose = len(where) > 0
        numbers = np.array([each.word for each in fields], dtype=np.int64)
        self._where, self._starts = np.unique(numbers, return_index=True)
        self._base = words[self._where]
        places = [each.place for each in fields]
        self._shifts = np.array([each.low_bit for each in places], dtype=np.uint64)
        # Numbers that fit their fields need no mask where they have no sign.
        self._masks = (
            np.array([(1 << each.width) - 1 for each in places], dtype=np.uint64)
            if any(each.low < 0 for each in places)
            else None
        )
        low, high = [-(1 << 63)] * self._count, [(1 << 63) - 1] * self._count
        for at, place in zip(which, places, strict=True):
            low[at], high[at] = max(low[at], place.low), min(high[at], place.high)
        self._low = np.array(low, dtype=np.int64)
        # In unsigned numbers, in which what is too low is too high.
        self._spans = np.array([most - least for least, most in zip(low, high, strict=True)], dtype=np.uint64)
        native = loaded()
        self._fill = None if native is None else partial(_filled, native, _field_table(fields, which, low, high))

    def instance(self, values: Sequence[int]) -> tuple[Words, RelocTable]:
        """Words and relocations for values of the variables; CompileError when one does not fit its field."""
        found = self._function(*values)
        relocs = self.relocs
        words = self.words.copy()
        try:
            numbers = np.frombuffer(self._packed(*found), dtype=np.int64)
        except StructError:
            self._refuse(found)
        if self._loose:
            relocs = RelocTable.joined(relocs.words, relocs.args, numbers[self._count :][self._moved])
            numbers = numbers[: self._count]
        if not self._count:
            return words, relocs
        if self._fill is not None:
            if not self._fill(words, numbers):
                self._refuse(found)
            return words, relocs
        if np.count_nonzero((numbers - self._low).view(np.uint64) > self._spans):
            self._refuse(found)
        bits = numbers.view(np.uint64)[self._which]
        if self._masks is not None:
            bits &= self._masks
        bits <<= self._shifts
        words[self._where] = self._base | np.bitwise_or.reduceat(bits, self._starts)
        return words, relocs

    def _refuse(self, found: Sequence[int]) -> NoReturn:
        for field, at in zip(self._fields, self._which.tolist(), strict=True):
            place, value = field.place, found[at]
            if not place.low <= value <= place.high:
                raise CompileError(f"{place.what} is {value}; allowed: {place.low} to {place.high}", self.name)
        farthest = max(found[self._count :], key=abs)
        raise CompileError(f"an offset of {farthest} bytes does not fit {ADDRESS_BITS} bits", self.name)


def _field_table(
    fields: Sequence[_Field], which: Sequence[int], low: Sequence[int], high: Sequence[int]
) -> npt.NDArray[np.int64]:
    """What machine code reads of fields, a row for each; see `npuvm.compiler.native.field_layout`."""
    rows = [
        (each.word, at, each.place.low_bit, (1 << each.place.width) - 1, low[at], high[at])
        for each, at in zip(fields, which, strict=True)
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, len(Field))


def _filled(native: Native, table: npt.NDArray[np.int64], words: Words, numbers: npt.NDArray[np.int64]) -> bool:
    return native.fill(words.view(np.int64), numbers, table)
