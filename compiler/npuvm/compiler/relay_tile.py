"""Blocks, tiles and runs of a relay: as much as fits the buffers, spread evenly over the core groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import inf, prod
from typing import NamedTuple

from npuvm.compiler.blocks import align_up
from npuvm.compiler.cube_problem import TileProblem
from npuvm.compiler.relay_handover import SLOTS
from npuvm.compiler.relay_levels import EDGES, FittingTiles, product_fits
from npuvm.compiler.symint import Function
from npuvm.hw.config import NpuConfig

__all__ = ["Block", "BlockChooser", "ProductShape", "RelaySizes", "Runs", "spread"]

_EDGES = tuple(16 * edge for edge in reversed(EDGES))
"""Sides of a tile of a product, the largest first."""

_SPACES = ("l0a", "l0b", "l0c", "l1")

_CUTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Parts that a core's rows of a block are cut into, as few as fit UB."""

_BLOCK_COST = 32
"""What a block costs whatever its size, as so many rows."""

_LIKELY, _NEAR = 3, 1.35
"""Blocks that are estimated at most, and how much more rows than the fewest the busiest group may have with them."""


class ProductShape(NamedTuple):
    """Columns and depth of a product, and which of them has to be in one tile."""

    n: int
    k: int
    whole_n: bool
    whole_k: bool


class RelaySizes(NamedTuple):
    """What blocks are chosen for: rows and columns of the vector segment, its batch dims, the products, bytes that a row takes
    between the parts, and those of each product's right operand.
    """

    rows: int
    cols: int
    batch: tuple[int, ...]
    shapes: tuple[ProductShape, ...]
    row_bytes: int
    read: tuple[int, ...]


class Block(NamedTuple):
    """Rows of a block, parts that each vector core cuts its own into, and (n, k) of the tiles of each product."""

    rows: int
    parts: int
    tiles: tuple[tuple[int, int], ...]


class Runs(NamedTuple):
    """How blocks along a dim are cut into runs: their number, blocks in each but the last, and in that."""

    runs: int
    most: int
    tail: int


@dataclass(frozen=True)
class BlockChooser:
    """Chooses blocks that fit a chip. `nbytes` gives the bytes of UB for rows x columns, of which `cores` cores have a part."""

    chip: NpuConfig
    problems: tuple[TileProblem, ...]
    nbytes: Function
    cores: int

    def likely(self, sizes: RelaySizes) -> Iterator[Block]:
        """The blocks that are worth an estimate: those with which the group with most rows has fewest.

        Where L2 has no room for all blocks that are on their way, the smaller ones come first.
        """
        rows, matrices = sizes.rows, prod(sizes.batch)
        groups = self.chip.cores_with("cube")
        room = self.chip.memory.l2.capacity_mib << 19

        ordered = []
        for size in self._rows:
            crowded = SLOTS * groups * size * sizes.row_bytes > room
            rounds = -(-matrices * -(-rows // size) // groups)
            ordered.append((crowded, size if crowded else rounds * (size + _BLOCK_COST), -size))
        ordered.sort()
        found, most = 0, inf
        for crowded, cost, size in ordered:
            if found == _LIKELY or (found and (crowded or cost > most)):
                return
            block = self._block(-size, sizes.cols, sizes.shapes)
            if block is not None:
                found, most = found + 1, min(most, _NEAR * cost)
                yield block

    def _block(self, size: int, cols: int, shapes: Sequence[ProductShape]) -> Block | None:
        tiles = []
        for at, shape in enumerate(shapes):
            tile = self._tables[at].fitting(size, *shape) or next(self.tiles(at, size, shape, _EDGES), None)
            if tile is None:
                return None
            tiles.append(tile)
        return self._in_parts(size, cols, tiles)

    def _in_parts(self, size: int, cols: int, tiles: Sequence[tuple[int, int]]) -> Block | None:
        """The block in as few parts as fit; None where none do."""
        room = self.chip.capacity_bytes("ub") - self._result_bytes(size, tiles)
        own = size // self.cores
        for parts in _CUTS:
            if own % parts == 0 and self.nbytes(own // parts, cols)[0] <= room:
                return Block(size, parts, tuple(tiles))
        return None

    def blocks(self, rows: int, sizes: RelaySizes, edges: Sequence[int]) -> Iterator[Block]:
        """Every block of so many rows, with tiles of these edges, that fits in as few parts as there can be."""
        if rows % (8 * self.cores):
            return
        tiles = [tuple(self.tiles(at, rows, shape, edges)) for at, shape in enumerate(sizes.shapes)]
        for chosen in product(*tiles):
            block = self._in_parts(rows, sizes.cols, chosen)
            if block is not None:
                yield block

    @cached_property
    def _tables(self) -> tuple[FittingTiles, ...]:
        """By product the tiles that fit, whatever the shape."""
        return tuple(FittingTiles.of(each, self._bias_item, 8 * self.cores) for each in self.problems)

    @cached_property
    def _rows(self) -> tuple[int, ...]:
        """Rows that blocks may have."""
        return tuple(sorted(set.intersection(*(set(each.widest) for each in self._tables))))

    @cached_property
    def _bias_item(self) -> int:
        return max(each.bias_item for each in self.problems)

    def _result_bytes(self, size: int, tiles: Sequence[tuple[int, int]]) -> int:
        """Bytes of UB that results take on their way out."""
        problem = self.problems[0]
        if not problem.via_ub:
            return 0
        return max(
            problem.depth("ub.c") * size * align_up(tile[0] * each.out_item)
            for tile, each in zip(tiles, self.problems, strict=True)
        )

    def tiles(self, at: int, m: int, shape: ProductShape, edges: Sequence[int]) -> Iterator[tuple[int, int]]:
        """(n, k) of the tiles of a product that fit with m rows, large n first; the same at L1 and at L0."""
        for n in [shape.n] if shape.whole_n else dict.fromkeys(min(edge, shape.n) for edge in edges):
            for k in [shape.k] if shape.whole_k else dict.fromkeys(min(edge, shape.k) for edge in edges):
                if product_fits(self.problems[at], self._bias_item, m, n, k, _SPACES):
                    yield n, k


def spread(matrices: int, blocks: int, groups: int) -> Runs:
    """Runs of the blocks of each matrix so that the group with the most has as little as can be, with few runs.

    A run costs a block more than it has, in which its parts do not work at the same time.
    """
    best, least, rounds = Runs(1, blocks, blocks), -(-matrices // groups) * (blocks + 1), 0
    while 2 * (rounds + 1) < least:
        rounds += 1
        # As many runs as so many rounds have room for.
        most = -(-blocks // max(1, min(blocks, rounds * groups // matrices)))
        count = -(-blocks // most)
        cost = -(-matrices * count // groups) * (most + 1)
        if cost < least:
            best, least = Runs(count, most, blocks - (count - 1) * most), cost
    return best
