"""The levels of a chip that a convolution runs through, and the tiles that fit them.

No shape takes part: how pixels of a tile are rows of a result, and what image they need, is known when there is one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.problem import TileProblem
from npuvm.compiler.emit.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.tiles.levels import Level, Loop, grow

__all__ = ["CHUNKS", "conv_block", "conv_levels", "grown_conv_tiles", "longest_steps"]

Ints = npt.NDArray[np.int64]

_PIXELS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 64)
_FILTERS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
_DEPTHS = (1, 2, 4, 8, 16, 32)
CHUNKS = (2, 4)
"""Steps in what lies of the kernels in L1, where it is not all."""

_PART = 2
"""A tile whose step is this many times in the longest that fits beside its pixels and filters uses L0 too little."""


def conv_levels(problem: TileProblem) -> tuple[Level, ...]:
    """From the cube's block to main memory: pixels of the result, filters, and elements of a kernel, which are added up.

    Pixels and filters are alike at L0 and L1. At L1 lies the image of the pixels, and of the kernels a number of steps.
    """
    loops = {"pixels": Loop.SPATIAL, "filters": Loop.SPATIAL, "elements": Loop.REDUCTION}
    parallel = dict.fromkeys(("images", "groups", "rows", "cols", "filters"), Loop.PARALLEL)
    out = ("l1", "ub") if problem.via_ub else ("l1",)
    edges = {"pixels": _PIXELS, "filters": _FILTERS, "elements": _DEPTHS}
    steps = {"pixels": (1,), "filters": (1,), "elements": (1, *CHUNKS)}
    return (
        Level("block", loops, "cube", "cube", "cube"),
        Level("l0", loops, "move", "cube", "cube", ("l0a", "l0b", "l0c"), edges),
        Level("l1", loops, "load", "move", "fixpipe", out, steps),
        Level("core", parallel, "load", "load", "fixpipe"),
        Level("memory", parallel, "l2", "core", "l2"),
    )


def conv_block(problem: TileProblem, planes: bool) -> tuple[int, int, int]:
    """Pixels, filters and elements of the least tile: a block of the cube, with rows of at least 32 bytes."""
    cube, least = problem.chip.core.cube, BLOCK_BYTES // problem.item
    m, n = cube.m, max(cube.n, least)
    return (n, m, _quantum(problem)) if planes else (m, n, _quantum(problem))


def grown_conv_tiles(problem: TileProblem, planes: bool) -> Ints:
    """Every tile that may fit: pixels, filters, elements of a step, and elements of a kernel in L1."""

    def fits(level: Level, tiles: Ints) -> npt.NDArray[np.bool_]:
        return _fits(problem, planes, level, tiles)

    return grow(conv_levels(problem), conv_block(problem, planes), fits)[:, [0, 1, 2, 5]]


def longest_steps(problem: TileProblem, planes: bool, pairs: Ints) -> Ints:
    """The most elements of a step that L0 has room for beside so many pixels and filters, which are pairs in rows."""
    pixels, filters = pairs.T
    m, n = (filters, pixels) if planes else (pixels, filters)
    item, unit, capacity = problem.item, _quantum(problem), problem.chip.capacity_bytes
    left = capacity("l0a") // (problem.depth("l0a") * m * item)
    right = capacity("l0b") // (problem.depth("l0b") * align_up(n * item))
    steps: Ints = np.minimum(np.minimum(left, right) // unit, _DEPTHS[-1]) * unit
    return steps


def _quantum(problem: TileProblem) -> int:
    return max(problem.chip.core.cube.k_bytes, BLOCK_BYTES) // problem.item


def _fits(problem: TileProblem, planes: bool, level: Level, tiles: Ints) -> npt.NDArray[np.bool_]:
    pixels, filters, elements = tiles.T
    m, n = (filters, pixels) if planes else (pixels, filters)
    item, depth = problem.item, problem.depth
    if level.name == "l0":
        used = {
            "l0a": depth("l0a") * m * align_up(elements * item),
            "l0b": depth("l0b") * elements * align_up(n * item),
            "l0c": m * align_up(n * problem.acc_item),
        }
    else:
        # An image has no fewer pixels than the result but where strides leave none out of few, and one block of channels.
        used = {
            "l1": item * (depth("l1.a") * pixels * _quantum(problem) + depth("l1.b") * filters * elements),
            "ub": depth("ub.c") * m * align_up(n * problem.out_item),
        }
    inside = np.ones(len(tiles), dtype=bool)
    for space in level.buffers:
        inside &= used[space] <= problem.chip.capacity_bytes(space)
    if level.name != "l0":
        return inside
    _, pair = np.unique(tiles[:, :2], axis=0, return_inverse=True)
    longest = np.zeros(len(tiles), dtype=np.int64)
    np.maximum.at(longest, pair.ravel(), np.where(inside, elements, 0))
    inside &= elements * _PART >= longest[pair.ravel()]
    return inside
