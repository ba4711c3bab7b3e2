"""Chooses tiles of vector segments with the operations of `npuvm.compiler.vector.choice`, in the same order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.native.compiling import ASKED, FLOATS, INT, INTS, ROWS, kernel, part
from npuvm.compiler.native.run import run_code
from npuvm.compiler.native.tile_layout import DIM_WIDTH, GIVEN, Known, Result
from npuvm.compiler.vector.choice import ALL_ROWS, HALVES, LINES, LONG, MANY, PATIENCE, STEPS, WAVES
from npuvm.compiler.vector.levels import LANES

__all__ = ["choose_tile"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MOST_TRIED = 16
"""Candidates along a dim."""

_TOO_MANY = float(1 << 44)
"""Elements of a space from which on numbers of an estimate may not be exact."""

_FIRST_DIM = Known.DIM.value


@part
def _bytes(known: Ints, code: Ints, registers: Floats, rows: int, cols: int) -> float:
    registers[known[Known.IN_ROWS]] = rows
    registers[known[Known.IN_COLS]] = cols
    run_code(code, registers, known[Known.UB_LATE], known[Known.UB_LATE + 1])
    return registers[known[Known.OUT_UB]]


@part
def _fits(known: Ints, code: Ints, registers: Floats, rows: int, cols: int) -> bool:
    return _bytes(known, code, registers, rows, cols) <= known[Known.CAPACITY]


@part
def _lanes_from(known: Ints, code: Ints, registers: Floats, rows: int, lanes: int) -> int:
    """`TileChooser._lanes_from`"""
    while lanes > 1 and not _fits(known, code, registers, rows, lanes * LANES):
        lanes -= max(1, lanes // 64)
    return lanes


@part
def _widest(known: Ints, code: Ints, registers: Floats, rows: int, total: int) -> int:
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
def _highest(known: Ints, code: Ints, registers: Floats, cols: int) -> int:
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
def _most_rows(known: Ints, code: Ints, registers: Floats, total: int, cols: int) -> int:
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
    code: Ints,
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
    widest = _widest(known, code, registers, least_rows, total)
    if not widest:
        return 0
    if is_col_reduced:
        return _steps(tried, widest)
    tiles = kept if is_row_reduced or known[Known.ROW] < 0 else kept * total_rows
    fewest = -(-total // widest)
    count = last = 0
    for waves in HALVES:
        even = waves * cores // tiles if is_row_reduced else -(-waves * cores // tiles)
        parts = max(even, fewest * waves)
        size = -(-total // parts)
        step = LANES if size < LONG else LINES
        wide = min(widest, -(-size // step) * step)
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
    code: Ints,
    registers: Floats,
    tried: Ints,
    total: int,
    total_cols: int,
    kept: int,
    cols: int,
    cores: int,
) -> int:
    """`TileChooser._row_candidates`, written to `tried`; how many they are."""
    most = _most_rows(known, code, registers, total, cols)
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


@part
def _spread(known: Ints, registers: Floats, asked: Ints) -> tuple[int, float]:
    """Put the sizes into their registers; how many tiles there are of one of all rows and columns, and all elements."""
    kept, elements = 1, 1.0
    for dim in range(known[Known.DIMS]):
        at, size = _FIRST_DIM + DIM_WIDTH * dim, asked[GIVEN + dim]
        registers[known[at]] = size
        elements *= size
        if known[at + 1]:
            kept *= size
    return kept, elements


@kernel(INT, INTS, ROWS, FLOATS, ASKED, INTS, FLOATS)
def choose_tile(known: Ints, code: Ints, registers: Floats, asked: Ints, found: Ints, cycles: Floats) -> int:
    """`TileChooser._searched`: a `Result`; rows and columns are written to `found`, the estimate to `cycles`."""
    kept, elements = _spread(known, registers, asked)
    if elements > _TOO_MANY:
        return Result.TOO_LARGE
    cores, edge = asked[0], asked[1]
    registers[known[Known.IN_CORES]] = cores
    run_code(code, registers, known[Known.EARLY], known[Known.EARLY + 1])
    total_rows = asked[GIVEN + known[Known.ROW]] if known[Known.ROW] >= 0 else 1
    total_cols = asked[GIVEN + known[Known.COL]]
    tried_cols, tried_rows = np.empty(_MOST_TRIED, np.int64), np.empty(_MOST_TRIED, np.int64)
    is_known = known[Known.IS_ROW_REDUCED] and (edge or known[Known.IS_WHOLE])
    best_cycles, best_rows, best_cols, worse = np.inf, 0, 0, 0
    for at in range(_cols(known, code, registers, tried_cols, total_rows, total_cols, kept, cores, edge)):
        wide = tried_cols[at]
        if is_known:
            tried_rows[0] = edge or total_rows
            count = 1
        else:
            count = _rows(known, code, registers, tried_rows, total_rows, total_cols, kept, wide, cores)
        least, high = np.inf, 0
        for each in range(count):
            registers[known[Known.IN_ROWS]] = tried_rows[each]
            registers[known[Known.IN_COLS]] = wide
            run_code(code, registers, known[Known.LATE], known[Known.LATE + 1])
            estimate = registers[known[Known.OUT]]
            if estimate >= least:
                break
            least, high = estimate, tried_rows[each]
        if not high:
            continue
        if least < best_cycles:
            best_cycles, best_rows, best_cols, worse = least, high, wide, 0
        elif worse == PATIENCE:
            break
        else:
            worse += 1
    found[0], found[1], cycles[0] = best_rows, best_cols, best_cycles
    return Result.FOUND if best_rows else Result.NONE
