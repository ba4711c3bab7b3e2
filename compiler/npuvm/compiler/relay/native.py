"""The choice of a relay's blocks by machine code; see `npuvm.compiler.native`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod
from struct import Struct

import numpy as np

from npuvm.compiler.native.block_layout import (
    EDGE_COUNT,
    MOST_CUTS,
    MOST_ROWS,
    PRODUCT_WIDTH,
    TABLE_WIDTH,
    Found,
    Known,
    Product,
    Size,
)
from npuvm.compiler.native.code import CodeWriter
from npuvm.compiler.native.loading import Native
from npuvm.compiler.relay.cost import HIDDEN, RelayCost
from npuvm.compiler.relay.handover import SLOTS
from npuvm.compiler.relay.levels import FittingTiles, relay_bytes, room_key
from npuvm.compiler.relay.tile import (
    BLOCK_COST,
    CUTS,
    LIKELY,
    NEAR,
    TILE_EDGES,
    Block,
    BlockChooser,
    Chosen,
    Runs,
)
from npuvm.compiler.tiles.formula_terms import largest, variable
from npuvm.compiler.vector.buffers import Storage

__all__ = ["MOST", "NativeChooser", "shape_numbers"]


MOST = 1 << 30
"""Numbers of a shape are below this; larger ones are for Python, whose integers have no end."""


class NativeChooser:
    """Chooses what `RelayFamily` would choose of the blocks of `chooser` by `cost`.

    `storage` is that of the vector segment; `whole` says of each product whether its columns, and its depth, are in one tile.
    """

    def __init__(
        self,
        native: Native,
        chooser: BlockChooser,
        cost: RelayCost,
        storage: Storage,
        whole: Sequence[tuple[bool, bool]],
    ) -> None:
        self._kernel = native.choose_block
        self._pack = Struct(f"={Size.COUNT}q").pack
        self._both = len(whole) == 2
        writer = CodeWriter()
        known = _common(chooser, cost)
        known[Known.PRODUCTS] = len(whole)
        _write_room(writer, known, chooser)
        products = [_product(chooser, at, flags) for at, flags in enumerate(whole)]
        known[Known.SECOND] = len(known) + len(products[0]) if self._both else Known.PRODUCT
        _write_storage(writer, known, storage)
        _write_cycles(writer, known, cost, products)
        memory = cost.memory
        self._rates = np.array(
            (memory.near, memory.far, memory.l2_rate, memory.hbm_rate, HIDDEN, NEAR), dtype=np.float64
        )
        self._known = np.array([*known, *(number for each in products for number in each)], dtype=np.int64)
        self._rows, self._registers = writer.code()

    @staticmethod
    def of(
        native: Native,
        chooser: BlockChooser,
        cost: RelayCost,
        storage: Storage,
        whole: Sequence[tuple[bool, bool]],
    ) -> NativeChooser:
        """The chooser of all relays that are alike in what they choose by."""
        problems = tuple([(*room_key(p), p.out_item, p.via_ub, p.depth("ub.c")) for p in chooser.problems])
        forms = cost.form, cost.numbers, storage.form, problems, *whole
        key = (chooser.chip.chip_hash, native.label, *forms)
        found = _MADE.get(key)
        if found is None:
            if len(_MADE) == _KEPT:
                _MADE.clear()
            found = _MADE[key] = NativeChooser(native, chooser, cost, storage, whole)
        return found

    def choose(self, numbers: Sequence[int]) -> Chosen | None:
        """Block and runs for the numbers of `Size`, none of them 0; None where no block fits."""
        shape = np.frombuffer(self._pack(*numbers), dtype=np.int64)
        whole, cycles = np.empty(Found.COUNT, np.int64), np.empty(3)
        if not self._kernel(self._known, self._rates, self._rows, self._registers, shape, whole, cycles):
            return None
        size, parts, n, k, n1, k1, full, left, a, b, c, d, e, f, groups = whole.tolist()
        total, first, last = cycles.tolist()
        runs = (numbers[Size.MATRICES], Runs(a, b, c)), (numbers[Size.OUTER], Runs(d, e, f))
        if self._both:
            return Chosen(Block(size, parts, ((n, k), (n1, k1))), full, left, runs, groups, total, (first, last))
        return Chosen(Block(size, parts, ((n, k),)), full, left, runs, groups, total, (first,))


_MADE: dict[Hashable, NativeChooser] = {}
_KEPT = 64


def shape_numbers(
    rows: int, cols: int, row_bytes: int, batch: Sequence[int], read: Sequence[int], edges: Sequence[int]
) -> tuple[int, ...]:
    """The numbers of `Size`; `edges` are n and k of each product, `read` the bytes of their right operands."""
    matrices, outer, last = prod(batch), prod(batch[:-1]), batch[-1] if batch else 1
    return (rows, cols, row_bytes, matrices, last, outer, read[0], read[-1], *edges[:2], *edges[-2:])


def _common(chooser: BlockChooser, cost: RelayCost) -> list[int]:
    """Numbers of the chip and of blocks; what belongs to code is written later."""
    assert len(chooser.rows) <= MOST_ROWS and len(CUTS) == MOST_CUTS and len(TILE_EDGES) == EDGE_COUNT
    problem, memory = chooser.problems[0], cost.memory
    known = [0] * Known.PRODUCT
    known[Known.GROUPS], known[Known.CORES] = chooser.groups, chooser.cores
    known[Known.L2_ROOM], known[Known.L2_BYTES], known[Known.UB_BYTES] = (
        chooser.l2_room,
        memory.l2_bytes,
        chooser.ub_bytes,
    )
    known[Known.IS_VIA_UB], known[Known.RESULT_SLOTS] = problem.via_ub, problem.depth("ub.c") if problem.via_ub else 0
    known[Known.SPREADS], known[Known.LINE], known[Known.SLICES] = memory.spreads, memory.line, memory.slices
    known[Known.SLOTS], known[Known.BLOCK_COST], known[Known.LIKELY] = SLOTS, BLOCK_COST, LIKELY
    known[Known.ROW_SIZES] = len(chooser.rows)
    known[Known.ROWS : Known.ROWS + len(chooser.rows)] = chooser.rows
    known[Known.CUTS : Known.CUTS + MOST_CUTS] = CUTS
    known[Known.EDGES : Known.EDGES + EDGE_COUNT] = TILE_EDGES
    return known


def _write_room(writer: CodeWriter, known: list[int], chooser: BlockChooser) -> None:
    """What tiles of all products take of the buffers, and what there is."""
    sides = [f"fit_{side}{at}" for at in range(len(chooser.problems)) for side in ("n", "k")]
    tiles = [(variable(n), variable(k)) for n, k in zip(sides[::2], sides[1::2], strict=True)]
    found = relay_bytes(chooser.problems, variable("fit_m"), tiles, largest)
    known[Known.ROOMS : Known.ROOMS + 4] = [chooser.chip.capacity_bytes(each) for each in found]
    early, late, results = writer.add(["fit_m", *sides], list(found.values()))
    known[Known.ROOM_EARLY : Known.ROOM_EARLY + 2], known[Known.ROOM_LATE : Known.ROOM_LATE + 2] = early, late
    known[Known.OUT_BYTES : Known.OUT_BYTES + 4] = results
    known[Known.IN_M] = writer.variable("fit_m")
    # The sides of a second product that there is not are written to where nothing reads.
    inputs = [writer.variable(side) for side in sides] + [writer.variable("nobody's")] * (4 - len(sides))
    known[Known.IN_TILES : Known.IN_TILES + 4] = inputs


def _product(chooser: BlockChooser, at: int, whole: tuple[bool, bool]) -> list[int]:
    """Numbers of a product, and the tables of its tiles."""
    problem = chooser.problems[at]
    known = [0] * Product.TABLES
    known[Product.IS_WHOLE_N], known[Product.IS_WHOLE_K] = whole
    known[Product.OUT_ITEM], known[Product.ITEM] = problem.out_item, problem.item
    known[Product.IS_FLIPPED] = problem.b.flipped
    for rows in chooser.rows:
        known += _tables(chooser.fitting[at], rows, *whole)
    return known


def _tables(fitting: FittingTiles, rows: int, whole_n: bool, whole_k: bool) -> list[int]:
    """By blocks along a side what `FittingTiles.fitting` finds: columns for depths, then depths and columns for columns."""
    widest, depths, widths = ([0] * TABLE_WIDTH for _ in range(3))
    far = 16 * TABLE_WIDTH
    for blocks in range(TABLE_WIDTH):
        side = 16 * blocks or far
        if whole_k and not whole_n and blocks:
            widest[blocks] = (fitting.fitting(rows, far, side, whole_n, True) or (0, 0))[0]
        if not whole_k:
            found = fitting.fitting(rows, side, far, whole_n, False)
            widths[blocks], depths[blocks] = found or (0, 0)
    assert len(widest) + len(depths) + len(widths) == PRODUCT_WIDTH
    return [*widest, *depths, *widths]


def _write_storage(writer: CodeWriter, known: list[int], storage: Storage) -> None:
    """The bytes of UB for rows and columns."""
    early, late, (result,) = writer.add(["part_rows"], [storage.nbytes(variable("part_rows"), variable("cols"))])
    known[Known.UB_EARLY : Known.UB_EARLY + 2], known[Known.UB_LATE : Known.UB_LATE + 2] = early, late
    known[Known.IN_UB_ROWS], known[Known.OUT_UB] = writer.variable("part_rows"), result
    known[Known.IN_COLS] = writer.variable("cols")


def _write_cycles(writer: CodeWriter, known: list[int], cost: RelayCost, products: Sequence[list[int]]) -> None:
    """The cycles of a run, and those of each product."""
    terms = cost.terms()
    for name, number in zip(terms.first[1:], cost.numbers, strict=False):
        writer.variable(name, number)
    early, late, (run, *alike) = writer.add(terms.then, terms.values)
    known[Known.EARLY : Known.EARLY + 2], known[Known.LATE : Known.LATE + 2] = early, late
    inputs = [writer.variable(each) for each in terms.then]
    known[Known.IN_BLOCKS : Known.IN_BLOCKS + 5], known[Known.OUT_RUN] = inputs[:5], run
    for at, product in enumerate(products):
        product[Product.IN_ALL_N] = writer.variable(f"all_n{at}")
        product[Product.IN_ALL_K] = writer.variable(f"all_k{at}")
        product[Product.IN_TILE_N] = writer.variable(f"tile_n{at}")
        product[Product.IN_TILE_K] = writer.variable(f"tile_k{at}")
        product[Product.OUT_CYCLES] = alike[at]
