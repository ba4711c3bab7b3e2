"""The levels of a chip that a relay runs through, and the tiles of its products that fit them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from npuvm.compiler.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.cube_problem import TileProblem
from npuvm.compiler.tile_levels import Level, Loop, grow

__all__ = ["DEPTH", "EDGES", "FittingTiles", "product_fits", "relay_levels"]

Ints = npt.NDArray[np.int64]

_Size = TypeVar("_Size", int, Ints)

EDGES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
"""Multiples of a block of 16 along the columns and the depth of a product."""

_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16)
"""Rows of a block, in those that are least."""

DEPTH = 2
"""Accumulators: one tile leaves while the next is added up."""


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


def product_fits(problem: TileProblem, bias_item: int, m: _Size, n: _Size, k: _Size, spaces: tuple[str, ...]) -> Any:
    """Whether a tile, or which tiles, fit the buffers named in `spaces`, with `bias_item` bytes of a bias for each column."""
    room, item = problem.chip.capacity_bytes, problem.item
    left, width = m * align_up(k * item), align_up(n * item)
    inner = width * align_up(k, BLOCK_BYTES // item)
    right = align_up(n, 16) * align_up(k * item) if problem.b.flipped else inner
    bias = DEPTH * align_up(n * bias_item) + align_up(m * bias_item)
    inside = {
        "l0a": left * problem.depth("l0a") <= room("l0a"),
        "l0b": inner * problem.depth("l0b") <= room("l0b"),
        "l0c": m * align_up(n * problem.acc_item) * DEPTH <= room("l0c"),
        "l1": left * problem.depth("l1.a") + right * problem.depth("l1.b") + bias <= room("l1"),
    }
    fits = inside[spaces[0]]
    for space in spaces[1:]:
        fits = fits & inside[space]
    return fits


class FittingTiles(NamedTuple):
    """For rows of a block the most columns beside each depth, and the greatest depth beside so many columns."""

    widest: Mapping[int, Mapping[int, int]]
    deepest: Mapping[int, Mapping[int, int]]

    @staticmethod
    def of(problem: TileProblem, bias_item: int, least_rows: int) -> FittingTiles:
        """Grown from the block up; no shape takes part."""

        def fits(level: Level, tiles: Ints) -> npt.NDArray[np.bool_]:
            found = product_fits(problem, bias_item, tiles[:, 0], tiles[:, 1], tiles[:, 2], level.buffers)
            return np.asarray(found)

        grown = grow(relay_levels(), (least_rows, 16, 16), fits)
        widest: dict[int, dict[int, int]] = {}
        deepest: dict[int, dict[int, int]] = {}
        for m, n, k in grown[:, -3:].tolist():
            by_depth, by_width = widest.setdefault(m, {}), deepest.setdefault(m, {})
            by_depth[k] = max(n, by_depth.get(k, 0))
            by_width[n] = max(k, by_width.get(n, 0))
        return FittingTiles(widest, deepest)

    def fitting(self, rows: int, n: int, k: int, whole_n: bool, whole_k: bool) -> tuple[int, int] | None:
        """(n, k) of the largest tile for a product of n columns and depth k, all of one of them where it has to be whole.

        None where the table has no tile of so many, which may fit all the same.
        """
        widest, deepest = self.widest.get(rows), self.deepest.get(rows)
        if widest is None or deepest is None or (whole_n and whole_k):
            return None
        if whole_k:
            width = widest.get(_covering(k), 0)
            return (min(n, width), k) if width else None
        width = _covering(n) if whole_n else min(max(deepest), _covering(n) or max(deepest))
        depth = deepest.get(width, 0)
        return (min(n, width), min(k, depth)) if depth else None


_COVERED = tuple(next(16 * edge for edge in EDGES if edge >= blocks) for blocks in range(1, EDGES[-1] + 1))


def _covering(size: int) -> int:
    """The smallest edge that covers so many; 0 for none."""
    blocks = -(-size // 16)
    return _COVERED[blocks - 1] if blocks <= len(_COVERED) else 0
