"""Other ways to choose a tile of a convolution, as functions of its sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from benchmarks.tiles.conv_oracle import ConvOracle, legal_tiles

from npuvm.compiler.conv.plan import ConvTile
from npuvm.compiler.conv.spec import ConvSizes
from npuvm.hw.config import NpuConfig

__all__ = ["ConvChoice", "conv_rivals"]

ConvChoice = Callable[[ConvSizes], ConvTile]

_FIXED = (128, 128)
"""Pixels and filters of the fixed tile: a square base block that L0 holds; chosen here, for no rule is published."""

_FIXED_STEP = 64


def conv_rivals(oracle: ConvOracle, planes: bool, chip: NpuConfig) -> dict[str, ConvChoice]:
    """Ways to choose, by name.

    `formulas` is the compiler's own. `all tiles` takes the lowest estimate of all legal tiles, not only of the compiler's
    candidates. `rounds only` takes the fewest rounds of tiles, of those the smallest ones with the longest steps; `pipe only`
    takes the least work of a core for all tiles, with no rounding to rounds. `fixed tile` is up to 128 pixels, in whole
    rows where a row is no longer, by 128 filters in steps of up to 64, clipped to the shape and to what fits; in L1 lies as
    much as fits.
    """
    chooser, cores = oracle.chooser(planes), chip.cores_with("cube")
    cost = chooser.cost

    def every(sizes: ConvSizes) -> ConvTile:
        space = legal_tiles(sizes, cost)
        return space.tile(int(np.argmin(space.estimates)))

    def rounds(sizes: ConvSizes) -> ConvTile:
        space = legal_tiles(sizes, cost)
        rows, cols, filters, _, chunk, step = space.tiles
        order = np.lexsort((-chunk, -step, rows * cols * filters, np.ceil(space.counts / cores)))
        return space.tile(int(order[0]))

    def pipe(sizes: ConvSizes) -> ConvTile:
        space = legal_tiles(sizes, cost)
        return space.tile(int(np.argmin(space.counts * space.later)))

    def fixed(sizes: ConvSizes) -> ConvTile:
        space = legal_tiles(sizes, cost)
        rows, cols, filters, block, chunk, step = space.tiles
        pixels = rows * cols
        fits = (pixels <= _FIXED[0]) & (filters <= _FIXED[1]) & (step <= _FIXED_STEP)
        if not fits.any():
            fits = np.ones(len(pixels), dtype=bool)
        whole = space.whole if sizes.out[1] <= _FIXED[0] else ~space.whole
        order = np.lexsort((-chunk, -block, -step, -(pixels * filters), ~whole, ~fits))
        return space.tile(int(order[0]))

    return {
        "formulas": lambda sizes: chooser.choose(sizes, "conv"),
        "all tiles": every,
        "rounds only": rounds,
        "pipe only": pipe,
        "fixed tile": fixed,
    }
