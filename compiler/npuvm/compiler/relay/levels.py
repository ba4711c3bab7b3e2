"""The levels of a chip that a relay runs through, and the tiles of its products that fit them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import reduce
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.levels import buffer_bytes, slots_of
from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.emit.symint import Function, SymInt, compile_values, larger
from npuvm.compiler.tiles.levels import Level, Loop, grow

__all__ = ["EDGES", "FittingTiles", "RelayRoom", "relay_bytes", "relay_levels", "room_key", "shared_slots"]

Ints = npt.NDArray[np.int64]

_Size = TypeVar("_Size", int, Ints)

EDGES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
"""Multiples of a block of 16 along the columns and the depth of a product."""

_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16)
"""Rows of a block, in those that are least."""


def relay_levels() -> tuple[Level, ...]:
    """From the cube's block to main memory, for one of a relay's products; tiles are alike at L0 and L1.

    Its vector segment has whole rows of a block in UB, as many as fit at a time; core groups share the blocks.
    """
    m, n, k = Loop.SPATIAL, Loop.SPATIAL, Loop.REDUCTION
    inner = {"m": m, "n": n, "k": k}
    outer = {"batch": Loop.PARALLEL, "m": Loop.PARALLEL, "n": n, "k": k}
    return (
        Level("block", inner, "cube", "cube", "cube"),
        Level("l0", inner, "move", "cube", "cube", ("l0a", "l0b", "l0c"), {"m": _ROWS, "n": EDGES, "k": EDGES}),
        Level("l1", inner, "load", "move", "fixpipe", ("l1",), {"m": (1,), "n": (1,), "k": (1,)}),
        Level("ub", {"m": m, "n": n}, "load", "vector", "store", ("ub",)),
        Level("core", outer, "load", "load", "fixpipe"),
        Level("memory", outer, "l2", "core", "l2"),
    )


def shared_slots(slots: Sequence[Mapping[str, _Size]], larger_of: Callable[[_Size, _Size], _Size]) -> dict[str, _Size]:
    """Bytes of one slot of every ring that products share: as large as the one needs that needs most of it."""
    return {ring: reduce(larger_of, [each[ring] for each in slots]) for ring in slots[0]}


def relay_bytes(
    problems: Sequence[TileProblem], m: _Size, tiles: Sequence[tuple[_Size, _Size]], larger_of: Callable[..., _Size]
) -> dict[str, _Size]:
    """Bytes of each buffer that tiles of m rows and (n, k) take, one of each product, in rings that all of them share.

    Steps along k are counted as whole blocks, of which tables are made.
    """
    slots = []
    for problem, (n, k) in zip(problems, tiles, strict=True):
        deep = align_up(k, BLOCK_BYTES // problem.item)
        slots.append(slots_of(problem, (m, n, deep, m, n, deep), larger_of))
    has_bias = any(each.bias_item for each in problems)
    found = buffer_bytes(problems[0], shared_slots(slots, larger_of), problems[0].depth("l0c"), has_bias)
    return {space: found[space] for space in ("l0a", "l0b", "l0c", "l1")}


def room_key(problem: TileProblem) -> tuple[Hashable, ...]:
    """What problems have in common on one chip whose `relay_bytes` are the same for any tile."""
    depths = tuple(problem.depth(ring) for ring in ("l0a", "l0b", "l0c", "l1.a", "l1.b", "l1.bias"))
    return problem.item, problem.acc_item, problem.bias_item, problem.a.flipped, problem.b.flipped, depths


class RelayRoom(NamedTuple):
    """Whether tiles of a relay's products fit its buffers together. Smaller ones along any side fit where larger ones do."""

    nbytes: Function
    room: tuple[int, ...]

    @staticmethod
    def of(problems: Sequence[TileProblem]) -> RelayRoom:
        """That of tiles at L0 and L1."""
        sides = [(f"n{at}", f"k{at}") for at in range(len(problems))]
        tiles = [(SymInt.variable(n), SymInt.variable(k)) for n, k in sides]
        found = relay_bytes(problems, SymInt.variable("m"), tiles, larger)
        return RelayRoom(
            compile_values(("m", *chain(*sides)), tuple(found.values())),
            tuple(problems[0].chip.capacity_bytes(each) for each in found),
        )

    def holds(self, m: int, tiles: Sequence[tuple[int, int]]) -> bool:
        """Whether there is room for tiles of m rows and these (n, k)."""
        l0a, l0b, l0c, l1 = self.nbytes(m, *chain(*tiles))
        left, inner, result, outer = self.room
        return bool(l0a <= left and l0b <= inner and l0c <= result and l1 <= outer)


class FittingTiles(NamedTuple):
    """For rows of a block the most columns beside each depth, and the greatest depth beside so many columns."""

    widest: Mapping[int, Mapping[int, int]]
    deepest: Mapping[int, Mapping[int, int]]

    @staticmethod
    def of(problem: TileProblem, least_rows: int) -> FittingTiles:
        """Grown from the block up, once for products that take as much room; no shape takes part."""
        key = (problem.chip.chip_hash, room_key(problem), least_rows)
        found = _GROWN.get(key)
        if found is None:
            if len(_GROWN) == _KEPT:
                _GROWN.clear()
            found = _GROWN[key] = _grown(problem, least_rows)
        return found

    def fitting(self, rows: int, n: int, k: int, whole_n: bool, whole_k: bool) -> tuple[int, int] | None:
        """(n, k) of the largest tile for a product of n columns and depth k, all of one of them where it has to be whole.

        None where the table has no tile of so many, which may fit all the same.
        """
        if whole_k:
            widest = self.widest.get(rows)
            width = widest.get(_covering(k), 0) if widest is not None and not whole_n else 0
            return (min(n, width), k) if width else None
        deepest = self.deepest.get(rows)
        if deepest is None:
            return None
        width = _covering(n)
        if not whole_n:
            most = max(deepest)
            width = min(most, width or most)
        depth = deepest.get(width, 0)
        return (min(n, width), min(k, depth)) if depth else None


_COVERED = tuple(next(16 * edge for edge in EDGES if edge >= blocks) for blocks in range(1, EDGES[-1] + 1))


def _covering(size: int) -> int:
    """The smallest edge that covers so many; 0 for none."""
    blocks = -(-size // 16)
    return _COVERED[blocks - 1] if blocks <= len(_COVERED) else 0


_GROWN: dict[Hashable, FittingTiles] = {}
_KEPT = 64


def _grown(problem: TileProblem, least_rows: int) -> FittingTiles:
    def fits(level: Level, tiles: Ints) -> npt.NDArray[np.bool_]:
        m, n, k = tiles.T
        found = relay_bytes((problem,), m, ((n, k),), np.maximum)
        inside = np.ones(len(tiles), dtype=bool)
        for space in level.buffers:
            inside &= found[space] <= problem.chip.capacity_bytes(space)
        return inside

    grown = grow(relay_levels(), (least_rows, 16, 16), fits)
    widest: dict[int, dict[int, int]] = {}
    deepest: dict[int, dict[int, int]] = {}
    for m, n, k in grown[:, -3:].tolist():
        by_depth, by_width = widest.setdefault(m, {}), deepest.setdefault(m, {})
        by_depth[k] = max(n, by_depth.get(k, 0))
        by_width[n] = max(k, by_width.get(n, 0))
    return FittingTiles(widest, deepest)
