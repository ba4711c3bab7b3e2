"""The bytes that an operand can reach, over every iteration of the loops around it: exact where addresses and sizes are affine.

Loops whose trip count is constant and whose counter only enters the address move the reach by their stride times their last
iteration. All others are enumerated at the counters where something can be extreme: the first, the last two, and those where an
affine size meets its clamps. So the work does not depend on trip counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from npuvm.isa.verifier.tables import (
    Affine,
    Const,
    DescDef,
    Point,
    RegSize,
    SizeDef,
    Tables,
    Tail,
    WindowDef,
    size_loops,
    size_value,
)

__all__ = ["Dim", "Nest", "Reach", "largest", "reach_of", "size_at"]

Dim: TypeAlias = SizeDef | int
"""An extent of a region: a size, or the constant 1."""

Nest: TypeAlias = Sequence[tuple[int, SizeDef]]
"""Open loops from the outermost to the innermost, with their trip counts."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Smallest byte and byte after the last that is touched, without the offset of a ring slot."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class _Line:
    """An affine function of counters and the values at which something bends."""

    base: int
    steps: tuple[tuple[int, int], ...]
    thresholds: tuple[int, ...]


def largest(tables: Tables, size: Dim) -> int:
    """An upper bound of a size."""
    if isinstance(size, int):
        return size
    if isinstance(size, Tail):
        return max(size.full, size.tail)
    if isinstance(size, RegSize):
        return tables.register_size(size)[1]
    return size.full


def size_at(tables: Tables, size: Dim, point: Point) -> int:
    """A size at a point; the largest value of a register-driven one."""
    if isinstance(size, int):
        return size
    return size_value(size, point, tables.register_size(size)[1] if isinstance(size, RegSize) else 0)


def reach_of(tables: Tables, desc: DescDef, shape: tuple[Dim, Dim], itemsize: int, nest: Nest) -> Reach | None:
    """What a tile of `shape` at `desc` reaches; None when no iteration touches anything.

    Elements outside the descriptor's window are not touched. Every loop that the descriptor and the shape name is in `nest`.
    """
    trips = dict(nest)
    if any(isinstance(trip, Const) and trip.full == 0 for trip in trips.values()):
        return None
    coupled = _coupled(desc, shape, trips)
    low, high = _free_offset(tables, desc, trips, coupled)
    lines = [
        _Line(s.base, s.steps, (0, s.full)) for s in (*shape, *(trips[i] for i in coupled)) if isinstance(s, Affine)
    ]
    if desc.window is not None:
        lines += [line for axis in (0, 1) for line in _window_lines(tables, desc.window, shape[axis], axis)]
    found: Reach | None = None
    for point in _points(tables, [(loop, trip) for loop, trip in nest if loop in coupled], lines, {}):
        address = desc.base + sum(stride * point[loop][0] for loop, stride in desc.strides if loop in coupled)
        rows, cols = (size_at(tables, size, point) for size in shape)
        first_row, end_row = _clip(rows, desc.window, point, 0)
        first_col, end_col = _clip(cols, desc.window, point, 1)
        if first_row >= end_row or first_col >= end_col:
            continue
        start = address + low + first_row * desc.pitch + first_col * itemsize
        end = address + high + (end_row - 1) * desc.pitch + end_col * itemsize
        found = Reach(min(start, found.low), max(end, found.high)) if found else Reach(start, end)
    return found


def _coupled(desc: DescDef, shape: tuple[Dim, Dim], trips: dict[int, SizeDef]) -> set[int]:
    """Loops that must be enumerated: those of sizes and windows, and those with a trip count that is no constant."""
    todo = [loop for loop, trip in trips.items() if not isinstance(trip, Const)]
    todo += [loop for size in shape if not isinstance(size, int) for loop in size_loops(size)]
    if desc.window is not None:
        todo += [loop for loop, step in (desc.window.row, desc.window.col) if step]
    coupled: set[int] = set()
    while todo:
        loop = todo.pop()
        if loop not in coupled:
            coupled.add(loop)
            todo += size_loops(trips[loop])
    return coupled


def _free_offset(tables: Tables, desc: DescDef, trips: dict[int, SizeDef], coupled: set[int]) -> tuple[int, int]:
    """Smallest and largest offset by loops that enter the address only, and by the register."""
    low = high = 0
    total: dict[int, int] = {}
    for loop, stride in desc.strides:
        total[loop] = total.get(loop, 0) + stride
    offsets = [
        stride * (trip.full - 1)
        for loop, stride in total.items()
        if loop not in coupled and isinstance(trip := trips[loop], Const)
    ]
    for offset in offsets:
        low, high = low + min(0, offset), high + max(0, offset)
    if desc.reg_stride:
        ends = [desc.reg_stride * value for value in tables.register_interval(desc.reg)]
        low, high = low + min(ends), high + max(ends)
    return low, high


def _points(tables: Tables, nest: Nest, lines: Sequence[_Line], point: Point) -> Iterator[Point]:
    if not nest:
        yield point
        return
    (loop, trip), rest = nest[0], nest[1:]
    count = size_at(tables, trip, point)
    counters = {0, count - 2, count - 1}
    for line in lines:
        counters |= _kinks(tables, line, loop, point, rest)
    for counter in sorted(c for c in counters if 0 <= c < count):
        yield from _points(tables, rest, lines, {**point, loop: (counter, count)})


def _kinks(tables: Tables, line: _Line, loop: int, point: Point, rest: Nest) -> set[int]:
    """Counters of `loop` around which a line meets one of its thresholds."""
    step = sum(s for inner, s in line.steps if inner == loop)
    if not step:
        return set()
    inner_trips = dict(rest)
    bases = {line.base}
    for other, other_step in line.steps:
        if other in point:
            bases = {base + other_step * point[other][0] for base in bases}
        elif other in inner_trips:
            last = largest(tables, inner_trips[other]) - 1
            bases |= {base + other_step * last for base in bases}
    return {(level - base) // step + near for base in bases for level in line.thresholds for near in (0, 1)}


def _window_lines(tables: Tables, window: WindowDef, extent: Dim, axis: int) -> Iterator[_Line]:
    """Where a tile's edges pass those of its window."""
    origin, size, step = _axis(window, axis)
    extents = {0, largest(tables, extent), extent.tail if isinstance(extent, Tail) else 0}
    extents |= {extent.full} if isinstance(extent, Tail) else set()
    yield _Line(origin, (step,), tuple(edge - length for edge in (0, size) for length in extents))
    if isinstance(extent, Affine):
        yield _Line(origin + extent.base, (step, *extent.steps), (0, size))


def _axis(window: WindowDef, axis: int) -> tuple[int, int, tuple[int, int]]:
    """Origin, extent and (loop, step) of a window's rows or columns."""
    return ((window.row0, window.rows, window.row), (window.col0, window.cols, window.col))[axis]


def _clip(extent: int, window: WindowDef | None, point: Point, axis: int) -> tuple[int, int]:
    """First index and the end of the indices of a tile that its window lets through."""
    if window is None:
        return 0, extent
    origin, size, (loop, step) = _axis(window, axis)
    start = origin + (step * point[loop][0] if step else 0)
    return max(0, -start), min(extent, size - start)
