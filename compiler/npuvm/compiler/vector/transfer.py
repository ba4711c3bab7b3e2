"""Moves a tile between UB and global memory, whatever the strides of the tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from npuvm.compiler.cube.extent import Extent, axis_strides
from npuvm.compiler.emit.blocks import BLOCK_BYTES
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Arg, Buffer, Desc, Loop, Sem, Size
from npuvm.compiler.emit.symint import SymInt
from npuvm.compiler.emit.walk import GridWalk
from npuvm.compiler.language.pins import pin_error
from npuvm.compiler.vector.buffers import tile_bytes
from npuvm.compiler.vector.lower import Shape
from npuvm.compiler.vector.space import Space, Transfer, dim_name
from npuvm.compiler.vector.tile import VectorTile
from npuvm.isa import Pred

__all__ = ["ATOMIC_STORE", "Issue", "TileForm", "TileTransfer"]

ATOMIC_STORE = "stadd"
"""The instruction that adds a tile to what is in memory."""

_ONE = Extent(1, 1, None, 1)


@dataclass(frozen=True, slots=True)
class TileForm:
    """A tile as a DMA instruction sees it: extents, and bytes between rows in global memory and in UB."""

    rows: Extent
    cols: Extent
    gm_pitch: int
    ub_pitch: int


@dataclass(frozen=True, slots=True)
class Issue:
    """How the instructions of a transfer run: `wait` before the first, `set` after the last, `pred` and `cache` on each."""

    wait: Sequence[Sem]
    set: Sequence[Sem]
    pred: Pred | None
    cache: str | int


@dataclass(frozen=True, slots=True)
class TileTransfer:
    """Loads and stores of the tiles of one grid."""

    builder: InstrBuilder
    space: Space
    tile: VectorTile
    grid: GridWalk
    loops: Sequence[Loop]
    rows: Extent
    cols: Extent

    def load(
        self,
        transfer: Transfer,
        shape: Shape,
        tensor: Arg,
        ring: Buffer,
        issue: Issue,
        chunk: tuple[int, int] | None,
    ) -> None:
        """Fill a slot of the ring; `chunk` is the (rows, cols) of one instruction, None for the whole tile.

        Raises CompileError when the chunk would not begin at a block of UB.
        """
        self._move("ld", transfer, shape, tensor, ring, issue, chunk)

    def store(self, transfer: Transfer, shape: Shape, tensor: Arg, ring: Buffer, issue: Issue) -> None:
        """Empty a slot of the ring."""
        self._move(ATOMIC_STORE if transfer.access.adds else "st", transfer, shape, tensor, ring, issue, None)

    def pick(self, transfer: Transfer, places: tuple[Arg, Buffer, Desc], form: TileForm, issue: Issue) -> None:
        """Fill a slot of the ring with rows of the tensor that a vector of indices, the last place, picks."""
        tensor, ring, index = places
        picks = transfer.picks
        assert picks is not None
        self.builder.emit(
            "ldx",
            transfer.node.type.dtype,
            dst=self._ub_desc("ld", ring, form.ub_pitch, 0, {}),
            src=self._gm_desc(transfer, tensor, 0, 0, {}),
            index=index,
            rows=form.rows.whole(self.builder),
            cols=form.cols.whole(self.builder),
            stride=picks.row * transfer.item,
            count=picks.count,
            cache=issue.cache,
            wait=issue.wait,
            set=issue.set,
            pred=issue.pred,
        )

    def _move(
        self,
        op: str,
        transfer: Transfer,
        shape: Shape,
        tensor: Arg,
        ring: Buffer,
        issue: Issue,
        chunk: tuple[int, int] | None,
    ) -> None:
        narrow = not isinstance(self.tile.cols, SymInt) and self.tile.cols == 1
        scattered = shape == (True, True) and transfer.strides[self.space.col] != 1 and not narrow
        if scattered:
            if chunk is not None:
                self._bad_chunk(ring, chunk, "nothing for a tensor whose rows are not adjacent elements")
            self._row_by_row(op, transfer, tensor, ring, issue)
            return
        form = self.form(transfer, shape)
        if chunk is None:
            gm = self._gm_desc(transfer, tensor, form.gm_pitch, 0, {})
            ub = self._ub_desc(op, ring, form.ub_pitch, 0, {})
            self._emit(op, transfer, gm, ub, (form.rows.whole(self.builder), form.cols.whole(self.builder)), issue)
            return
        self._in_chunks(op, transfer, form, tensor, ring, issue, chunk)

    def _in_chunks(
        self,
        op: str,
        transfer: Transfer,
        form: TileForm,
        tensor: Arg,
        ring: Buffer,
        issue: Issue,
        chunk: tuple[int, int],
    ) -> None:
        """A tile in pieces of `chunk` rows and columns."""
        rows, cols = chunk
        if form.ub_pitch % BLOCK_BYTES and rows * form.ub_pitch % BLOCK_BYTES and rows < form.rows.full:
            self._bad_chunk(ring, chunk, f"rows in multiples of {BLOCK_BYTES // form.ub_pitch}")
        if cols * transfer.item % BLOCK_BYTES and cols < form.cols.full:
            self._bad_chunk(ring, chunk, f"columns in multiples of {BLOCK_BYTES // transfer.item}")
        cuts = [(row, col) for row in range(0, form.rows.full, rows) for col in range(0, form.cols.full, cols)]
        for number, (row, col) in enumerate(cuts):
            offset = row * form.gm_pitch + col * transfer.item
            ub_offset = row * form.ub_pitch + col * transfer.item
            gm = self._gm_desc(transfer, tensor, form.gm_pitch, offset, {})
            ub = self._ub_desc(op, ring, form.ub_pitch, ub_offset, {})
            sizes = form.rows.part(self.builder, row, rows), form.cols.part(self.builder, col, cols)
            waits, sets = (issue.wait if number == 0 else ()), (issue.set if number == len(cuts) - 1 else ())
            self._emit(op, transfer, gm, ub, sizes, replace(issue, wait=waits, set=sets))

    def _bad_chunk(self, ring: Buffer, chunk: tuple[int, int], allowed: str) -> NoReturn:
        pin_error(f"transfer.{ring.name}", chunk, f"{allowed}: a transfer begins at a block of UB", self.builder.name)

    def _row_by_row(self, op: str, transfer: Transfer, tensor: Arg, ring: Buffer, issue: Issue) -> None:
        """A tile whose neighbours in a row are apart in memory: each row is moved as a column of single elements."""
        b, space, item = self.builder, self.space, transfer.item
        unit = "load" if op == "ld" else "store"
        row_stride = transfer.strides[space.row] if space.row is not None else 0
        pitch = tile_bytes((False, True), item, 1, self.tile.cols)
        b.sync(unit, wait=issue.wait, pred=issue.pred)
        with b.loop(self.rows.whole(b)) as loop:
            gm = self._gm_desc(transfer, tensor, transfer.strides[space.col] * item, 0, {loop: row_stride * item})
            ub = self._ub_desc(op, ring, item, 0, {loop: pitch})
            self._emit(op, transfer, gm, ub, (self.cols.whole(b), b.size(1)), replace(issue, wait=(), set=()))
        b.sync(unit, set=issue.set, pred=issue.pred)

    def form(self, transfer: Transfer, shape: Shape) -> TileForm:
        """Rows of adjacent elements where there are any; single elements one below the other otherwise."""
        space, item = self.space, transfer.item
        row_stride = transfer.strides[space.row] if space.row is not None else 0
        col_stride = transfer.strides[space.col]
        if shape == (True, True):
            return TileForm(self.rows, self.cols, row_stride * item, tile_bytes((False, True), item, 1, self.tile.cols))
        if shape == (False, False):
            return TileForm(_ONE, _ONE, 0, item)
        extent, stride = (self.cols, col_stride) if shape[1] else (self.rows, row_stride)
        if stride == 1:
            return TileForm(_ONE, extent, 0, tile_bytes((False, True), item, 1, extent.full))
        return TileForm(extent, _ONE, stride * item, item)

    def _gm_desc(self, transfer: Transfer, tensor: Arg, pitch: int, offset: int, strides: Mapping[Loop, int]) -> Desc:
        walked, origin = self._gm_place(transfer)
        return self.builder.desc(tensor, pitch, strides={**walked, **strides}, offset=origin + offset)

    def _gm_place(self, transfer: Transfer) -> tuple[Mapping[Loop, int], int]:
        """Bytes that the loops move the tile in its tensor, and those before the first tile."""
        space, tile = self.space, self.tile
        edges = {space.col: tile.cols} | ({} if space.row is None else {space.row: tile.rows})
        steps = {
            dim_name(dim): stride * edges.get(dim, 1) * transfer.item
            for dim, stride in enumerate(transfer.strides)
            if space.present[transfer.node.id][dim]
        }
        origin = transfer.offset * transfer.item
        origin += sum(self.grid.origin.get(name, 0) * step for name, step in steps.items())
        return axis_strides(self.grid.axes, self.loops, steps), origin

    def _ub_desc(self, op: str, ring: Buffer, pitch: int, offset: int, strides: Mapping[Loop, int]) -> Desc:
        role = "producer" if op == "ld" else "consumer"
        return self.builder.desc(ring, pitch, strides=strides, offset=offset, role=role)

    def _emit(self, op: str, transfer: Transfer, gm: Desc, ub: Desc, sizes: tuple[Size, Size], issue: Issue) -> None:
        dst, src = (ub, gm) if op == "ld" else (gm, ub)
        self.builder.emit(
            op,
            transfer.node.type.dtype,
            dst=dst,
            src=src,
            rows=sizes[0],
            cols=sizes[1],
            cache=issue.cache,
            wait=issue.wait,
            set=issue.set,
            pred=issue.pred,
        )
