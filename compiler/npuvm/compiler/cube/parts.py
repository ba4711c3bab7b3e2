"""Cuts a matrix product into the pinned parts that cores of a grid compute one after the other.

Parts of one size become one product whose batch dimensions walk them: over the cores of the grid, then over the rounds of a
core. What does not divide becomes products of its own, which stand behind the whole parts in the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.emit.walk import Axis, GridWalk, Range, TileDim, Walk

__all__ = ["PartProduct", "cut_parts", "merge_walks", "walk_part"]


@dataclass(frozen=True, slots=True)
class _Run:
    """Parts of one dimension that have one size: `count` side by side on as many cores from `core` on, in `rounds`."""

    start: int
    size: int
    count: int
    core: int
    rounds: int


@dataclass(frozen=True, slots=True)
class PartProduct:
    """A product of parts: its first batch dimensions are rows and columns of cores, then rounds over rows and over columns."""

    spec: MatmulSpec
    rows: _Run
    cols: _Run


def cut_parts(spec: MatmulSpec, part: tuple[int, int], grid: tuple[int, int]) -> list[PartProduct]:
    """The products of all parts of (m, n) elements, dealt to a grid (rows, cols) of cores."""
    return [
        PartProduct(_product(spec, rows, cols), rows, cols)
        for rows in _runs(spec.m, part[0], grid[0])
        for cols in _runs(spec.n, part[1], grid[1])
    ]


def walk_part(product: PartProduct, tile: tuple[int, int], grid: tuple[int, int], column_order: bool) -> Walk:
    """The grid of one product, and the range of every core in it; `tile` is (m, n) at L1."""
    spec, rows, cols = product.spec, product.rows, product.cols
    tiles = [TileDim(name, -(-size // edge)) for name, size, edge in zip("mn", (spec.m, spec.n), tile, strict=True)]
    inner = reversed(tiles) if column_order else tiles
    dims = [*(TileDim(f"b{i}", size) for i, size in enumerate(spec.batch)), *inner]
    axes = tuple(Axis(dim.name, dim.tiles) for dim in dims if dim.tiles > 1)
    each = rows.rounds * cols.rounds * prod(spec.batch[4:]) * tiles[0].tiles * tiles[1].tiles
    ranges = []
    for core in range(prod(grid)):
        row, col = core // grid[1] - rows.core, core % grid[1] - cols.core
        mine = 0 <= row < rows.count and 0 <= col < cols.count
        first = (row * cols.count + col) * each
        ranges.append(((first, first + each) if mine else (0, 0),))
    return Walk((GridWalk(axes or (Axis("n", 1),), {}),), tuple(ranges))


def _runs(size: int, part: int, cores: int) -> list[_Run]:
    whole, rest = divmod(size, part)
    rounds, left = divmod(whole, cores)
    runs = []
    if rounds:
        runs.append(_Run(0, part, cores, 0, rounds))
    if left:
        runs.append(_Run(rounds * cores * part, part, left, 0, 1))
    if rest:
        runs.append(_Run(whole * part, rest, 1, left, 1))
    return runs


def _product(spec: MatmulSpec, rows: _Run, cols: _Run) -> MatmulSpec:
    def view(each: MatView, row: int, col: int) -> MatView:
        """The view with the parts' batch dimensions; `row` and `col` are elements from one row or column of c to the next."""
        steps = (rows.size * row, cols.size * col, rows.size * rows.count * row, cols.size * cols.count * col)
        return replace(each, offset=each.offset + rows.start * row + cols.start * col, batch=(*steps, *each.batch))

    bias = None if spec.bias is None else view(spec.bias, 0, spec.bias.col)
    return replace(
        spec,
        m=rows.size,
        n=cols.size,
        a=view(spec.a, spec.a.row, 0),
        b=view(spec.b, 0, spec.b.col),
        c=view(spec.c, spec.c.row, spec.c.col),
        bias=bias,
        batch=(rows.count, cols.count, rows.rounds, cols.rounds, *spec.batch),
    )


def merge_walks(walks: Sequence[Walk]) -> Walk:
    """One walk of all grids, in order."""
    ranges: list[tuple[Range, ...]] = [
        tuple(r for each in cores for r in each) for cores in zip(*(walk.ranges for walk in walks), strict=True)
    ]
    return Walk(tuple(grid for walk in walks for grid in walk.grids), tuple(ranges))
