"""The vector segment of a relay: the code for one block of rows, a few whole rows after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.cube.extent import Extent
from npuvm.compiler.emit.group_signals import HALF
from npuvm.compiler.emit.handles import Arg, Desc, Loop
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.compiler.mix.body import BandBody, Clamped
from npuvm.compiler.relay.handover import Side
from npuvm.compiler.relay.walk import PART, Place, Run, in_slot
from npuvm.compiler.vector.body import BodyContext
from npuvm.compiler.vector.space import Transfer, dim_name
from npuvm.compiler.vector.transfer import TileTransfer

__all__ = ["BlockRows", "RowCuts"]


@dataclass(frozen=True, slots=True)
class RowCuts:
    """How the vector cores of a group walk a block: each has `parts` parts of `rows` rows, or `rest` where it is not whole."""

    rows: int
    parts: int
    rest: int
    cores: int

    @property
    def block(self) -> int:
        """Rows of a block."""
        return self.rows * self.parts * self.cores


@dataclass(frozen=True, slots=True)
class _SlotTransfer(TileTransfer):
    """Transfers of what lies in a slot of global memory."""

    side: Side

    def _gm_desc(self, transfer: Transfer, tensor: Arg, pitch: int, offset: int, strides: Mapping[Loop, int]) -> Desc:
        walked, origin = self._gm_place(transfer)
        moved = {**walked, **strides}
        side = self.side
        return self.builder.desc(tensor, pitch, strides=moved, offset=origin + offset, role=side.role, ring=side.ring)


class _RowsBody(BandBody):
    """The instructions for a few rows. `sides` are by tensor those of what is handed over."""

    def __init__(
        self,
        context: BodyContext,
        walk: GridWalk,
        loops: Sequence[Loop],
        rows: Extent,
        sides: Mapping[str, Side],
        slot: GridWalk,
    ) -> None:
        cols = Extent(context.tile.cols, context.tile.cols, None, context.tile.cols)
        super().__init__(context, walk, loops, rows, cols, None)
        self._sides, self._slot = sides, slot

    def _transfer_of(self, name: str, transfer: TileTransfer) -> TileTransfer:
        side = self._sides.get(name)
        if side is None:
            return transfer
        t = transfer
        return _SlotTransfer(t.builder, t.space, t.tile, self._slot, t.loops, t.rows, t.cols, side)


class BlockRows:
    """Writes the vector segment; `sides` are by tensor those of what is handed over, that which is read first."""

    def __init__(self, context: BodyContext, cuts: RowCuts, sides: Mapping[str, Side]) -> None:
        self._context, self._cuts, self._sides = context, cuts, sides

    def write_block(self, place: Place, run: Run) -> None:
        """All rows of a block that are this core's, between waiting for their slots and handing these on."""
        context, cuts = self._context, self._cuts
        b = context.builder
        for side in self._sides.values():
            side.begin(place.half)
        whole = run.rows == cuts.block
        with b.loop(cuts.parts if whole else cuts.rest) as loop:
            inner = place.inside(Axis(PART, cuts.parts), loop)
            rows = Extent(cuts.rows, cuts.rows, None, cuts.rows)
            if not whole:
                half = [] if place.half is None else [(place.half, -cuts.rows * cuts.parts)]
                rows = Clamped(cuts.rows, cuts.rows, None, run.rows, (*half, (loop, -cuts.rows)))
            slot = self._named(in_slot(inner.walk))
            _RowsBody(context, self._named(inner.walk), inner.loops, rows, self._sides, slot).emit()
        for side in self._sides.values():
            side.end(place.half)

    def _named(self, walk: GridWalk) -> GridWalk:
        """The walk in dims of the segment's space: blocks, vector cores and parts all walk its rows."""
        space, cuts = self._context.space, self._cuts
        assert space.row is not None
        row = dim_name(space.row)
        steps = {"m": cuts.parts * cuts.cores, HALF: cuts.parts, PART: 1}
        axes = tuple(
            replace(each, dim=row, step=each.step * steps[each.dim])
            if each.dim in steps
            else replace(each, dim=_batch(each.dim))
            for each in walk.axes
        )
        origin = {row if dim in steps else _batch(dim): at * steps.get(dim, 1) for dim, at in walk.origin.items()}
        return GridWalk(axes, origin)


def _batch(dim: str) -> str:
    """The name in the segment's space of a batch dim of the products; others keep theirs."""
    return dim_name(int(dim[1:])) if dim[:1] == "b" and dim[1:].isdigit() else dim
