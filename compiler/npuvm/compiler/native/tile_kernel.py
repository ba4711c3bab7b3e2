"""Chooses tiles of vector segments with the operations of `npuvm.compiler.vector.choice`, in the same order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.code import AT_ONCE, CodeRows
from npuvm.compiler.native.compiling import ASKED, CODE, FLOATS, INTS, TABLE, TILE, WAY, kernel, part
from npuvm.compiler.native.run import run_code, run_lanes
from npuvm.compiler.native.tile_layout import DIM_WIDTH, GIVEN, Known, Result
from npuvm.compiler.vector.choice import ALL_ROWS, HALVES, LINES, LONG, MANY, PATIENCE, STEPS, WAVES
from npuvm.compiler.vector.levels import LANES

__all__ = [
    "MOST_TRIED", "Program", "choose_tile", "choose_way", "most_rows", "of_fair", "search", "spread", "way", "widest",
]  # fmt: skip

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Table = npt.NDArray[np.float64]

MOST_TRIED = 16
"""Candidates along a dim."""

_MOST_ELEMENTS = float(1 << 44)
"""Elements of a space beyond which numbers of an estimate may not be exact."""

_FIRST_DIM = Known.DIM.value


@part
def _bytes(known: Ints, code: CodeRows, registers: Floats, rows: int, cols: int) -> float:
    registers[known[Known.IN_ROWS]] = rows
    registers[known[Known.IN_COLS]] = cols
    run_code(code, registers, known[Known.UB_LATE], known[Known.UB_LATE + 1])
    return registers[known[Known.OUT_UB]]


@part
def _fits(known: Ints, code: CodeRows, registers: Floats, rows: int, cols: int) -> bool:
    return _bytes(known, code, registers, rows, cols) <= known[Known.CAPACITY]


@part
def _lanes_from(known: Ints, code: CodeRows, registers: Floats, rows: int, lanes: int) -> int:
    """`TileChooser._lanes_from`"""
    while lanes > 1 and not _fits(known, code, registers, rows, lanes * LANES):
        lanes -= max(1, lanes // 64)
    return lanes


@part
def widest(known: Ints, code: CodeRows, registers: Floats, rows: int, total: int) -> int:
    """`TileChooser._widest`"""
    if _fits(known, code, registers, rows, total):
        return total
    room = known[Known.CAPACITY]
    base = _bytes(known, code, registers, rows, LANES)
    if base > room:
        cols = LANES
        while cols and not _fits(known, code, registers, rows, cols):
            cols //= 2
        return cols
    slope = (_bytes(known, code, registers, rows, 65 * LANES) - base) / 64
    start = 1 + int((room - base) / slope)
    return _lanes_from(known, code, registers, rows, min(start, total // LANES)) * LANES


@part
def _highest(known: Ints, code: CodeRows, registers: Floats, cols: int) -> int:
    """`TileChooser._highest`"""
    low, room = 1, known[Known.CAPACITY]
    grown = _FIRST_DIM + DIM_WIDTH * known[Known.DIMS]
    for each in range(known[Known.GROWN]):
        if known[grown + 2 * each] >= cols:
            low = known[grown + 2 * each + 1]
            break
    least = _bytes(known, code, registers, low, cols)
    if least > room:
        return 0
    slope = (_bytes(known, code, registers, low + MANY, cols) - least) / MANY
    if slope == 0.0:
        return ALL_ROWS
    rows = low + int((room - least) / slope) + 1
    while rows > low and not _fits(known, code, registers, rows, cols):
        rows -= max(1, rows // 256)
    return rows


@part
def most_rows(known: Ints, code: CodeRows, registers: Floats, total: int, cols: int) -> int:
    """`TileChooser._most_rows`"""
    lanes = cols if cols < LANES and not known[Known.IS_ROW_REDUCED] else -(-cols // LANES) * LANES
    most = _highest(known, code, registers, lanes)
    if not most:
        most = _highest(known, code, registers, cols)
    return min(total, most)


@part
def _steps(tried: Ints, most: int) -> int:
    """The most and all steps below it; how many they are."""
    tried[0] = most
    count = 1
    for step in STEPS:
        if step < most:
            tried[count] = step
            count += 1
    return count


@part
def _cols(
    known: Ints,
    code: CodeRows,
    registers: Floats,
    tried: Ints,
    total_rows: int,
    total: int,
    kept: int,
    cores: int,
    edge: int,
) -> int:
    """`TileChooser._col_candidates`, written to `tried`; how many they are."""
    is_row_reduced, is_col_reduced = known[Known.IS_ROW_REDUCED] != 0, known[Known.IS_COL_REDUCED] != 0
    is_whole = known[Known.IS_WHOLE] != 0
    least_rows = total_rows if is_whole and is_row_reduced else min(known[Known.UNIT], total_rows)
    if edge and is_row_reduced:
        least_rows = edge
    elif edge:
        tried[0] = edge
        return 1
    if is_whole and is_col_reduced:
        tried[0] = total
        return 1 if _fits(known, code, registers, least_rows if is_row_reduced else 1, total) else 0
    room = widest(known, code, registers, least_rows, total)
    if not room:
        return 0
    if is_col_reduced:
        return _steps(tried, room)
    tiles = kept if is_row_reduced or known[Known.ROW] < 0 else kept * total_rows
    fewest = -(-total // room)
    count = last = 0
    for waves in HALVES:
        even = waves * cores // tiles if is_row_reduced else -(-waves * cores // tiles)
        parts = max(even, fewest * waves)
        size = -(-total // parts)
        step = LANES if size < LONG else LINES
        wide = min(room, -(-size // step) * step)
        is_least = wide <= LANES
        if is_row_reduced:
            while wide > 2 and total % wide == 1:
                wide -= 8 if wide > 8 else 1
        if wide != last:
            tried[count] = wide
            count += 1
        if is_least:
            break
        last = wide
    return count


@part
def _rows(
    known: Ints,
    code: CodeRows,
    registers: Floats,
    tried: Ints,
    total: int,
    total_cols: int,
    kept: int,
    cols: int,
    cores: int,
) -> int:
    """`TileChooser._row_candidates`, written to `tried`; how many they are."""
    most = most_rows(known, code, registers, total, cols)
    if not most:
        return 0
    if known[Known.IS_ROW_REDUCED]:
        return _steps(tried, most)
    tiles = kept if known[Known.IS_COL_REDUCED] else kept * -(-total_cols // cols)
    unit = known[Known.UNIT] if most >= known[Known.UNIT] else 1
    count = last = 0
    for at, waves in enumerate(WAVES):
        if at == 0 and not known[Known.IS_CROWDED]:
            continue
        parts = max(int(waves * cores) // tiles, -(-total // most), 1)
        rows = -(-total // parts)
        if unit > 1:
            rows = min(-(-rows // unit) * unit, total, most // unit * unit)
        if rows != last:
            tried[count] = rows
            count += 1
        if rows <= unit:
            break
        last = rows
    return count


class Program(NamedTuple):
    """What is known of a tile program, its formulas with registers of one number and of several, and room for candidates."""

    known: Ints
    code: CodeRows
    registers: Floats
    lanes: Table
    cols: Ints
    rows: Ints


@part
def spread(program: Program, sizes: Ints) -> bool:
    """Put the sizes into their registers; whether estimates for so many elements are exact."""
    known, elements = program.known, 1.0
    for dim in range(known[Known.DIMS]):
        _fill(program, known[_FIRST_DIM + DIM_WIDTH * dim], sizes[dim])
        elements *= sizes[dim]
    return elements <= _MOST_ELEMENTS


@part
def _fill(program: Program, register: int, number: int) -> None:
    for lane in range(AT_ONCE):
        program.lanes[register, lane] = number


@part
def _estimate(program: Program, into: int, tried: Ints, at: int, count: int) -> float:
    """The estimate for candidate `at`, a number for this register; asked for one after the other they are made some at once."""
    known, lanes = program.known, program.lanes
    lane = at % AT_ONCE
    if lane == 0:
        for each in range(AT_ONCE):
            lanes[into, each] = tried[min(at + each, count - 1)]
        run_lanes(program.code, lanes, known[Known.LATE], known[Known.LATE + 1])
    return lanes[known[Known.OUT], lane]


@part
def search(program: Program, sizes: Ints, cores: int, edge: int) -> tuple[float, int, int]:
    """`TileChooser._searched` for sizes that are in their registers: the estimate, rows and columns; no rows without a tile."""
    known, code, registers = program.known, program.code, program.registers
    kept = 1
    for dim in range(known[Known.DIMS]):
        if known[_FIRST_DIM + DIM_WIDTH * dim + 1]:
            kept *= sizes[dim]
    _fill(program, known[Known.IN_CORES], cores)
    run_lanes(code, program.lanes, known[Known.EARLY], known[Known.EARLY + 1])
    total_rows = sizes[known[Known.ROW]] if known[Known.ROW] >= 0 else 1
    total_cols = sizes[known[Known.COL]]
    in_rows, in_cols, own = known[Known.IN_ROWS], known[Known.IN_COLS], 0
    if known[Known.IS_ROW_REDUCED] and (edge or known[Known.IS_WHOLE]):
        own = edge or total_rows
        _fill(program, in_rows, own)
    best_cycles, best_rows, best_cols, worse = np.inf, 0, 0, 0
    widths = _cols(known, code, registers, program.cols, total_rows, total_cols, kept, cores, edge)
    for at in range(widths):
        wide = program.cols[at]
        least, high = np.inf, 0
        if own:
            least, high = _estimate(program, in_cols, program.cols, at, widths), own
        else:
            _fill(program, in_cols, wide)
            count = _rows(known, code, registers, program.rows, total_rows, total_cols, kept, wide, cores)
            for each in range(count):
                estimate = _estimate(program, in_rows, program.rows, each, count)
                if estimate >= least:
                    break
                least, high = estimate, program.rows[each]
        if not high:
            continue
        if least < best_cycles:
            best_cycles, best_rows, best_cols, worse = least, high, wide, 0
        elif worse == PATIENCE:
            break
        else:
            worse += 1
    return best_cycles, best_rows, best_cols


@part
def _walked(program: Program, sizes: Ints) -> tuple[bool, int]:
    """Whether a tile fits, and `TileChooser.walked`: 0 where no dim is walked."""
    known = program.known
    is_row_reduced = known[Known.IS_ROW_REDUCED] != 0
    if known[Known.IS_WHOLE] or not (is_row_reduced or known[Known.IS_COL_REDUCED]):
        return True, 0
    _, rows, cols = search(program, sizes, known[Known.FED], 0)
    return rows > 0, rows if is_row_reduced else cols


@part
def _fair(program: Program, sizes: Ints) -> tuple[float, int, int, int]:
    """`TileChooser.fair`: the estimate, rows and columns, and the edge along the dim that is walked."""
    fits, edge = _walked(program, sizes)
    if not fits:
        return np.inf, 0, 0, 0
    cycles, rows, cols = search(program, sizes, program.known[Known.FAIR], edge)
    return cycles, rows, cols, edge


@part
def of_fair(program: Program, sizes: Ints, cycles: float, rows: int, cols: int, edge: int) -> tuple[float, int, int]:
    """`TileChooser.of_fair`"""
    known = program.known
    if known[Known.CORES] == known[Known.FAIR]:
        return cycles, rows, cols
    return search(program, sizes, known[Known.CORES], edge)


@part
def way(walked: Program, whole: Program, ways: int, sizes: Ints) -> tuple[int, float, float, int, int]:
    """`Rows.choose` of one or two ways, where a tile of the first fits; see `choose_way`."""
    if not spread(walked, sizes):
        return Result.TOO_LARGE.value, np.inf, np.inf, 0, 0
    cycles, rows, cols, edge = _fair(walked, sizes)
    if not rows:
        return Result.NONE.value, np.inf, np.inf, 0, 0
    if ways > 1:
        spread(whole, sizes)
        other, high, wide, _ = _fair(whole, sizes)
        if other < cycles:
            least, high, wide = of_fair(whole, sizes, other, high, wide, 0)
            return Result.SECOND.value, other, least, high, wide
    least, rows, cols = of_fair(walked, sizes, cycles, rows, cols, edge)
    return Result.FOUND.value, cycles, least, rows, cols


@kernel(TILE, INTS, CODE, FLOATS, TABLE, ASKED)
def choose_tile(
    known: Ints, code: CodeRows, registers: Floats, lanes: Table, asked: Ints
) -> tuple[int, float, int, int]:
    """`TileChooser.choose` for cores, an edge along the dim that is walked or 0, and sizes.

    A `Result`, the estimate, rows and columns.
    """
    tried = np.empty((2, MOST_TRIED), np.int64)
    program, sizes, edge = Program(known, code, registers, lanes, tried[0], tried[1]), asked[GIVEN:], asked[1]
    if not spread(program, sizes):
        return Result.TOO_LARGE.value, np.inf, 0, 0
    if not edge:
        fits, edge = _walked(program, sizes)
        if not fits:
            return Result.NONE.value, np.inf, 0, 0
    cycles, rows, cols = search(program, sizes, asked[0], edge)
    return Result.FOUND.value if rows else Result.NONE.value, cycles, rows, cols


@kernel(WAY, INTS, INTS, CODE, FLOATS, TABLE, ASKED)
def choose_way(
    walked: Ints, whole: Ints, code: CodeRows, registers: Floats, lanes: Table, sizes: Ints
) -> tuple[int, float, float, int, int]:
    """`Rows.choose` of a way that walks what is reduced and one that has it whole, where a tile of the first fits.

    A `Result` (FOUND is the first, SECOND the other), the estimate for any number of cores, that for the chip's, rows, columns.
    """
    tried = np.empty((2, MOST_TRIED), np.int64)
    first = Program(walked, code, registers, lanes, tried[0], tried[1])
    return way(first, Program(whole, code, registers, lanes, tried[0], tried[1]), 2, sizes)
