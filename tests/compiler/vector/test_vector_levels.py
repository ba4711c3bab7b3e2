"""Tiles of vector segments and of relays that are grown from a chip's levels: no shape takes part, they fit, none is missed."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from tests.compiler.graphs import CASTS, build
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler.cube.codegen import problem_of
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.emit.symint import SymInt, compile_values
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.relay.levels import EDGES, FittingTiles, RelayRoom, relay_levels
from npuvm.compiler.relay.tile import ProductShape, largest_tile, least_tile
from npuvm.compiler.tiles.levels import Loop
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.codegen import covered, tiled
from npuvm.compiler.vector.cost import RowsCost, TileCost
from npuvm.compiler.vector.family import VectorFamily
from npuvm.compiler.vector.levels import LANES, highest_tiles, row_unit, vector_levels
from npuvm.compiler.vector.lower import VecProgram
from npuvm.compiler.vector.space import Space, make_space


def scaled(k: Any, x: Any, scale: Any) -> None:
    k.store(k.exp(x) * scale)


def lowered(chip: str, binding: dict[str, int]) -> tuple[Space, VecProgram, Storage]:
    graph = build(scaled, x="fp32[M, N]", scale="fp32[M, 1]")
    (segment,) = make_plan(graph, CASTS).segments
    assert isinstance(segment, VectorSegment)
    space, config = make_space(segment, binding, lambda sizes, dims: dims[0] if dims else None), the_chip(chip)
    segment = covered(segment, space, config, the_isa(), again=True)
    return space, *tiled(segment, space, binding, the_isa(), Pins(), 2, config)


def made(chip: str, binding: dict[str, int]) -> tuple[Space, Storage]:
    space, _, storage = lowered(chip, binding)
    return space, storage


def grown(chip: str, binding: dict[str, int]) -> dict[int, int]:
    space, storage = made(chip, binding)
    rows, cols = SymInt.variable("rows"), SymInt.variable("cols")
    nbytes = compile_values(("rows", "cols"), (storage.nbytes(rows, cols),))
    return dict(highest_tiles(space, nbytes, the_chip(chip)))


@pytest.mark.parametrize("chip", CHIPS)
def test_sizes_may_be_open(chip: str) -> None:
    open_sizes = {name: SymInt.variable(name) for name in "MN"}
    found = grown(chip, {**open_sizes})
    assert found
    assert found == grown(chip, {"M": 1000, "N": 300}) == grown(chip, {"M": 7, "N": 70_001})


@pytest.mark.parametrize("chip", CHIPS)
def test_the_highest_tiles_fit_and_twice_as_high_ones_do_not(chip: str) -> None:
    space, storage = made(chip, {"M": 1000, "N": 300})
    room, unit = the_chip(chip).capacity_bytes("ub"), row_unit(space, the_chip(chip))
    for cols, rows in grown(chip, {"M": 1000, "N": 300}).items():
        assert cols % LANES == 0
        assert rows % unit == 0
        assert storage.nbytes(rows, cols) <= room
        assert storage.nbytes(2 * rows, cols) > room


@pytest.mark.parametrize("chip", CHIPS)
def test_all_the_room_is_used(chip: str) -> None:
    _, storage = made(chip, {"M": 100_000, "N": 300})
    graph = build(scaled, x="fp32[M, N]", scale="fp32[M, 1]")
    (segment,) = make_plan(graph, CASTS).segments
    assert isinstance(segment, VectorSegment)
    family = VectorFamily(segment, ("M", "N"), the_chip(chip), the_isa())
    located = family.located((100_000, 300))
    assert located is not None
    way = located[0].choose(located[1])[1]
    room = the_chip(chip).capacity_bytes("ub")
    for cols in (1, 64, 100, 300, 1000):
        most = max(tile.rows for tile in way.chooser.tried((10**7, cols), 1) if tile.cols == cols)
        assert storage.nbytes(most, cols) <= room < storage.nbytes(most + most // 128 + 8, -(-cols // 64) * 64)


def test_rows_are_blocks_of_a_column_where_l2_keeps_no_parts_of_blocks() -> None:
    space, _ = made("ascend_910b1", {"M": 1000, "N": 300})
    assert row_unit(space, the_chip("ascend_910b1")) == 8  # fp32 in blocks of 32 bytes
    assert row_unit(space, the_chip("edge")) == 1


def test_levels_say_what_is_reduced() -> None:
    graph = build(lambda k, x: k.store(k.sum(x, 0)), x="fp32[M, N]")
    (segment,) = make_plan(graph, CASTS, whole_rows=False).segments
    assert isinstance(segment, VectorSegment)
    levels = vector_levels(make_space(segment, {"M": 100, "N": 70}))
    assert [level.name for level in levels] == ["block", "ub", "core", "memory"]
    assert all(level.loops["rows"] is Loop.REDUCTION for level in levels)
    assert levels[1].loops["cols"] is Loop.SPATIAL
    assert levels[2].loops["cols"] is Loop.PARALLEL
    assert [level.name for level in relay_levels() if level.multiples] == ["l0", "l1"]


def product_problem(chip: str) -> TileProblem:
    a, b, c = (MatView(at, "fp16", 64, 1) for at in range(3))
    return problem_of(MatmulSpec(64, 64, 64, a, b, c), the_chip(chip), the_isa(), Pins())


def fits(problem: TileProblem, m: int, n: int, k: int) -> bool:
    """In plain words: both operands, twice as often as rings have slots, and two accumulators."""
    room = the_chip(problem.chip.name).capacity_bytes
    a, b = m * align_up(2 * k), align_up(2 * n) * align_up(k, 16)
    return (
        a * problem.depth("l0a") <= room("l0a")
        and b * problem.depth("l0b") <= room("l0b")
        and 2 * m * align_up(n * problem.acc_item) <= room("l0c")
        and a * problem.depth("l1.a") + b * problem.depth("l1.b") <= room("l1")
    )


@pytest.mark.parametrize("chip", CHIPS)
def test_tiles_of_relays_fit_and_are_the_largest_of_their_edges(chip: str) -> None:
    problem, source = product_problem(chip), Random(chip)
    table = FittingTiles.of(problem, 16)
    edges = [16 * edge for edge in EDGES]
    assert table.widest
    for _ in range(200):
        rows, n, k = source.choice(list(table.widest)), source.randint(1, 300), source.randint(1, 300)
        found = table.fitting(rows, n, k, False, True)
        widths = [edge for edge in edges if fits(problem, rows, edge, align_up(k, 16))]
        if found is not None:
            assert found[1] == k
            assert fits(problem, rows, *found)
            # Edges of tables are at most a quarter apart from 64 on.
            assert found[0] == n or 4 * found[0] >= 3 * min(n, max(widths))
        else:
            covering = min((edge for edge in edges if edge >= k), default=0)
            assert not covering or not fits(problem, rows, 16, covering)
        found = table.fitting(rows, n, k, True, False)
        if found is not None:
            assert found[0] == n
            assert fits(problem, rows, *found)


@pytest.mark.parametrize("chip", CHIPS)
def test_the_largest_tile_of_a_relay_is_the_first_that_fits(chip: str) -> None:
    """With as many columns as fit, and then as deep as fits."""
    problem, source = product_problem(chip), Random(chip)
    room, edges, found = RelayRoom.of([problem]), [16 * edge for edge in reversed(EDGES)], 0
    for _ in range(300):
        rows, n, k = 16 * source.randint(1, 16), source.randint(1, 700), source.randint(1, 700)
        shape = ProductShape(n, k, *source.choice([(False, False), (True, False), (False, True)]))
        wide = [n] if shape.whole_n else [min(edge, n) for edge in edges]
        deep = [k] if shape.whole_k else [min(edge, k) for edge in edges]
        first = next(((x, y) for x in wide for y in deep if room.holds(rows, [(x, y)])), None)
        least = [least_tile(shape)]
        assert room.holds(rows, least) == (first is not None)
        if first is not None:
            assert largest_tile(room, rows, least, 0, shape) == first
        found += first is not None
    assert 50 < found < 300


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_rows_of_blocks_are_estimated_like_launches_of_one_core(chip: str, rows: int) -> None:
    space, program, storage = lowered(chip, {"M": 1000, "N": 333})
    whole = TileCost(space, program, the_chip(chip), the_isa(), 1, storage.depth)
    cycles = RowsCost(space, program, the_chip(chip), the_isa(), storage.depth).of(333)
    part = -(-rows // 2)
    first, both = (whole.cycles((height, 333), part, 333) for height in (rows, 2 * rows))
    assert cycles(rows, part) == (first, both - first)
