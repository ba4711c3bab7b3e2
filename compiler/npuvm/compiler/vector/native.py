"""The choice of a vector segment's tile by machine code; see `npuvm.compiler.native`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from enum import Enum
from struct import Struct
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.code import AT_ONCE, CodeRows, CodeWriter, Op
from npuvm.compiler.native.loading import Native
from npuvm.compiler.native.tile_layout import DIM_WIDTH, GIVEN, Known, Result
from npuvm.compiler.tiles.formula_terms import variable
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.cost import TileCost
from npuvm.compiler.vector.space import Space

__all__ = ["MOST", "TOO_LARGE", "NativeSearch", "NativeWays", "lanes_of", "linked"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST = 1 << 30
"""Sizes from here on are for Python, whose integers have no end."""


class _Refusal(Enum):
    TOO_LARGE = 0


TOO_LARGE: Final = _Refusal.TOO_LARGE
"""Says that machine code does not search among tiles for these sizes."""


class NativeSearch:
    """Chooses as `TileChooser` does for a space; `known` are the integers of `Known` but those of code."""

    def __init__(self, native: Native, known: Sequence[int], cost: TileCost, storage: Storage) -> None:
        self.native = native
        self._kernel = native.choose_tile
        numbers = list(known)
        dims = numbers[Known.DIMS]
        self._pack = Struct(f"={GIVEN + dims}q").pack
        writer = CodeWriter()
        names, value = cost.terms()
        for name, number in zip(names[1 + dims :], cost.numbers, strict=True):
            writer.variable(name, number)
        early, late, (result,) = writer.add(["rows", "cols"], [value])
        nothing, ub_late, (ub,) = writer.add(["rows", "cols"], [storage.nbytes(variable("rows"), variable("cols"))])
        assert nothing.start == nothing.stop, "bytes depend on rows and columns alone"
        numbers[Known.EARLY : Known.EARLY + 2], numbers[Known.LATE : Known.LATE + 2] = early, late
        numbers[Known.UB_LATE : Known.UB_LATE + 2] = ub_late
        numbers[Known.OUT], numbers[Known.OUT_UB] = result, ub
        inputs = [writer.variable(each) for each in ("cores", "rows", "cols")]
        numbers[Known.IN_CORES : Known.IN_CORES + 3] = inputs
        for dim in range(dims):
            numbers[Known.DIM + DIM_WIDTH * dim] = writer.variable(f"s{dim}")
        self.dims = dims
        self.known = np.array(numbers, dtype=np.int64)
        self.code, self.registers = writer.code()
        assert not np.any(self.code[:, 0] >= Op.SECOND), "lanes have operations of up to three inputs"
        self.lanes = lanes_of(self.registers)

    @staticmethod
    def of(
        native: Native,
        space: Space,
        cost: TileCost,
        storage: Storage,
        unit: int,
        grown: Mapping[int, int],
        capacity: int,
        crowded: bool,
        cores: tuple[int, int, int],
    ) -> NativeSearch:
        """The search of all tile programs that are alike in what they choose by.

        `unit` are the rows of a block, `grown` by columns the most rows of the tiles that were grown, `capacity` the bytes of
        UB; `crowded` where rows are more than all that is read has; `cores` are the chip's, those that main memory feeds, and
        those that ways are compared for.
        """
        known = _known(space, unit, grown, capacity, crowded, cores)
        key = native.label, tuple(known), cost.form, cost.numbers, storage.form
        found = _MADE.get(key)
        if found is None:
            if len(_MADE) == _KEPT:
                _MADE.clear()
            found = _MADE[key] = NativeSearch(native, known, cost, storage)
        return found

    def choose(
        self, sizes: Sequence[int], cores: int, edge: int
    ) -> tuple[float, int, int] | Literal[_Refusal.TOO_LARGE] | None:
        """Cycles, rows and columns of `TileChooser.choose`; None where no tile fits."""
        if max(sizes) >= MOST:
            return TOO_LARGE
        asked = np.frombuffer(self._pack(cores, edge, *sizes), dtype=np.int64)
        result, cycles, rows, cols = self._kernel(self.known, self.code, self.registers, self.lanes, asked)
        if result == Result.FOUND:
            return cycles, rows, cols
        return None if result == Result.NONE else TOO_LARGE


def lanes_of(registers: Floats) -> Floats:
    """Registers for several inputs at once."""
    return np.repeat(registers[:, np.newaxis], AT_ONCE, axis=1)


def linked(searches: Sequence[NativeSearch]) -> tuple[list[Ints], CodeRows, Floats]:
    """What `known` is for each of them where all have one code and one set of registers, and these."""
    known, codes, registers, rows, first = [], [], [], 0, 0
    for each in searches:
        numbers, code = each.known.copy(), each.code.copy()
        numbers[Known.EARLY : Known.IN_CORES] += rows
        numbers[Known.IN_CORES : Known.CORES] += first
        dims = slice(Known.DIM, Known.DIM + DIM_WIDTH * each.dims, DIM_WIDTH)
        numbers[dims] += first
        code[:, 1:] += first
        known.append(numbers)
        codes.append(code)
        registers.append(each.registers)
        rows, first = rows + len(code), first + len(each.registers)
    return known, np.concatenate(codes), np.concatenate(registers)


class NativeWays:
    """The choice between a way that walks what is reduced, and one that has it whole: that of `vector.family.Rows`."""

    def __init__(self, walked: NativeSearch, whole: NativeSearch) -> None:
        self._kernel = walked.native.choose_way
        known, code, registers = linked((walked, whole))
        self._arguments = *known, code, registers, lanes_of(registers)
        self._pack = Struct(f"={walked.dims}q").pack

    @staticmethod
    def of(searches: Sequence[NativeSearch | None]) -> NativeWays | None:
        """The choice between both; None where there is a single way, or no machine code."""
        if len(searches) == 1:
            return None
        walked, whole = searches
        return NativeWays(walked, whole) if walked is not None and whole is not None else None

    def choose(self, sizes: Sequence[int]) -> tuple[int, float, float, int, int] | None:
        """Which way, its estimate for any number of cores and for the chip's, rows and columns of its tile.

        None for what is left to Python: sizes without end, and tiles of the first way that do not fit.
        """
        if max(sizes) >= MOST:
            return None
        found: tuple[int, float, float, int, int]
        found = self._kernel(*self._arguments, np.frombuffer(self._pack(*sizes), dtype=np.int64))
        return found if found[0] in _WAYS else None


_WAYS = {int(Result.FOUND), int(Result.SECOND)}

_MADE: dict[Hashable, NativeSearch] = {}
_KEPT = 256


def _known(
    space: Space, unit: int, grown: Mapping[int, int], capacity: int, crowded: bool, cores: tuple[int, int, int]
) -> list[int]:
    """Integers of `Known`; what belongs to code is written later."""
    known = [0] * Known.DIM
    row = space.row
    known[Known.ROW], known[Known.COL] = -1 if row is None else row, space.col
    known[Known.IS_ROW_REDUCED] = row is not None and space.reduced[row]
    known[Known.IS_COL_REDUCED], known[Known.IS_WHOLE] = space.reduced[space.col], space.whole
    known[Known.IS_CROWDED], known[Known.UNIT], known[Known.CAPACITY] = crowded, unit, capacity
    known[Known.CORES : Known.CORES + 3] = cores
    known[Known.DIMS], known[Known.GROWN] = len(space.reduced), len(grown)
    for dim, is_reduced in enumerate(space.reduced):
        known += [0, dim in space.others and not is_reduced]
    for cols, rows in grown.items():
        known += [cols, rows]
    return known
