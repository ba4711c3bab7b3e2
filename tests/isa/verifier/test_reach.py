"""The reach of an operand, computed without visiting iterations, against all iterations visited one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from npuvm.isa.verifier.reach import Dim, Nest, Reach, reach_of, size_at
from npuvm.isa.verifier.tables import Affine, Const, DescDef, Point, RegSize, SizeDef, Tables, Tail, WindowDef

TABLES = Tables({}, {}, {}, {5: (-2, 3)})
ITEM = 2


def every_point(nest: Nest, point: Point) -> Iterator[Point]:
    if not nest:
        yield point
        return
    (loop, trip), rest = nest[0], nest[1:]
    count = size_at(TABLES, trip, point)
    for counter in range(count):
        yield from every_point(rest, {**point, loop: (counter, count)})


def by_hand(desc: DescDef, shape: tuple[Dim, Dim], nest: Nest) -> Reach | None:
    """Smallest and largest byte over every element of every iteration and every register value."""
    touched: list[int] = []
    for point in every_point(nest, {}):
        rows, cols = (size_at(TABLES, size, point) for size in shape)
        for register in TABLES.register_interval(desc.reg) if desc.reg_stride else (0,):
            start = desc.base + desc.reg_stride * register + sum(s * point[loop][0] for loop, s in desc.strides)
            for row in range(rows):
                for col in range(cols):
                    if desc.window is None or inside(desc.window, point, row, col):
                        touched.append(start + row * desc.pitch + col * ITEM)
    return Reach(min(touched), max(touched) + ITEM) if touched else None


def inside(window: WindowDef, point: Point, row: int, col: int) -> bool:
    (row_loop, row_step), (col_loop, col_step) = window.row, window.col
    at_row = window.row0 + (row_step * point[row_loop][0] if row_step else 0) + row
    at_col = window.col0 + (col_step * point[col_loop][0] if col_step else 0) + col
    return 0 <= at_row < window.rows and 0 <= at_col < window.cols


def sizes(open_loops: list[int], largest: int) -> st.SearchStrategy[SizeDef]:
    full = st.integers(0, largest)
    choices: list[st.SearchStrategy[SizeDef]] = [st.builds(Const, full), st.builds(RegSize, full, st.just(5))]
    if open_loops:
        loop = st.sampled_from(open_loops)
        steps = st.lists(st.tuples(loop, st.integers(-3, 3)), max_size=2).map(tuple)
        choices += [st.builds(Tail, full, full, loop), st.builds(Affine, full, st.integers(-6, 9), steps)]
    return st.one_of(choices)


@st.composite
def cases(draw: Any) -> tuple[DescDef, tuple[Dim, Dim], Nest]:
    nest: list[tuple[int, SizeDef]] = []
    for loop in range(draw(st.integers(0, 3))):
        nest.append((loop, draw(sizes([i for i, _ in nest], 5))))
    loops = [loop for loop, _ in nest]
    strides = draw(st.lists(st.tuples(st.sampled_from(loops), st.integers(-50, 50)), max_size=3)) if loops else []
    window = None
    if draw(st.booleans()):
        moves = [(draw(st.sampled_from(loops)), draw(st.integers(-2, 2))) if loops else (0, 0) for _ in range(2)]
        low, size = st.integers(-4, 4), st.integers(0, 9)
        window = WindowDef(draw(low), draw(low), draw(size), draw(size), *moves)
    reg_stride = draw(st.sampled_from([0, 0, 8, -8]))
    base, pitch = draw(st.integers(0, 100)), draw(st.integers(0, 20))
    desc = DescDef(0, "gm", base, pitch, "none", 0, 5, reg_stride, tuple(strides), window)
    shape = tuple(draw(st.just(1) | sizes(loops, 3)) for _ in range(2))
    return desc, (shape[0], shape[1]), nest


@settings(max_examples=60)
@given(cases())
def test_reach_covers_every_access(case: tuple[DescDef, tuple[Dim, Dim], Nest]) -> None:
    desc, shape, nest = case
    expected, found = by_hand(desc, shape, nest), reach_of(TABLES, desc, shape, ITEM, nest)
    if expected is not None:
        assert found is not None
        assert found.low <= expected.low
        assert found.high >= expected.high


@settings(max_examples=60)
@given(cases())
def test_reach_is_exact_without_windows_and_registers(case: tuple[DescDef, tuple[Dim, Dim], Nest]) -> None:
    desc, shape, nest = case
    if desc.window is None and not desc.reg_stride:
        assert reach_of(TABLES, desc, shape, ITEM, nest) == by_hand(desc, shape, nest)


def test_reach_does_not_enumerate_trips() -> None:
    nest: Nest = [(0, Const(1 << 31)), (1, Affine(1 << 31, 5, ((0, 1),)))]
    desc = DescDef(0, "ub", 64, 32, "none", 0, 0, 0, ((0, 32), (1, 32)))
    found = reach_of(TABLES, desc, (1, Tail(16, 3, 1)), ITEM, nest)
    last = (1 << 31) - 1
    assert found == Reach(64, 64 + 32 * last + 32 * last + 6)
