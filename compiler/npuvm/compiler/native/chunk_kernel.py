"""Cuts what is reduced into chunks with the operations of `npuvm.compiler.reduce.family`, in the same order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.chunk_layout import CUT_DIM_WIDTH, Counted, CutInto, Cutting, Decided, Joint, JointRate
from npuvm.compiler.native.code import CodeRows
from npuvm.compiler.native.compiling import ASKED, CHUNKS, CODE, FLOAT, FLOATS, INTS, REDUCE, TABLE, kernel, part
from npuvm.compiler.native.tile_kernel import MOST_TRIED, Program, most_rows, of_fair, search, spread, way, widest
from npuvm.compiler.native.tile_layout import Known, Result
from npuvm.compiler.reduce.choice import HALVES, LEVELS, NO_SLOWER, SHORT
from npuvm.compiler.vector.choice import TALL
from npuvm.compiler.vector.levels import LANES

__all__ = ["choose_chunks", "choose_reduce"]

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
def _longest(program: Program, sizes: Ints) -> tuple[int, int]:
    """`TileChooser.longest`"""
    known, code, registers = program.known, program.code, program.registers
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
def _with_number(program: Program, cutting: Ints, cut: Ints, total: int, number: int, longest: int) -> _Found:
    """`ChunkChooser._with_number`; -1 for what is compared where a space has too many elements."""
    of, last = cutting[Cutting.CUT], program.known[Known.DIMS] - 1
    fewest = -(-total // (number * longest))
    found = _Found(np.inf, np.inf, 0, 0, 0, 0, 0)
    for each in range(HALVES):
        edge = _aligned(-(-total // (number * fewest * (1 << each))), longest, cutting[Cutting.IS_COLUMN] != 0)
        length = edge * -(-total // (number * edge))
        count = -(-total // length)
        if edge == found.edge or count < 2:
            break
        cut[of], cut[last] = length, count
        if not spread(program, cut):
            return _Found(-1.0, np.inf, 0, 0, 0, 0, 0)
        cycles, rows, cols = search(program, cut, program.known[Known.FAIR], edge)
        if not rows or cycles > NO_SLOWER * found.least:
            break
        found = _Found(min(cycles, found.least), cycles, rows, cols, count, length, edge)
    return found


@part
def _chunks(
    program: Program, cutting: Ints, cut: Ints, joined: float, limit: float, sizes: Ints
) -> tuple[int, float, float, int, int, int, int, int]:
    """See `choose_chunks`; `cut` has room for the sizes of the space that is cut."""
    known, dims = program.known, len(cut) - 1
    of, col = cutting[Cutting.CUT], known[Known.COL]
    longest, width = _longest(program, sizes)
    if not longest:
        return CutInto.NONE.value, np.inf, np.inf, 0, 0, 0, 0, 0
    units, of_each, several = 1, cutting[Cutting.BYTES], False
    for dim in range(dims):
        at = _FIRST_DIM + CUT_DIM_WIDTH * dim
        if cutting[at] == Counted.UNITS:
            units *= sizes[dim]
        elif cutting[at] == Counted.EACH:
            of_each *= sizes[dim]
        several = several or (cutting[at + 1] != 0 and sizes[dim] > 1)
        cut[dim] = sizes[dim]
    if not cutting[Cutting.IS_COLUMN]:
        units *= -(-sizes[col] // width)
        of_each *= width
    elif cutting[Cutting.HAS_HEIGHT]:
        height = min(known[Known.UNIT], sizes[known[Known.ROW]])
        units = -(-units // height)
        of_each *= height
    total = sizes[of]
    nbytes = total * of_each * units
    best, least, tried = _Found(np.inf, np.inf, 0, 0, 0, 0, 0), np.inf, 0
    for most, fewest in LEVELS:
        number = min(most // units, total)
        if number < 2 or nbytes < most * fewest:
            continue
        tried += 1
        found = _with_number(program, cutting, cut, total, number, longest)
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
    cut[of], cut[dims] = best.length, best.number
    spread(program, cut)
    cycles, rows, cols = of_fair(program, cut, best.cycles, best.rows, best.cols, best.edge)
    return CutInto.CHUNKS.value, best.cycles, cycles, rows, cols, best.number, best.length, best.edge


@kernel(CHUNKS, INTS, CODE, FLOATS, TABLE, INTS, FLOAT, FLOAT, ASKED)
def choose_chunks(
    known: Ints,
    code: CodeRows,
    registers: Floats,
    lanes: Floats,
    cutting: Ints,
    joined: float,
    limit: float,
    sizes: Ints,
) -> tuple[int, float, float, int, int, int, int, int]:
    """`ChunkChooser.choose` for the sizes of the space before it is cut, with the tile program of one that is cut.

    A `CutInto`, the estimate for any number of cores, that for the chip's, rows and columns of the tile for these, and the
    numbers of `Chunks`. `joined`: what each chunk costs those who join them.
    """
    tried, cut = np.empty((2, MOST_TRIED), np.int64), np.empty(len(sizes) + 1, np.int64)
    program = Program(known, code, registers, lanes, tried[0], tried[1])
    return _chunks(program, cutting, cut, joined, limit, sizes)


@kernel(REDUCE, INTS, CODE, FLOATS, TABLE, INTS, FLOATS, FLOAT, ASKED)
def choose_reduce(
    known: Ints,
    code: CodeRows,
    registers: Floats,
    lanes: Floats,
    cutting: Ints,
    rates: Floats,
    bound: float,
    asked: Ints,
) -> tuple[int, int, float, float, int, int, float, float, int, int, int, int, int, int, float, float, int, int]:
    """`ReduceFamily.planned` of a segment whose chunks one segment joins, all of it; the numbers of `Joint` begin `known`.

    `asked` are the sizes of the segment, of its chunks before it is cut, and of what joins them. Below the `bound` no parts are
    looked for. A `Decided`, what `choose_way` gives for the segment, what `choose_chunks` gives but its first number, and what
    `choose_way` gives for the join.
    """
    tried = np.empty((2, MOST_TRIED), np.int64)
    cols, rows = tried[0], tried[1]
    whole = Program(known[known[Joint.WHOLE] :], code, registers, lanes, cols, rows)
    other = Program(known[known[Joint.WHOLE + 1] :], code, registers, lanes, cols, rows)
    part_of = Program(known[known[Joint.CHUNKS] :], code, registers, lanes, cols, rows)
    after = Program(known[known[Joint.JOIN] :], code, registers, lanes, cols, rows)
    beside = Program(known[known[Joint.JOIN + 1] :], code, registers, lanes, cols, rows)
    one = way(whole, other, known[Joint.WAYS], asked)
    decided, none = Decided.ONE.value, (np.inf, np.inf, 0, 0, 0, 0, 0)
    if one[0] != Result.FOUND and one[0] != Result.SECOND:
        return (Decided.UNKNOWN.value, *one, *none, *one)
    if one[1] < bound:
        return (decided, *one, *none, *one)
    first, dims = known[Joint.SIZES], part_of.known[Known.DIMS]
    sizes, cut = asked[first : first + dims - 1], np.empty(dims, np.int64)
    limit = one[1] / rates[JointRate.LIMIT] - rates[JointRate.JOINS]
    found = _chunks(part_of, cutting, cut, rates[JointRate.JOINED], limit, sizes)
    if found[0] != CutInto.CHUNKS:
        decided = Decided.ONE.value if found[0] == CutInto.NEVER else Decided.UNKNOWN.value
        return (decided, *one, *none, *one)
    join_sizes = asked[first + dims - 1 :].copy()
    join_sizes[known[Joint.NUMBER]] = found[5]
    join = way(after, beside, known[Joint.JOIN_WAYS], join_sizes)
    if join[0] != Result.FOUND and join[0] != Result.SECOND:
        return (Decided.UNKNOWN.value, *one, *none, *one)
    cycles = found[1] + (join[1] + rates[JointRate.JOINS])
    if rates[JointRate.WORTH] * cycles <= one[1]:
        decided = Decided.PARTS.value
    return (decided, *one, *found[1:], *join)
