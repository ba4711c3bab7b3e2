"""How rows by index are cut into tiles: columns of a row, rows of a tile, indices that are loaded together."""

from __future__ import annotations

from dataclasses import dataclass

from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ops_indexed import MOST_ROWS
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.pick.segment import PickSpec
from npuvm.hw.config import NpuConfig

__all__ = ["SLOTS", "PickTile", "pick_cycles", "plan_pick"]

SLOTS = 2
"""Slots for rows and for indices: some are loaded while others are stored."""

_INDEX_BYTES = 4
_LINE = 8
"""Indices of a block of UB: where a tile of rows begins in a vector of indices."""


@dataclass(frozen=True, slots=True)
class PickTile:
    """A tile has `rows` rows of `cols` elements, `pitch` bytes apart; `block` indices, for `tiles` tiles, are loaded together.

    `parts` are the pieces of a row, `blocks` those of the indices. `depth` is the number of slots for rows, and for indices.
    """

    rows: int
    cols: int
    pitch: int
    tiles: int
    parts: int
    blocks: int
    depth: int

    @property
    def block(self) -> int:
        """Indices that are loaded together."""
        return self.rows * self.tiles


def plan_pick(spec: PickSpec, ub_bytes: int, cores: int, depth: int = SLOTS) -> PickTile:
    """The tile of a segment on cores with so much UB.

    The slots of rows take up to five eighths of it, those of indices a quarter. Tiles are as large as that, or so small that
    all cores get one. Indices are loaded for as many tiles as a core works on, as far as they have room: their latency is paid
    once for all of these.
    """
    item = DTYPES[spec.dtype].item_bytes
    slot = ub_bytes * 5 // (8 * depth)
    cols = spec.inner if align_up(spec.inner * item) <= slot // _LINE else max(1, slot // _LINE // 32 * 32 // item)
    if spec.inner * item >= 1 << 32:
        message = f"{spec.op}: rows of {spec.inner * item} bytes; allowed: less than 4 GiB"
        raise CompileError(message, spec.name)
    if max(spec.count, spec.picks) > MOST_ROWS:
        message = f"{spec.op}: {spec.count} rows and {spec.picks} indices; allowed: {MOST_ROWS} of each"
        raise CompileError(message, spec.name)
    pitch = item if spec.inner == 1 else align_up(cols * item)
    parts = -(-spec.inner // cols)
    most = ub_bytes // (4 * depth) // _INDEX_BYTES // _LINE * _LINE
    alone = spec.outer * parts
    share = -(-spec.picks // max(1, cores // alone))
    rows = max(1, min(slot // pitch, most, share, spec.picks))
    if rows < spec.picks:
        rows = max(_LINE, rows // _LINE * _LINE)
    if rows * pitch > slot:
        raise CompileError(f"{spec.op}: {rows} rows of {pitch} bytes do not fit UB", spec.name)
    in_all = -(-spec.picks // rows)
    each = -(-in_all * alone // cores)
    tiles = max(1, min(in_all, each, most // rows))
    return PickTile(rows, cols, pitch, tiles, parts, -(-in_all // tiles), depth)


def pick_cycles(spec: PickSpec, tile: PickTile, chip: NpuConfig, cores: int) -> float:
    """How long the slower port of a core passes its share of the rows: each of its pieces is a transfer of its own.

    Both ports take turns where there is one slot for rows.
    """
    pieces = -(-spec.outer * spec.picks // cores) * tile.parts
    piece = max(spec.inner * DTYPES[spec.dtype].item_bytes / tile.parts, 1)
    load, store = chip.core.load, chip.core.store
    ports = (
        pieces * (max(piece, load.min_burst_bytes) / float(load.ub_bytes_per_cycle) + float(load.row_cycles)),
        pieces * (max(piece, store.min_burst_bytes) / float(store.bytes_per_cycle) + float(store.row_cycles)),
    )
    return sum(ports) if tile.depth == 1 else max(ports)
