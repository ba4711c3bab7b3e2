"""Tiles of a product, opened up: how they lie on its result and on the cores, what is in them, how their costs are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.codegen import MatmulKernel
from npuvm.compiler.cube.problem import CubeTile, Tail
from npuvm.compiler.tiles.levels import Analysis
from npuvm.compiler.tiles.library import find_library
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["Tiling", "costs_text", "even_counts", "image_counts", "tile_text", "tiling_of", "value_bytes"]


@dataclass(frozen=True, slots=True)
class Tiling:
    """`tiles` of a result in `rounds` on `cores`; `tail` says which are others behind those of the first part.

    `beyond` is the share of multiply-adds that the cube computes beside those of the result, because it takes whole blocks;
    `idle` that of cores which have no tile in the last round.
    """

    tiles: int
    cores: int
    rounds: int
    idle: float
    beyond: float
    tail: str = ""

    @property
    def text(self) -> str:
        """A line for people."""
        tiles = f"{self.tiles} tile{'s' if self.tiles > 1 else ''}"
        rounds = (
            f"{self.rounds} round{'s' if self.rounds > 1 else ''} on {self.cores} core{'s' if self.cores > 1 else ''}"
        )
        tail = f"; {self.tail}" if self.tail else ""
        return (
            f"{tiles}, {rounds}, {self.idle:.1%} of the last idle{tail}; "
            f"{self.beyond:.1%} of multiply-adds beyond the result"
        )


def tiling_of(
    sizes: tuple[int, int, int, int],
    tile: CubeTile,
    item: int,
    counts: Sequence[int],
    chip: NpuConfig,
    tail: Tail | None = None,
) -> Tiling:
    """The tiling of a product whose m, n, k and number of matrices are `sizes`, of elements of `item` bytes.

    `counts` are the tiles of each core that has some; with a `tail` the product is computed in two parts.
    """
    m, n, k, batch = sizes
    cube, cores = chip.core.cube, max(len(counts), chip.cores_with("cube"))
    blocks = cube.m, cube.n, cube.k_bytes // item
    parts, text = [(m, n, tile)], ""
    if tail is not None:
        parts = [(tail.rows, tail.cols, tail.main), (tail.rest_rows, tail.rest_cols, tail.rest)]
        begin = f"row {tail.rows}" if tail.rest_cols == tail.cols else f"column {tail.cols}"
        text = f"from {begin} on tiles of {tail.rest.l1[0]} x {tail.rest.l1[1]}"
    computed, tiles = 0, 0
    for rows, cols, own in parts:
        edges = zip((rows, cols, k), own.l1, own.l0, blocks, strict=True)
        computed += prod(_whole_blocks(*each) for each in edges)
        tiles += batch * -(-rows // own.l1[0]) * -(-cols // own.l1[1])
    rounds = max(counts)
    last = sum(count == rounds for count in counts)
    return Tiling(tiles, cores, rounds, 1 - last / cores, 1 - m * n * k / computed, text)


def image_counts(image: Image) -> list[int]:
    """The tiles of each core that a program is launched on."""
    return [sum(stop - start for start, stop in entry.ranges) for entry in image.entries]


def even_counts(tiles: int, cores: int) -> list[int]:
    """The same where cores share all tiles evenly."""
    used = min(tiles, cores)
    return [tiles // used + (core < tiles % used) for core in range(used)]


def _whole_blocks(size: int, l1: int, l0: int, block: int) -> int:
    """The size with each part of tiles rounded up to whole blocks."""

    def parts(length: int) -> int:
        full, tail = divmod(length, l0)
        return full * -(-l0 // block) + -(-tail // block)

    full, tail = divmod(size, l1)
    return (full * parts(l1) + parts(tail)) * block


def tile_text(sizes: Sequence[int], l0c_depth: int) -> str:
    """A tile of a product for people: m, n and k at L1 and at L0, and slots of its accumulators."""
    m, n, k, m0, n0, k0 = sizes
    return f"L1 {m} x {n} x {k}, L0 {m0} x {n0} x {k0}, {l0c_depth} accumulators"


def costs_text(chooser: TileChooser, chip: NpuConfig, isa: Isa) -> str:
    """How costs of tiles are known at the levels of the chip."""
    measured = [level.name for level in chooser.levels if level.analysis is Analysis.EMPIRICAL]
    others = [level.name for level in chooser.levels if level.name not in measured]
    formulas = f"{', '.join(others)} by formulas"
    if chooser.library is not None:
        known = np.concatenate([kernels.measured for kernels in chooser.library.sorts.values()])
        tiles = f"{known.sum()} of {len(known)} tiles in {chooser.library.path.name}"
        return f"{', '.join(measured)} by measurements of {tiles}; {formulas}"
    return formulas if find_library(chip, isa) else f"{formulas}; `npuvm tune` measures those of one core"


def value_bytes(kernel: MatmulKernel) -> dict[str, int]:
    """Bytes of the elements of one tile of each ring."""
    problem, ((m, n, k), (m0, n0, k0)) = kernel.problem, (kernel.tile.l1, kernel.tile.l0)
    item = problem.item
    a_k, b_k = problem.pins.l1_k.get("a", k), problem.pins.l1_k.get("b", k)
    return {
        "l0c": m // (problem.pins.l0c_parts or 1) * n * problem.acc_item,
        "l1.a": m * a_k * item,
        "l1.b": b_k * n * item,
        "l1.bias": n * problem.bias_item,
        "l0a": m0 * k0 * item,
        "l0b": k0 * n0 * item,
        "ub.c": m * n * problem.out_item,
    }
