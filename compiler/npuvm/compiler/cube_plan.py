"""The choice of tiles of a matrix product: a table of candidates that fit the buffers; the cheapest is taken.

Everything is numpy over the table; there is no loop over tiles or candidates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from npuvm.compiler.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.cube_choice import TileSearch
from npuvm.compiler.cube_cost import RINGS, ProductCost, ProductSizes, TileProblem
from npuvm.compiler.cube_spec import MatmulSpec
from npuvm.compiler.errors import CompileError
from npuvm.compiler.schedule import pin_error
from npuvm.compiler.symint import larger

__all__ = ["CubeTile", "candidate_tiles", "choose_tile", "k_at_l1", "slot_bytes"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Table = Ints
"""Candidates, one a row: m, n, k of the L1 level, then m, n, k of the L0 level."""

_Size = TypeVar("_Size", int, Ints)

_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_DEPTHS = (1, 2, 4, 8, 16)

_KEPT_TILES = 256
"""Sizes whose tiles a chooser keeps: a product is asked for as part of one launch and again on its own."""


@dataclass(frozen=True, slots=True)
class CubeTile:
    """The chosen tile (m, n, k) at L1 and at L0, slots of the accumulator ring, and the estimated cycles."""

    l1: tuple[int, int, int]
    l0: tuple[int, int, int]
    l0c_depth: int
    cycles: int


def k_at_l1(problem: TileProblem, operand: str, k: _Size) -> _Size:
    """k of the L1 tile of operand a or b: the pinned one, or the tile's `k`."""
    pinned = problem.pins.l1_k.get(operand)
    return k if pinned is None else k * 0 + pinned


def slot_bytes(problem: TileProblem, table: Table) -> dict[str, Ints]:
    """Bytes of one slot of every ring, for each candidate."""
    slots = _slots(problem, tuple(table.T))
    for ring, least in _bias_at_l0(problem, table[:, 0], table[:, 1]).items():
        slots[ring] = np.maximum(slots[ring], least)
    return slots


def ring_slots(problem: TileProblem, tile: CubeTile) -> dict[str, int]:
    """Bytes of one slot of every ring, for one tile."""
    slots = _slots(problem, (*tile.l1, *tile.l0))
    for ring, least in _bias_at_l0(problem, *tile.l1[:2]).items():
        slots[ring] = larger(slots[ring], least)
    return slots


def _slots(problem: TileProblem, tile: Sequence[_Size]) -> dict[str, _Size]:
    m, n, k, m0, n0, k0 = tile
    item = problem.item
    a_k, b_k = k_at_l1(problem, "a", k), k_at_l1(problem, "b", k)
    a_rows, a_cols = (a_k, m) if problem.a.flipped else (m, a_k)
    b_rows, b_cols = (n, b_k) if problem.b.flipped else (b_k, n)
    return {
        "l1.a": a_rows * align_up(a_cols * item),
        "l1.b": b_rows * align_up(b_cols * item),
        "l1.bias": align_up(n * problem.bias_item),
        "ones": align_up(m * problem.bias_item),
        "l0a": m0 * align_up(k0 * item),
        "l0b": k0 * align_up(n0 * item),
        "l0c": m // (problem.pins.l0c_parts or 1) * align_up(n * problem.acc_item),
        "ub.c": m * align_up(n * problem.out_item) if problem.via_ub else m * 0,
    }


def _bias_at_l0(problem: TileProblem, m: _Size, n: _Size) -> dict[str, _Size]:
    """Bytes that the product of a column of ones and the bias needs in the rings at L0."""
    if not problem.bias_item:
        return {}
    return {"l0a": m * BLOCK_BYTES, "l0b": align_up(n * problem.bias_item)}


def _used(problem: TileProblem, slots: Mapping[str, Ints], l0c_depth: int) -> dict[str, Ints]:
    depth = problem.depth
    bias = slots["l1.bias"] * depth("l1.bias") + slots["ones"] if problem.bias_item else 0
    return {
        "l1": slots["l1.a"] * depth("l1.a") + slots["l1.b"] * depth("l1.b") + bias,
        "l0a": slots["l0a"] * depth("l0a"),
        "l0b": slots["l0b"] * depth("l0b"),
        "l0c": slots["l0c"] * l0c_depth,
        "ub": slots["ub.c"] * depth("ub.c"),
    }


def _fits(problem: TileProblem, table: Table, l0c_depth: int) -> npt.NDArray[np.bool_]:
    used = _used(problem, slot_bytes(problem, table), l0c_depth)
    spaces = ("l1", "l0a", "l0b", "l0c") + (("ub",) if problem.via_ub else ())
    fits = np.ones(len(table), dtype=bool)
    for space in spaces:
        fits &= used[space] <= problem.chip.capacity_bytes(space)
    return fits


def _l0c_depths(problem: TileProblem) -> tuple[int, ...]:
    pinned = problem.pins.l0c_parts or problem.pins.ring_depth.get("l0c")
    return (pinned,) if pinned is not None else (2, 1)


@dataclass(frozen=True)
class _TableKey:
    """Compares problems by what the table of candidates depends on."""

    problem: TileProblem

    def _key(self) -> tuple[Any, ...]:
        p = self.problem
        depths = tuple(p.depth(ring) for ring in RINGS) + _l0c_depths(p)
        return (p.dtype, p.out_item, p.bias_item, p.a.flipped, p.b.flipped, p.via_ub, p.pins.order, depths, p.isa.hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _TableKey) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


def _grow(problem: TileProblem) -> Table:
    """Products of multiples of the cube's block: m and n the same at both levels, k at L1 a multiple of k at L0."""
    cube = problem.chip.core.cube
    k_block = max(cube.k_bytes, BLOCK_BYTES) // problem.item
    m = np.array(_EDGES, dtype=np.int64) * cube.m
    n = np.array(_EDGES, dtype=np.int64) * max(cube.n, BLOCK_BYTES // problem.item)
    k0 = np.array(_EDGES, dtype=np.int64) * k_block
    mm, nn, kk, depth = (g.ravel() for g in np.meshgrid(m, n, k0, np.array(_DEPTHS), indexing="ij"))
    return np.stack([mm, nn, kk * depth, mm, nn, kk], axis=1)


def _fitting(problem: TileProblem, table: Table) -> tuple[Table, Ints]:
    slots = np.zeros(len(table), dtype=np.int64)
    for depth in sorted(_l0c_depths(problem)):
        slots[_fits(problem, table, depth)] = depth
    return table[slots > 0], slots[slots > 0]


def _pinned_table(problem: TileProblem, spec: MatmulSpec) -> Table:
    """Candidates for a pinned L1 or L0 tile; the other level is filled in."""
    l1, l0 = problem.pins.tile.get("l1"), problem.pins.tile.get("l0")
    cube = problem.chip.core.cube
    k_block = max(cube.k_bytes, BLOCK_BYTES) // problem.item
    if l1 is not None and l0 is not None:
        return np.array([[*l1, *l0]], dtype=np.int64)
    if l0 is not None:
        m0, n0, k0 = l0
        return np.array([[m0, n0, k0 * depth, m0, n0, k0] for depth in _DEPTHS], dtype=np.int64)
    assert l1 is not None
    m, n, k = l1
    choices = [
        [
            part
            for part in {-(-size // cut) for cut in (*range(1, 9), 16, 32, 64)}
            if part == size or _whole(size, part, block)
        ]
        for size, block in ((m, cube.m), (n, max(cube.n, BLOCK_BYTES // problem.item)), (k, k_block))
    ]
    return np.array([[m, n, k, *inner] for inner in _product(choices)], dtype=np.int64)


def _whole(size: int, part: int, block: int) -> bool:
    return size % part == 0 and part % block == 0


def _product(choices: list[list[int]]) -> list[tuple[int, int, int]]:
    return [(m, n, k) for m in choices[0] for n in choices[1] for k in choices[2]]


def _check_divides(problem: TileProblem, spec: MatmulSpec) -> None:
    """A pinned L0 tile must cut its L1 tile into whole, aligned parts."""
    l1, l0 = problem.pins.tile.get("l1"), problem.pins.tile.get("l0")
    if l1 is None or l0 is None:
        return
    sizes = (spec.m, spec.n, spec.k)
    steps = {
        "m": BLOCK_BYTES // problem.item if problem.a.flipped else 1,
        "n": BLOCK_BYTES // (4 if problem.b.flipped else min(problem.item, 4)),
        "k": 1 if problem.a.flipped and not problem.b.flipped else BLOCK_BYTES // problem.item,
    }
    for at, (dim, step) in enumerate(steps.items()):
        if l0[at] >= l1[at] == l0[at]:
            continue
        if l0[at] > l1[at] or (l1[at] % l0[at] and sizes[at] > l1[at]) or l0[at] % step:
            allowed = f"an L0 {dim} that divides the L1 {dim} of {l1[at]}" + (
                f" and is a multiple of {step}" if step > 1 else ""
            )
            pin_error("tile.l0", l0, allowed)


def choose_tile(problem: TileProblem, spec: MatmulSpec, cores: int) -> CubeTile:
    """The cheapest candidate for these sizes on `cores` cores; CompileError when none fits the chip's buffers."""
    if problem.pins.tile.get("l1") is None and problem.pins.tile.get("l0") is None:
        return chooser_of(problem, cores).choose(sizes_of(problem, spec))
    return _cheapest(*candidate_tiles(problem, spec, cores))


def candidate_tiles(problem: TileProblem, spec: MatmulSpec, cores: int) -> tuple[Table, Ints, Floats]:
    """The candidates of `choose_tile`, the slots of their accumulator rings, and their estimated cycles."""
    sizes = sizes_of(problem, spec)
    if problem.pins.tile.get("l1") is None and problem.pins.tile.get("l0") is None:
        return chooser_of(problem, cores).candidates(sizes)
    _check_divides(problem, spec)
    table, depths = _fitting(problem, _pinned_table(problem, spec))
    if not len(table):
        _refuse_pinned(problem, spec)
    inside = np.minimum(table, np.tile([max(size, 1) for size in sizes[:3]], 2))
    return table, depths, ProductCost(problem, cores).cycles(sizes, inside, depths)


def _cheapest(table: Table, depths: Ints, cycles: Floats) -> CubeTile:
    best = int(np.argmin(cycles))
    m, n, k, m0, n0, k0 = table[best].tolist()
    return CubeTile((m, n, k), (m0, n0, k0), int(depths[best]), int(cycles[best]))


def sizes_of(problem: TileProblem, spec: MatmulSpec) -> ProductSizes:
    """What a product's estimate depends on besides its sort."""
    return ProductSizes(spec.m, spec.n, spec.k, prod(spec.batch), problem.a.pitch, problem.b.pitch)


def chooser_of(problem: TileProblem, cores: int) -> TileChooser:
    """The chooser for products of one sort, made once; CompileError when no tile fits the chip's buffers."""
    return _chooser(problem.chip.chip_hash, _TableKey(problem), cores)


@lru_cache(maxsize=64)
def _chooser(chip_hash: str, key: _TableKey, cores: int) -> TileChooser:
    return TileChooser(key.problem, cores)


class TileChooser:
    """Chooses among the tiles that fit, for any sizes with elements; k may be 0."""

    def __init__(self, problem: TileProblem, cores: int) -> None:
        self._table, self._depths = _fitting(problem, _grow(problem))
        if not len(self._table):
            _refuse(problem)
        self._edges = tuple(np.unique(column).tolist() for column in self._table.T[3:])
        self._within: dict[tuple[int, ...], tuple[Table, Ints, Ints]] = {}
        self._cost = ProductCost(problem, cores)
        self._search = TileSearch(self._table, self._depths, self._cost)
        self._known: dict[ProductSizes, CubeTile] = {}

    def choose(self, sizes: ProductSizes) -> CubeTile:
        """A tile whose estimate is the lowest or some percent above it, found without estimating all candidates."""
        found = self._known.get(sizes)
        if found is None:
            if len(self._known) == _KEPT_TILES:
                self._known.clear()
            found = self._known[sizes] = self._found(sizes)
        return found

    def _found(self, sizes: ProductSizes) -> CubeTile:
        if not sizes.k:
            return _cheapest(*self.candidates(sizes))
        m, n, k, k0, slots, cycles = self._search.choose(sizes)
        return CubeTile((m, n, k), (m, n, k0), slots, int(cycles))

    def estimate(self, sizes: ProductSizes) -> Callable[..., float]:
        """The estimate for m, n, k at L1, k at L0 and slots of the accumulator ring, given as plain numbers."""
        return self._search.estimate(*sizes)

    def candidates(self, sizes: ProductSizes) -> tuple[Table, Ints, Floats]:
        """Tiles no larger than the matrices, and their estimates. Of those that become equal, the smallest is kept."""
        limits = (sizes.m, sizes.n, max(sizes.k, 1))
        most = tuple(
            [
                edges[min(bisect_left(edges, limit), len(edges) - 1)]
                for edges, limit in zip(self._edges, limits, strict=True)
            ]
        )
        table, depths, before = self._within.get(most) or self._up_to(most)
        kept = before < limits[2]
        table, depths = np.minimum(table[kept], limits * 2), depths[kept]
        return table, depths, self._cost.cycles(sizes, table, depths)

    def _up_to(self, most: tuple[int, ...]) -> tuple[Table, Ints, Ints]:
        """Tiles with edges at L0 up to `most`, their accumulators, and how much of k at L1 comes before the last part at L0."""
        kept = (self._table[:, 3:] <= most).all(axis=1)
        table = self._table[kept]
        found = self._within[most] = table, self._depths[kept], table[:, 2] - table[:, 5]
        return found


def _refuse(problem: TileProblem) -> NoReturn:
    core = problem.chip.core
    sizes = ", ".join(f"core.{name}={getattr(core, name)}" for name in ("l1_kib", "l0a_kib", "l0b_kib", "l0c_kib"))
    raise CompileError(f"no tile of a matrix product fits {sizes} of {problem.chip.name} with these ring depths")


def _refuse_pinned(problem: TileProblem, spec: MatmulSpec) -> None:
    level = "l1" if "l1" in problem.pins.tile else "l0"
    table = _pinned_table(problem, spec)
    used = _used(problem, slot_bytes(problem, table), min(_l0c_depths(problem)))
    over = []
    for space, values in used.items():
        needed, capacity = int(np.min(values)), problem.chip.capacity_bytes(space)
        if needed > capacity:
            over.append(f"at most {capacity} bytes of {space}, not {needed}")
    pin_error(
        f"tile.{level}", problem.pins.tile[level], ", ".join(over) or "a tile whose parts fit the buffers together"
    )
