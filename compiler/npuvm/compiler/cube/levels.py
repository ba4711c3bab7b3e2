"""The levels of a chip that a matrix product runs through, and the tiles that fit them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.problem import CubeTile, TileProblem
from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.emit.symint import larger
from npuvm.compiler.errors import CompileError
from npuvm.compiler.tiles.levels import Level, Loop, grow

__all__ = [
    "Table",
    "are_finer",
    "are_wide",
    "buffer_bytes",
    "finer_tiles",
    "fitting",
    "given_room",
    "grown_tiles",
    "k_at_l1",
    "l0c_depths",
    "l0c_slots",
    "product_levels",
    "refuse",
    "ring_slots",
    "slot_bytes",
    "slots_of",
    "used_bytes",
]

Ints = npt.NDArray[np.int64]
Table = Ints
"""Candidates, one a row: m, n, k of the L1 level, then m, n, k of the L0 level."""

_Size = TypeVar("_Size", int, Ints)

_EDGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_BETWEEN = (5, 7, 9, 10, 11, 14, 20)
"""Edges between these, with which fewer cores are without work in the last round of tiles."""

_WIDE = (20, 30, 40, 48, 64)
"""Widths of tiles of few rows beside these: each core may then read one long part of every row of the right operand."""

_FEW = 2
"""Blocks of rows that such tiles have at most."""

_ONE_CORE = (13, 15, 17, 18, 22, 26, 28)
"""Heights of tiles beside these where one core has all tiles: it reads the right operand once for each row of them."""

_DEPTHS = (1, 2, 4, 8, 16, 32)

_DEPTHS_OF_ONE = {"l0": (3,), "l1": (3, 6)}
"""Steps over k beside these there, by level: what is left beside such tiles is rarely a power of two."""

_PARTS = {"l0": 4, "l1": 8}
"""A tile whose k is this many times in the longest that fits beside its m and n uses a level too little."""

_PARTS_BETWEEN = {"l0": 2, "l1": 8}
"""The same for tiles of `finer_tiles`, of which there are more."""


def product_levels(problem: TileProblem) -> tuple[Level, ...]:
    """From the cube's block to main memory. m and n are alike at L0 and L1; k at L1 is a multiple of k at L0."""
    m, n, k = Loop.SPATIAL, Loop.SPATIAL, Loop.REDUCTION
    loops = {"m": m, "n": n, "k": k}
    spread = {"batch": Loop.PARALLEL, "m": Loop.PARALLEL, "n": Loop.PARALLEL, "k": Loop.REDUCTION}
    out = ("l1", "ub") if problem.via_ub else ("l1",)
    return (
        Level("block", loops, "cube", "cube", "cube"),
        Level("l0", loops, "move", "cube", "cube", ("l0a", "l0b", "l0c"), {"m": _EDGES, "n": _EDGES, "k": _DEPTHS}),
        Level("l1", loops, "load", "move", "fixpipe", out, {"m": (1,), "n": (1,), "k": _DEPTHS}),
        Level("core", spread, "load", "load", "fixpipe"),
        Level("memory", spread, "l2", "core", "l2"),
    )


def grown_tiles(problem: TileProblem) -> tuple[Table, Ints]:
    """Every tile that fits the buffers, and the slots of its accumulator ring; no shape takes part."""
    return _grown(problem, product_levels(problem), _PARTS)


def finer_tiles(problem: TileProblem) -> tuple[Table, Ints]:
    """The same for tiles that have an edge between those of `grown_tiles`, and for wide ones of few rows.

    On a chip of one core also for tiles of other heights and steps over k. But for the wide ones none is a single block wide or
    high: those do little but load, for which other edges are good enough.
    """
    edges = tuple(sorted(_EDGES + _BETWEEN))
    table, slots = _grown(problem, _with_edges(problem, edges, edges), _PARTS_BETWEEN)
    between = _is_between(problem, table)
    wide, wide_slots = _grown(problem, _with_edges(problem, tuple(range(1, _FEW + 1)), _WIDE), _PARTS_BETWEEN)
    beside = ~_is_between(problem, wide)
    finer = np.concatenate([table[between], wide[beside]]), np.concatenate([slots[between], wide_slots[beside]])
    if problem.chip.core.count != 1:
        return finer
    more = _more_of_one(problem, edges, np.concatenate([grown_tiles(problem)[0], finer[0]]))
    return np.concatenate([finer[0], more[0]]), np.concatenate([finer[1], more[1]])


def _more_of_one(problem: TileProblem, edges: tuple[int, ...], known: Table) -> tuple[Table, Ints]:
    """Tiles for a chip of one core beside those that are `known`."""
    levels = [
        replace(level, multiples={**level.multiples, "k": _DEPTHS + _DEPTHS_OF_ONE[level.name]})
        if level.multiples is not None
        else level
        for level in _with_edges(problem, edges + _ONE_CORE, edges)
    ]
    table, slots = _grown(problem, levels, _PARTS_BETWEEN)
    first = np.unique(np.concatenate([known, table]), axis=0, return_index=True)[1]
    new = np.sort(first[first >= len(known)]) - len(known)
    new = new[(table[new, :2] > _block(problem)[:2]).all(axis=1)]
    return table[new], slots[new]


def are_wide(problem: TileProblem, table: Table) -> npt.NDArray[np.bool_]:
    """Which tiles are wide ones of few rows, which are of use where they have all rows: others read the right operand again."""
    return np.asarray(np.isin(table[:, 1] / _block(problem)[1], sorted({*_WIDE} - {*_EDGES, *_BETWEEN})))


def _is_between(problem: TileProblem, table: Table) -> npt.NDArray[np.bool_]:
    return are_finer(problem, table) & (table[:, :2] > _block(problem)[:2]).all(axis=1)


def _with_edges(problem: TileProblem, rows: tuple[int, ...], cols: tuple[int, ...]) -> list[Level]:
    """The levels of a product whose tiles have these edges, in blocks."""
    return [
        replace(level, multiples={**level.multiples, "m": rows, "n": cols})
        if level.name == "l0" and level.multiples is not None
        else level
        for level in product_levels(problem)
    ]


def are_finer(problem: TileProblem, table: Table) -> npt.NDArray[np.bool_]:
    """Which tiles have an edge between those of `grown_tiles`."""
    return np.asarray(np.isin(table[:, :2] / _block(problem)[:2], _BETWEEN).any(axis=1))


def _block(problem: TileProblem) -> tuple[int, int, int]:
    """What tiles grow from."""
    cube = problem.chip.core.cube
    return cube.m, max(cube.n, BLOCK_BYTES // problem.item), max(cube.k_bytes, BLOCK_BYTES) // problem.item


def _grown(problem: TileProblem, levels: Sequence[Level], parts: Mapping[str, int]) -> tuple[Table, Ints]:
    tiles = grow(levels, _block(problem), partial(_fits_level, problem, parts))
    return fitting(problem, np.concatenate([tiles[:, 3:], tiles[:, :3]], axis=1))


def _fits_level(problem: TileProblem, parts: Mapping[str, int], level: Level, tiles: Ints) -> npt.NDArray[np.bool_]:
    """Which tiles of a level fit its buffers and use them: k is not far below the longest that fits."""
    # The least tile at L1 is that at L0: a long k that only L0 has room for says nothing of others.
    spaces = _buffers(problem) if level.name == "l0" else level.buffers
    inside = _fits(problem, np.concatenate([tiles, tiles], axis=1), min(l0c_depths(problem)), spaces)
    _, pair = np.unique(tiles[:, :2], axis=0, return_inverse=True)
    longest = np.zeros(len(tiles), dtype=np.int64)
    np.maximum.at(longest, pair.ravel(), np.where(inside, tiles[:, 2], 0))
    return inside & (tiles[:, 2] * parts[level.name] >= longest[pair.ravel()])


def fitting(problem: TileProblem, table: Table) -> tuple[Table, Ints]:
    """The tiles of a table that fit the buffers, and as many slots of their accumulator rings as fit."""
    slots = l0c_slots(problem, table)
    return table[slots > 0], slots[slots > 0]


def l0c_slots(problem: TileProblem, table: Table) -> Ints:
    """The most slots of the accumulator ring that fit beside each tile; 0 where the tile does not fit."""
    slots = np.zeros(len(table), dtype=np.int64)
    for depth in sorted(l0c_depths(problem)):
        slots[_fits(problem, table, depth, _buffers(problem))] = depth
    return slots


def _buffers(problem: TileProblem) -> tuple[str, ...]:
    """The buffers that tiles of a product lie in."""
    return tuple(space for level in product_levels(problem) for space in level.buffers)


def _fits(problem: TileProblem, table: Table, l0c_depth: int, spaces: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which tiles fit the buffers named in `spaces` with so many accumulators."""
    used = used_bytes(problem, table, l0c_depth)
    inside = np.ones(len(table), dtype=bool)
    for space in spaces:
        inside &= used[space] <= problem.chip.capacity_bytes(space)
    return inside


def used_bytes(problem: TileProblem, table: Table, l0c_depth: int) -> dict[str, Ints]:
    """Bytes of each buffer that the rings of each candidate take."""
    return buffer_bytes(problem, slot_bytes(problem, table), l0c_depth, problem.bias_item > 0)


def buffer_bytes(problem: TileProblem, slots: Mapping[str, _Size], l0c_depth: int, has_bias: bool) -> dict[str, _Size]:
    """Bytes of each buffer that rings with slots of so many bytes take."""
    depth = problem.depth
    bias = slots["l1.bias"] * depth("l1.bias") + slots["ones"] if has_bias else 0
    return {
        "l1": slots["l1.a"] * depth("l1.a") + slots["l1.b"] * depth("l1.b") + bias,
        "l0a": slots["l0a"] * depth("l0a"),
        "l0b": slots["l0b"] * depth("l0b"),
        "l0c": slots["l0c"] * l0c_depth,
        "ub": slots["ub.c"] * depth("ub.c"),
    }


def l0c_depths(problem: TileProblem) -> tuple[int, ...]:
    """How many slots an accumulator ring may have, most first."""
    pinned = problem.pins.l0c_parts or problem.pins.ring_depth.get("l0c")
    if pinned is not None:
        return (pinned,)
    return tuple(range(problem.depth("l0c"), 0, -1))


def k_at_l1(problem: TileProblem, operand: str, k: _Size) -> _Size:
    """k of the L1 tile of operand a or b: the pinned one, or the tile's `k`."""
    pinned = problem.pins.l1_k.get(operand)
    return k if pinned is None else k * 0 + pinned


def slot_bytes(problem: TileProblem, table: Table) -> dict[str, Ints]:
    """Bytes of one slot of every ring, for each candidate."""
    return slots_of(problem, tuple(table.T), np.maximum)


def ring_slots(problem: TileProblem, tile: CubeTile) -> dict[str, int]:
    """Bytes of one slot of every ring, for one tile."""
    return slots_of(problem, (*tile.l1, *tile.l0), larger)


def slots_of(
    problem: TileProblem, tile: Sequence[_Size], larger_of: Callable[[_Size, _Size], _Size]
) -> dict[str, _Size]:
    """Bytes of one slot of every ring for the six sides of a tile, or of many; `larger_of` gives the larger of two sizes."""
    slots = _slots(problem, tile)
    for ring, least in _bias_at_l0(problem, *tile[:2]).items():
        slots[ring] = larger_of(slots[ring], least)
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


def given_room(problem: TileProblem) -> TileProblem:
    """The problem, with one slot in every ring where two leave no room for any tile and neither slots nor a tile are pinned."""
    pins = problem.pins
    is_given = (
        pins.l1_depth is not None or pins.l0c_parts is not None or pins.ring_depth or {"l1", "l0"} & set(pins.tile)
    )
    if pins.buffering == "single" or is_given or not _over(problem):
        return problem
    return replace(problem, pins=replace(pins, buffering="single"))


def _over(problem: TileProblem) -> list[tuple[str, int, int]]:
    """Buffers that the least tile does not fit, with their bytes and those that its rings take."""
    block = _block(problem)
    slots = slots_of(problem, (*block, *block), larger)
    used = buffer_bytes(problem, slots, min(l0c_depths(problem)), problem.bias_item > 0)
    room = {space: problem.chip.capacity_bytes(space) for space in _buffers(problem)}
    return [(space, room[space], used[space]) for space in room if used[space] > room[space]]


def refuse(problem: TileProblem) -> NoReturn:
    """CompileError that no tile fits the chip's buffers."""
    core = problem.chip.core
    sizes = ", ".join(f"core.{name}={getattr(core, name)}" for name in ("l1_kib", "l0a_kib", "l0b_kib", "l0c_kib"))
    least = " x ".join(str(side) for side in _block(problem))
    allowed = ", ".join(f"at most {room} bytes of {space}, not {used}" for space, room, used in _over(problem))
    raise CompileError(
        f"no tile of a matrix product fits {sizes} of {problem.chip.name} with these ring depths: the least is "
        f"{least} of {problem.dtype}; allowed: {allowed}"
    )
