"""Cuts what is reduced into chunks with the operations of `npuvm.compiler.reduce.family`, in the same order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.chunk_layout import CUT_DIM_WIDTH, Counted, CutInto, Cutting
from npuvm.compiler.native.compiling import ASKED, CHUNKS, FLOAT, FLOATS, INTS, ROWS, kernel, part
from npuvm.compiler.native.tile_kernel import MOST_TRIED, TOO_MANY, most_rows, search, spread, widest
from npuvm.compiler.native.tile_layout import Known
from npuvm.compiler.reduce.choice import HALVES, LEVELS, NO_SLOWER, SHORT
from npuvm.compiler.vector.choice import TALL
from npuvm.compiler.vector.levels import LANES

__all__ = ["choose_chunks"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_FIRST_DIM = Cutting.DIM.value


class _Found(NamedTuple):
    """Chunks with their tile for any number of cores: what numbers of chunks are compared by, the estimate, rows, columns."""

    least: float
    cycles: float
    rows: int
    cols: int
    number: int
    length: int
    edge: int


@part
def _longest(known: Ints, code: Ints, registers: Floats, sizes: Ints) -> tuple[int, int]:
    """`TileChooser.longest`"""
    row, total = known[Known.ROW], sizes[known[Known.COL]]
    if known[Known.IS_COL_REDUCED]:
        return widest(known, code, registers, min(known[Known.UNIT], sizes[row]) if row >= 0 else 1, total), 1
    cols = widest(known, code, registers, min(TALL, sizes[row]), total)
    return (most_rows(known, code, registers, sizes[row], cols), cols) if cols else (0, 0)


@part
def _aligned(edge: int, longest: int, is_column: bool) -> int:
    """The function of this name."""
    step = LANES if is_column or edge >= 4 * LANES else SHORT if edge >= 2 * SHORT else 1
    return min(-(-edge // step) * step, longest // step * step) if longest >= step else edge


@part
def _with_number(
    known: Ints,
    code: Ints,
    registers: Floats,
    cutting: Ints,
    cut: Ints,
    tried_cols: Ints,
    tried_rows: Ints,
    total: int,
    number: int,
    longest: int,
) -> _Found:
    """`ChunkChooser._with_number`; -1 for the estimate where a space has too many elements."""
    of, last = cutting[Cutting.CUT], known[Known.DIMS] - 1
    fewest = -(-total // (number * longest))
    found = _Found(np.inf, np.inf, 0, 0, 0, 0, 0)
    for each in range(HALVES):
        edge = _aligned(-(-total // (number * fewest * (1 << each))), longest, cutting[Cutting.IS_COLUMN] != 0)
        length = edge * -(-total // (number * edge))
        count = -(-total // length)
        if edge == found.edge or count < 2:
            break
        cut[of], cut[last] = length, count
        if spread(known, registers, cut) > TOO_MANY:
            return _Found(-1.0, np.inf, 0, 0, 0, 0, 0)
        cycles, rows, cols = search(known, code, registers, cut, tried_cols, tried_rows, known[Known.FAIR], edge)
        if not rows or cycles > NO_SLOWER * found.least:
            break
        found = _Found(min(cycles, found.least), cycles, rows, cols, count, length, edge)
    return found


@kernel(CHUNKS, INTS, ROWS, FLOATS, INTS, FLOAT, FLOAT, ASKED)
def choose_chunks(
    known: Ints, code: Ints, registers: Floats, cutting: Ints, joined: float, limit: float, sizes: Ints
) -> tuple[int, float, float, int, int, int, int, int]:
    """`ChunkChooser.choose` for the sizes of the space before it is cut, with the tile program of one that is cut.

    A `CutInto`, the estimate for any number of cores, that for the chip's, rows and columns of the tile for these, and the
    numbers of `Chunks`. `joined`: what each chunk costs those who join them.
    """
    of, col = cutting[Cutting.CUT], known[Known.COL]
    longest, width = _longest(known, code, registers, sizes)
    if not longest:
        return CutInto.NONE.value, np.inf, np.inf, 0, 0, 0, 0, 0
    units, of_each, several = 1, cutting[Cutting.BYTES], False
    for dim in range(len(sizes)):
        at = _FIRST_DIM + CUT_DIM_WIDTH * dim
        if cutting[at] == Counted.UNITS:
            units *= sizes[dim]
        elif cutting[at] == Counted.EACH:
            of_each *= sizes[dim]
        several = several or (cutting[at + 1] != 0 and sizes[dim] > 1)
    if not cutting[Cutting.IS_COLUMN]:
        units *= -(-sizes[col] // width)
        of_each *= width
    elif cutting[Cutting.HAS_HEIGHT]:
        height = min(known[Known.UNIT], sizes[known[Known.ROW]])
        units = -(-units // height)
        of_each *= height
    total = sizes[of]
    nbytes = total * of_each * units
    cut = np.empty(len(sizes) + 1, np.int64)
    cut[: len(sizes)] = sizes
    tried_cols, tried_rows = np.empty(MOST_TRIED, np.int64), np.empty(MOST_TRIED, np.int64)
    best, least, tried = _Found(np.inf, np.inf, 0, 0, 0, 0, 0), np.inf, 0
    for most, fewest in LEVELS:
        number = min(most // units, total)
        if number < 2 or nbytes < most * fewest:
            continue
        tried += 1
        found = _with_number(known, code, registers, cutting, cut, tried_cols, tried_rows, total, number, longest)
        if found.least < 0.0:
            return CutInto.TOO_LARGE.value, np.inf, np.inf, 0, 0, 0, 0, 0
        cycles = found.least + number * joined * several
        if cycles >= least:
            break
        best, least = found, cycles
    if not tried and (cutting[Cutting.IS_COLUMN] or width == sizes[col]):
        return CutInto.NEVER.value, np.inf, np.inf, 0, 0, 0, 0, 0
    if not best.number or best.cycles > limit:
        return CutInto.NEVER.value if best.number else CutInto.NONE.value, np.inf, np.inf, 0, 0, 0, 0, 0
    cycles, rows, cols = best.cycles, best.rows, best.cols
    if known[Known.CORES] != known[Known.FAIR]:
        cut[of], cut[len(sizes)] = best.length, best.number
        spread(known, registers, cut)
        cycles, rows, cols = search(known, code, registers, cut, tried_cols, tried_rows, known[Known.CORES], best.edge)
    return CutInto.CHUNKS.value, best.cycles, cycles, rows, cols, best.number, best.length, best.edge
