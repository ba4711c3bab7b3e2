"""Instructions that the vector unit needs besides those of operations: copies, fills, spreads, joins and reductions.

They too are found by what they compute, never by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from npuvm.compiler.emit.symint import SymInt, float_bits
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.selection.patterns import Pattern, pattern_table, uncast
from npuvm.compiler.selection.terms import Apply, Immediate, Leaf
from npuvm.isa import Isa

__all__ = ["Selector", "carried", "immediate_bits"]


@dataclass(frozen=True)
class Selector:
    """Vector instructions of an instruction set; CompileError when none does what is asked."""

    isa: Isa

    def copy(self, dtype: str) -> Pattern:
        """dst = a. Like `spread` and `fill` it may be an instruction of another type of the same size: bits are moved."""
        return self._move(dtype, "a copy", lambda found: isinstance(found.term, Leaf) and not found.columns)

    def spread(self, dtype: str) -> Pattern:
        """dst = a, where a has one element for each row."""
        return self._move(dtype, "a column in all columns", lambda found: bool(found.columns))

    def fill(self, dtype: str) -> Pattern:
        """dst = an immediate."""
        return self._move(dtype, "a constant tile", lambda found: isinstance(uncast(found.term), Immediate))

    def join(self, op: str, dtype: str) -> Pattern:
        """dst = a op b, of two tiles."""
        candidates = (each for found in pattern_table(self.isa).operations.values() for each in found)
        return self._first(candidates, dtype, op, lambda found: _joins(found, op))

    def reduce(self, op: str, dtype: str, axis: str) -> Pattern:
        """dst = reduction of the rows (axis "last") or of the columns ("first") of a tile."""
        found = pattern_table(self.isa).reduces.get((op, axis, dtype), ())
        return self._first(found, dtype, f"{op} over the {axis} axis", _reduces_a_tile)

    def _move(self, dtype: str, what: str, fits: Callable[[Pattern], bool]) -> Pattern:
        carriers = [each.name for each in DTYPES.values() if each.item_bytes == DTYPES[dtype].item_bytes]
        for carrier in (dtype, *carriers):
            for pattern in pattern_table(self.isa).moves:
                if pattern.dtypes[0] == carrier and fits(pattern):
                    return pattern
        raise CompileError(f"the instruction set has no instruction for {what} of {dtype}")

    def _first(self, found: Iterable[Pattern], dtype: str, what: str, fits: Callable[[Pattern], bool]) -> Pattern:
        for pattern in found:
            if pattern.result == dtype and pattern.dtypes[0] == dtype and fits(pattern):
                return pattern
        raise CompileError(f"the instruction set has no instruction for {what} of {dtype}")


def _joins(pattern: Pattern, op: str) -> bool:
    term = uncast(pattern.term)
    if pattern.columns:
        return False
    tiles = isinstance(term, Apply) and [isinstance(uncast(each), Leaf) for each in term.args] == [True, True]
    return isinstance(term, Apply) and term.op == op and tiles and len(pattern.tiles) == 2


def _reduces_a_tile(pattern: Pattern) -> bool:
    term = uncast(pattern.term)
    return isinstance(term, Apply) and isinstance(uncast(term.args[0]), Leaf)


def carried(value: float | int | bool, dtype: str, carrier: str) -> float | int | bool:
    """The number of type `carrier` that has the bits of a number of type `dtype`; both are of one size."""
    if carrier == dtype:
        return value
    if isinstance(value, SymInt):
        raise CompileError(f"a size that is not known yet has no {carrier} with the bits of its {dtype}")
    result: float | int | bool = np.asarray(value).astype(DTYPES[dtype].numpy).view(DTYPES[carrier].numpy).item()
    return result


def immediate_bits(value: float | int | bool, dtype: str) -> int:
    """The 32-bit pattern of an immediate: fp32 for float dtypes (rounded to the dtype first), two's complement, or 0 and 1."""
    if DTYPES[dtype].kind == "float":
        return float_bits(value, dtype)
    return value % (1 << 32) if isinstance(value, SymInt) else int(value) & 0xFFFFFFFF
