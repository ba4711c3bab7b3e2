"""Pins are checked where they are made; walks cover every tile once, in the pinned order."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.compiler.emit.walk import GridWalk, TileDim, Walk, plan_walk, split_evenly
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Events, Pins

Tile = tuple[int, ...]


def tiles_of(grid: GridWalk, names: tuple[str, ...]) -> list[Tile]:
    """Every tile of a grid in odometer order, written down the slow way."""
    result = []
    for counters in product(*(range(axis.trip) for axis in grid.axes)):
        at = {name: grid.origin.get(name, 0) for name in names}
        for axis, counter in zip(grid.axes, counters, strict=True):
            at[axis.dim] += axis.step * counter
        result.append(tuple(at[name] for name in names))
    return result


def core_tiles(walk: Walk, names: tuple[str, ...]) -> list[list[Tile]]:
    grids = [tiles_of(grid, names) for grid in walk.grids]
    return [[t for g, (a, b) in zip(grids, ranges, strict=True) for t in g[a:b]] for ranges in walk.ranges]


def walk(batch: int, rows: int, cols: int, cores: int, pins: Pins, tail: bool = False) -> list[list[Tile]]:
    planned = plan_walk([TileDim("b", batch)], TileDim("m", rows, tail), TileDim("n", cols, tail), cores, pins)
    return core_tiles(planned, ("b", "m", "n"))


@st.composite
def pins_and_shape(draw: st.DrawFn) -> tuple[int, int, int, int, Pins, bool]:
    small = st.integers(1, 7)
    batch, rows, cols, cores = draw(small), draw(small), draw(small), draw(small)
    order = draw(st.sampled_from([None, "row", "column", "swizzle", "rounds"]))
    width = draw(small) if order == "swizzle" else None
    grid = None
    if order not in ("swizzle", "rounds") and draw(st.booleans()):
        grid = (draw(st.integers(1, rows)), draw(st.integers(1, cols)))
    start = draw(st.one_of(st.none(), st.integers(0, 9)))
    pins = Pins(order=order, swizzle_width=width, grid=grid, start=start)
    return batch, rows, cols, cores, pins, draw(st.booleans())


@given(pins_and_shape())
def test_every_tile_is_walked_once(case: tuple[int, int, int, int, Pins, bool]) -> None:
    batch, rows, cols, cores, pins, tail = case
    tiles = [t for core in walk(batch, rows, cols, cores, pins, tail) for t in core]
    assert sorted(tiles) == list(product(range(batch), range(rows), range(cols)))


@given(pins_and_shape())
def test_a_dimension_with_two_loops_has_no_smaller_last_tile(case: tuple[int, int, int, int, Pins, bool]) -> None:
    batch, rows, cols, cores, pins, tail = case
    planned = plan_walk([TileDim("b", batch)], TileDim("m", rows, tail), TileDim("n", cols, tail), cores, pins)
    for grid in planned.grids:
        for place, (name, count) in enumerate((("m", rows), ("n", cols)), start=1):
            twice = [axis.dim for axis in grid.axes].count(name) == 2
            reached = max(t[place] for t in tiles_of(grid, ("b", "m", "n")))
            assert not (twice and tail and reached == count - 1)


def test_row_and_column_order() -> None:
    assert walk(1, 2, 3, 1, Pins()) == [[(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 1, 1), (0, 1, 2)]]
    column = walk(1, 2, 3, 1, Pins(order="column"))
    assert column == [[(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 0, 2), (0, 1, 2)]]


def test_swizzle_walks_bands() -> None:
    (tiles,) = walk(1, 3, 2, 1, Pins(order="swizzle", swizzle_width=2))
    assert [t[1:] for t in tiles] == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1)]


def test_rounds_put_cores_side_by_side() -> None:
    """Two rows on four cores: two columns a round, and the fifth column last."""
    cores = walk(1, 2, 5, 4, Pins(order="rounds"))
    assert [core[:2] for core in cores] == [[(0, m, at), (0, m, at + 2)] for m in (0, 1) for at in (0, 1)]
    assert [core[2:] for core in cores] == [[(0, 0, 4)], [(0, 1, 4)], [], []]
    assert walk(1, 1, 3, 2, Pins(order="rounds")) == [[(0, 0, 0), (0, 0, 2)], [(0, 0, 1)]]


def test_a_grid_of_cores_gives_each_a_rectangle() -> None:
    cores = walk(1, 4, 5, 99, Pins(grid=(2, 2)))
    assert len(cores) == 4
    assert [sorted({t[1] for t in core}) for core in cores] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert [sorted({t[2] for t in core}) for core in cores] == [[0, 1, 2], [3, 4], [0, 1, 2], [3, 4]]
    assert cores[0] == [(0, m, n) for m in (0, 1) for n in (0, 1, 2)]
    assert walk(1, 4, 5, 99, Pins(grid=(2, 2), order="column"))[0] == [(0, m, n) for n in (0, 1, 2) for m in (0, 1)]


def test_a_grid_of_more_cores_than_tiles_is_refused() -> None:
    with pytest.raises(CompileError, match=r"pin grid = \(3, 1\) cannot be honoured; allowed: at most 2 x 9"):
        walk(1, 2, 9, 99, Pins(grid=(3, 1)))


def test_start_rotates_each_cores_own_tiles() -> None:
    plain = walk(1, 2, 4, 2, Pins())
    rotated = walk(1, 2, 4, 2, Pins(start=(1, 6)))
    assert rotated[0] == plain[0][1:] + plain[0][:1]
    assert rotated[1] == plain[1][2:] + plain[1][:2]
    assert walk(1, 2, 4, 2, Pins(start=3))[1] == plain[1][3:] + plain[1][:3]
    with pytest.raises(CompileError, match="one offset for each of the 2 cores"):
        walk(1, 2, 4, 2, Pins(start=(1,)))


def test_no_more_cores_than_tiles_are_used() -> None:
    assert len(walk(1, 2, 2, 32, Pins())) == 4
    assert [len(core) for core in walk(1, 1, 2, 32, Pins(cores=3))] == [1, 1, 0]
    assert split_evenly(7, 3) == [(0, 3), (3, 5), (5, 7)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tile": {"l2": (1, 2, 3)}}, r"pin tile.l2 = \(1, 2, 3\) cannot be honoured; allowed: levels vector, l1, l0"),
        ({"tile": {"l1": (16, 16)}}, r"tile.l1 = \(16, 16\) cannot .* 3 sizes of 1 or more"),
        ({"tile": {"vector": (16, 0)}}, "2 sizes of 1 or more"),
        ({"cores": 0}, "pin cores = 0 cannot be honoured; allowed: 1 or more"),
        ({"ring_depth": {"l0a": 256}}, "ring_depth.l0a = 256 cannot be honoured; allowed: 1 to 255"),
        ({"cache": {"a": "fast"}}, "cache.a = 'fast' cannot be honoured; allowed: normal, stream"),
        ({"transfer": {"a": (0, 4)}}, "transfer.a"),
        ({"order": "zigzag"}, "order = 'zigzag' cannot be honoured; allowed: row, column, swizzle, rounds"),
        ({"order": "swizzle"}, "a width with order = 'swizzle'"),
        ({"swizzle_width": 2}, "swizzle_width = 2"),
        ({"grid": (2, 2), "cores": 3}, "cores = 3 cannot be honoured; allowed: 4"),
        ({"grid": (2, 2), "order": "swizzle", "swizzle_width": 2}, "row or column together with a grid"),
        ({"start": (0, -1)}, "offsets of 0 or more"),
    ],
)
def test_pins_that_cannot_be_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        Pins(**fields)  # type: ignore[arg-type]  # the table mixes all fields


def test_names_of_operands_are_checked() -> None:
    pins = Pins(ring_depth={"l0a": 2}, cache={"x": "stream"})
    pins.check_names("ring_depth", ("l0a", "l0b"))
    with pytest.raises(CompileError, match=r"cache\.x = 'stream' cannot be honoured; allowed: operands a, b"):
        pins.check_names("cache", ("a", "b"))


def test_equal_pins_have_equal_keys() -> None:
    events = Events(("l0a",), {"x": 2}, {"mma": ("x",)}, {})
    one = Pins(tile={"l1": (1, 2, 3), "l0": (1, 2, 3)}, events=events, grid=(1, 2))
    two = Pins(tile={"l0": (1, 2, 3), "l1": (1, 2, 3)}, events=events, grid=(1, 2))
    assert one.key() == two.key() and hash(one) == hash(two)
    assert one.key() != Pins(tile=one.tile, grid=(2, 1), events=events).key()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cores", 2.0),
        ("cores", "2"),
        ("cores", True),
        ("repeat", 1.5),
        ("grid", (2.0, 1)),
        ("grid", 2),
        ("start", "a"),
        ("start", (0, 0.5)),
        ("tile", (8, 64)),
        ("tile", {"vector": 8}),
        ("tile", {"vector": (8.0, 64)}),
        ("ring_depth", {"x": "2"}),
        ("address", {"x": 32.0}),
        ("transfer", {"x": 8}),
        ("events", "x"),
    ],
)
def test_pins_of_a_wrong_type_are_refused(field: str, value: object) -> None:
    with pytest.raises(CompileError, match=f"pin {field}"):
        Pins(**{field: value})  # type: ignore[arg-type]  # wrong types are what is tested
