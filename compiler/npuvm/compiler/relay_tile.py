"""Blocks, tiles and runs of a relay: as much as fits the buffers, spread evenly over the core groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import NamedTuple

from npuvm.compiler.blocks import BLOCK_BYTES, align_up
from npuvm.compiler.cube_problem import TileProblem
from npuvm.compiler.relay_handover import SLOTS
from npuvm.compiler.symint import Function
from npuvm.hw.config import NpuConfig

__all__ = ["Block", "BlockChooser", "ProductShape", "RelaySizes", "Runs", "spread"]

_BLOCKS = (128, 96, 64, 48, 32, 16)
"""Rows of a block that are tried."""

_EDGES = (256, 192, 128, 96, 64, 48, 32, 16)
"""Sides of a tile of a product that are tried, the largest that fits first."""

_CUTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Parts that a core's rows of a block are cut into, as few as fit UB."""

_BLOCK_COST = 32
"""What a block costs whatever its size, as so many rows."""

_DEPTH = 2
"""Accumulators: one tile leaves while the next is added up."""


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


class _Limits(NamedTuple):
    """Bytes of an element and an accumulator, whether b lies transposed, room for one slot at L0, all of L1, the slots of both
    operands there, and bytes of an element of a bias.
    """

    item: int
    acc_item: int
    flipped: bool
    l0c: int
    l0a: int
    l0b: int
    l1: int
    depth_a: int
    depth_b: int
    bias_item: int


@dataclass(frozen=True)
class BlockChooser:
    """Chooses blocks that fit a chip. `nbytes` gives the bytes of UB for rows x columns, of which `cores` cores have a part."""

    chip: NpuConfig
    problems: tuple[TileProblem, ...]
    nbytes: Function
    cores: int

    def choose(self, sizes: RelaySizes) -> Block | None:
        """The block with which the group with most rows has fewest; None where none fits.

        Where L2 has no room for all blocks that are on their way, smaller ones are taken.
        """
        rows, matrices = sizes.rows, prod(sizes.batch)
        groups = self.chip.cores_with("cube")
        room = self.chip.memory.l2.capacity_mib << 19

        def cost(size: int) -> tuple[bool, int, int]:
            crowded = SLOTS * groups * size * sizes.row_bytes > room
            rounds = -(-matrices * -(-rows // size) // groups)
            return crowded, size if crowded else rounds * (size + _BLOCK_COST), -size

        whole = [size for size in _BLOCKS if size // self.cores % 8 == 0]
        made = (self._block(size, sizes.cols, sizes.shapes) for size in sorted(whole, key=cost))
        return next((block for block in made if block is not None), None)

    def _block(self, size: int, cols: int, shapes: Sequence[ProductShape]) -> Block | None:
        tiles = [self._tile(limits, size, shape) for limits, shape in zip(self._limits, shapes, strict=True)]
        known = [tile for tile in tiles if tile is not None]
        return self._in_parts(size, cols, known) if len(known) == len(tiles) else None

    def _in_parts(self, size: int, cols: int, tiles: Sequence[tuple[int, int]]) -> Block | None:
        """The block in as few parts as fit; None where none do."""
        room = self.chip.capacity_bytes("ub") - self._result_bytes(size, tiles)
        own = size // self.cores
        for parts in _CUTS:
            if own % parts == 0 and self.nbytes(own // parts, cols)[0] <= room:
                return Block(size, parts, tuple(tiles))
        return None

    def blocks(self, rows: int, sizes: RelaySizes, edges: Sequence[int] = _EDGES) -> Iterator[Block]:
        """Every block of so many rows, with tiles of these edges, that fits in as few parts as there can be."""
        if rows % (8 * self.cores):
            return
        pairs = zip(self._limits, sizes.shapes, strict=True)
        tiles = [tuple(self._tiles(limits, rows, shape, edges)) for limits, shape in pairs]
        for chosen in product(*tiles):
            block = self._in_parts(rows, sizes.cols, chosen)
            if block is not None:
                yield block

    @cached_property
    def _limits(self) -> tuple[_Limits, ...]:
        """What the tiles of each product have to keep to."""
        space, found = self.chip.capacity_bytes, []
        bias_item = max(each.bias_item for each in self.problems)
        for each in self.problems:
            rooms = space("l0c") // _DEPTH, space("l0a") // each.depth("l0a"), space("l0b") // each.depth("l0b")
            depths = each.depth("l1.a"), each.depth("l1.b")
            found.append(_Limits(each.item, each.acc_item, each.b.flipped, *rooms, space("l1"), *depths, bias_item))
        return tuple(found)

    def _result_bytes(self, size: int, tiles: Sequence[tuple[int, int]]) -> int:
        """Bytes of UB that results take on their way out."""
        problem = self.problems[0]
        if not problem.via_ub:
            return 0
        return max(
            problem.depth("ub.c") * size * align_up(tile[0] * each.out_item)
            for tile, each in zip(tiles, self.problems, strict=True)
        )

    def _tile(self, limits: _Limits, m: int, shape: ProductShape) -> tuple[int, int] | None:
        """(n, k) of the largest tile that fits with m rows; the same at L1 and at L0."""
        return next(self._tiles(limits, m, shape, _EDGES), None)

    def _tiles(self, limits: _Limits, m: int, shape: ProductShape, edges: Sequence[int]) -> Iterator[tuple[int, int]]:
        """(n, k) of the tiles that fit with m rows, large n first."""
        item, acc_item, flipped, accumulators, room_a, room_b, room, depth_a, depth_b, bias_item = limits
        k_unit = BLOCK_BYTES // item
        for n in [shape.n] if shape.whole_n else dict.fromkeys(min(edge, shape.n) for edge in edges):
            if m * align_up(n * acc_item) > accumulators:
                continue
            width = align_up(n * item)
            bias = _DEPTH * align_up(n * bias_item) + align_up(m * bias_item)
            for k in [shape.k] if shape.whole_k else dict.fromkeys(min(edge, shape.k) for edge in edges):
                left, inner = m * align_up(k * item), width * align_up(k, k_unit)
                right = align_up(n, 16) * align_up(k * item) if flipped else inner
                if left <= room_a and inner <= room_b and depth_a * left + depth_b * right + bias <= room:
                    yield n, k


def spread(matrices: int, blocks: int, groups: int) -> Runs:
    """Runs of the blocks of each matrix so that the group with the most has as little as can be, with few runs.

    A run costs a block more than it has, in which its parts do not work at the same time.
    """
    best, least = Runs(1, blocks, blocks), float("inf")
    for count in range(1, min(blocks, 2 * groups) + 1):
        most = -(-blocks // count)
        if (count - 1) * most >= blocks:
            continue
        cost = -(-matrices * count // groups) * (most + 1)
        if cost < least:
            best, least = Runs(count, most, blocks - (count - 1) * most), cost
    return best
