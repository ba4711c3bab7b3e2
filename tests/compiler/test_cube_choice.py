"""The search for a tile of a matrix product against the estimates of all candidates."""

from __future__ import annotations

import random
from functools import cache
from math import exp, fsum, log
from typing import Any

import numpy as np
import pytest

from npuvm.compiler.cube_choice_terms import (
    Term,
    common,
    compile_term,
    integer,
    largest,
    least,
    parts,
    pick,
    root,
    same,
)
from npuvm.compiler.cube_codegen import problem_of
from npuvm.compiler.cube_cost import ProductSizes, TileProblem
from npuvm.compiler.cube_plan import CubeTile, TileChooser, chooser_of, sizes_of
from npuvm.compiler.cube_spec import MatmulSpec, MatView, normalise
from npuvm.compiler.schedule import Pins
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.isa import Isa, load_isa

CHIPS = ("ascend_910b1", "ascend_910a", "edge")

TOKENS = (1, 7, 32, 128, 512, 2048, 4096)
WEIGHTS = (
    *((4096, 4096), (12288, 4096), (11008, 4096), (4096, 11008), (5120, 5120), (1024, 4096)),
    *((384, 384), (1536, 384), (384, 1536), (3072, 768), (32000, 4096), (2304, 768)),
)
"""n and k of layers of language models."""


@cache
def _chip(name: str) -> tuple[NpuConfig, Isa]:
    chip = load_chip(name)
    return chip, load_isa(chip.isa.base, chip.isa.extensions)


def _product(
    m: int, n: int, k: int, batch: int = 1, flipped: tuple[bool, bool] = (False, False), dtype: str = "fp16"
) -> MatmulSpec:
    """A product of dense operands, of which the flipped ones lie transposed."""
    a_rows, b_rows = ((1, m) if flipped[0] else (k, 1)), ((1, k) if flipped[1] else (n, 1))
    a, b, c = (
        MatView(at, dtype, *rows, batch=(stride,))
        for at, (rows, stride) in enumerate([(a_rows, m * k), (b_rows, k * n), ((n, 1), m * n)])
    )
    return normalise(MatmulSpec(m, n, k, a, b, c, (batch,)))


def _drawn(source: random.Random) -> MatmulSpec:
    """Random sizes, a layer over random tokens, or a product of attention; operands as they lie or transposed."""
    flipped = source.random() < 0.2, source.random() < 0.4
    sort = source.randrange(3)
    if sort == 0:
        return _product(_spread(source), _spread(source), _spread(source), flipped=flipped)
    if sort == 1:
        n, k = source.choice(WEIGHTS)
        return _product(source.choice(TOKENS), n, k, flipped=flipped)
    rows, cols, head = _spread(source), _spread(source), source.choice((32, 64, 80, 128, 256))
    n, k = (cols, head) if source.random() < 0.5 else (head, cols)
    return _product(rows, n, k, source.choice((1, 8, 12, 32)), flipped)


def _spread(source: random.Random, most: int = 4096) -> int:
    return round(float(most ** source.random()))


def _chosen(spec: MatmulSpec, name: str, pins: Pins | None = None) -> tuple[CubeTile, float, float]:
    """The chosen tile, its estimate among those of all candidates, and the lowest of those."""
    chip, isa = _chip(name)
    problem = problem_of(spec, chip, isa, pins or Pins())
    chooser, sizes = chooser_of(problem, chip.cores_with("cube")), sizes_of(problem, spec)
    tile = chooser.choose(sizes)
    table, depths, cycles = chooser.candidates(sizes)
    found = np.flatnonzero((table == [*tile.l1, *tile.l0]).all(axis=1) & (depths == tile.l0c_depth))
    assert len(found), f"{tile} is not among the candidates for {sizes}"
    assert int(cycles[found[0]]) == pytest.approx(tile.cycles, abs=1)
    return tile, float(cycles[found[0]]), float(cycles.min())


@pytest.mark.parametrize("name", CHIPS)
def test_search_finds_tiles_close_to_the_best_of_all(name: str) -> None:
    """Shapes of all sorts: within 1 % of the lowest estimate on average, within 5 % each."""
    source = random.Random(name)
    ratios = []
    for _ in range(120):
        _, found, best = _chosen(_drawn(source), name)
        ratios.append(found / best)
    assert max(ratios) <= 1.05
    assert exp(fsum(map(log, ratios)) / len(ratios)) <= 1.01


@pytest.mark.parametrize("edge", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_search_at_the_boundaries_of_tiles(edge: int, beside: int) -> None:
    """One below, at and above the edges of candidates, for all three sizes."""
    size = edge + beside
    for sizes in ((size, 300, 300), (300, size, 300), (300, 300, size), (size, size, size)):
        _, found, best = _chosen(_product(*sizes), "ascend_910b1")
        assert found <= 1.05 * best


@pytest.mark.parametrize("dtype", ["fp32", "int8", "bf16"])
def test_search_for_other_types(dtype: str) -> None:
    chip, isa = _chip("ascend_910b1")
    source = random.Random(dtype)
    for _ in range(8):
        spec = _product(_spread(source), _spread(source), _spread(source), dtype=dtype)
        if dtype == "int8":
            spec = MatmulSpec(spec.m, spec.n, spec.k, spec.a, spec.b, MatView(2, "int32", spec.n, 1), spec.batch)
        problem = problem_of(spec, chip, isa, Pins())
        sizes = sizes_of(problem, spec)
        chooser = chooser_of(problem, chip.cores_with("cube"))
        assert chooser.choose(sizes).cycles <= 1.05 * chooser.candidates(sizes)[2].min()


def test_a_pinned_order_has_a_chooser_of_its_own() -> None:
    """Where columns are walked first, the other operand stays in L1."""
    chip, isa = _chip("ascend_910b1")
    spec = _product(4096, 4096, 128)
    rows, columns = (problem_of(spec, chip, isa, Pins(order=order)) for order in ("row", "column"))
    assert chooser_of(rows, 24) is not chooser_of(columns, 24)
    for order in ("row", "column"):
        _, found, best = _chosen(spec, "ascend_910b1", Pins(order=order))
        assert found <= 1.05 * best


def test_nothing_to_add_up_has_a_tile() -> None:
    tile, found, best = _chosen(_product(100, 200, 0), "ascend_910b1")
    assert tile.l1[2] == 1
    assert found == best


def _problem(name: str = "ascend_910b1") -> TileProblem:
    return problem_of(_product(512, 512, 512), *_chip(name), Pins())


@pytest.mark.parametrize("name", CHIPS)
def test_estimate_of_one_tile_is_that_of_the_table(name: str) -> None:
    """The function of plain numbers gives what the arrays give, to the last bits."""
    source = random.Random(7)
    chooser = TileChooser(_problem(name), 24)
    for _ in range(5):
        m, n, k = (_spread(source) for _ in range(3))
        sizes = ProductSizes(m, n, k, source.choice((1, 12)), 2 * k, 2 * n)
        table, depths, cycles = chooser.candidates(sizes)
        estimate = chooser.estimate(sizes)
        some = source.sample(range(len(table)), min(20, len(table)))
        for at in some:
            rows, cols, k1, _, _, k0 = table[at].tolist()
            assert estimate(rows, cols, k1, k0, int(depths[at])) == pytest.approx(cycles[at], rel=1e-12)


def test_terms_calculate_as_arrays_do() -> None:
    """A formula with everything in it, as a function and with arrays."""

    def formula(x: Any, y: Any) -> Any:
        cut = parts(x, y) + parts(7, y) * 2 - 3
        low, high = least(cut, y), largest(x / 3, 2.5)
        bit = integer(x) & -integer(x)
        odd = pick(same(x % 2, 1), root(high) * 1, 1 / y + low)
        return odd + common(x, y) + bit - pick(x < y, x, 0) + pick(x <= 9, 1, pick(x > 11, 2, 3)) + 5 - x * 0 + x // y

    function = compile_term(("x",), ("y",), formula(Term("x"), Term("y")))
    x, y = np.meshgrid(np.arange(1.0, 14), np.arange(1.0, 9))
    for expected, (a, b) in zip(formula(x, y).ravel(), zip(x.ravel(), y.ravel(), strict=True), strict=True):
        assert function(int(a))(int(b)) == pytest.approx(expected, rel=1e-12)


def test_terms_cannot_be_looked_at() -> None:
    with pytest.raises(TypeError, match="cannot depend"):
        bool(Term("x") < 3)
