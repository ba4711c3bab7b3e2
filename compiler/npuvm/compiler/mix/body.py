"""The vector part of a mix program: what is done with one tile of a product, a band of its rows after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.compiler.cube.extent import Extent
from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.group_signals import HALF
from npuvm.compiler.emit.handles import Buffer, Loop, Size
from npuvm.compiler.emit.walk import Axis, GridWalk
from npuvm.compiler.vector.body import BodyContext, TileBody
from npuvm.compiler.vector.lower import Reg, When
from npuvm.compiler.vector.space import dim_name
from npuvm.compiler.vector.transfer import TileTransfer
from npuvm.isa import Pred

__all__ = ["Accumulators", "BandBody", "Bands", "Clamped", "write_bands"]


@dataclass(frozen=True, slots=True)
class Bands:
    """How the vector unit walks a tile of `m` x `n`: `bands` bands of `rows` rows; a core has `cols` of the columns.

    The cores of a group may have more columns in all than a tile that is the only one.
    """

    rows: int
    bands: int
    cols: int
    cores: int
    n: int

    @property
    def m(self) -> int:
        """Rows of a tile of the product."""
        return self.rows * self.bands


@dataclass(frozen=True, slots=True)
class Accumulators:
    """Where the fixpipe takes tiles from: a ring with rows `pitch` bytes apart that holds `dtype`; `reg` is what it fills."""

    ring: Buffer
    pitch: int
    dtype: str
    reg: Reg


@dataclass(frozen=True, slots=True)
class Clamped(Extent):
    """A dimension that several loops walk: what is left of `total` after the steps of all of them, at most `full`."""

    steps: tuple[tuple[Loop, int], ...] = ()

    def whole(self, b: InstrBuilder) -> Size:
        """The size of the tile."""
        return b.size_affine(self.full, self.total, self.steps)


class BandBody(TileBody):
    """The instructions for one band. Every input is loaded anew for each: none of them outlives its band."""

    def __init__(
        self,
        context: BodyContext,
        grid: GridWalk,
        loops: Sequence[Loop],
        rows: Extent,
        cols: Extent,
        source: Accumulators | None,
    ) -> None:
        super().__init__(context, grid, loops)
        self._rows, self._cols = rows, cols
        self._source = source

    def _pred(self, when: When) -> tuple[bool, Pred | None]:
        return True, None

    def _ring_preds(self, reg: Reg) -> tuple[Pred | None, Pred | None]:
        return None, None

    def _load(self, reg: Reg, transfer: TileTransfer) -> None:
        source = self._source
        if source is None or reg is not source.reg or reg.read is None:
            super()._load(reg, transfer)
            return
        b, ring = self._b, self._c.buffers[reg]
        form = transfer.form(self._c.space.reads[reg.read], reg.shape)
        bands = {} if self._loops[-1].grid else {self._loops[-1]: self._c.tile.rows * source.pitch}
        b.emit(
            "fix",
            source.dtype,
            reg.dtype,
            dst=b.desc(ring, form.ub_pitch, role="producer"),
            src=b.desc(source.ring, source.pitch, strides=bands, role="consumer"),
            rows=form.rows.whole(b),
            cols=form.cols.whole(b),
            act="none",
            wait=[each for each in (ring.free,) if each is not None],
            set=[each for each in (ring.ready,) if each is not None],
        )


def write_bands(
    context: BodyContext, bands: Bands, grid: GridWalk, loops: Sequence[Loop], source: Accumulators | None = None
) -> None:
    """The code for one tile inside the loops of a product's grid; its dims are b0, b1, ..., m, n and HALF."""
    b, space = context.builder, context.space
    assert space.row is not None
    names = {"m": (space.row, bands.bands), "n": (space.col, bands.cores), HALF: (space.col, 1)}
    names |= {f"b{dim}": (dim, 1) for dim in space.others}
    axes = [Axis(dim_name(names[each.dim][0]), each.trip, each.step * names[each.dim][1]) for each in grid.axes]
    origin = {dim_name(names[dim][0]): at * names[dim][1] for dim, at in grid.origin.items()}
    rows = _extent(grid, loops, "m", space.rows, bands.m)
    cols = _extent(grid, loops, "n", space.cols, bands.n)
    with b.loop(rows.trip_size(b, bands.rows)) as band:
        walk = GridWalk((*axes, Axis(dim_name(space.row), bands.bands)), origin)
        body = BandBody(
            context,
            walk,
            (*loops, band),
            _part(rows, bands.rows, band),
            _part(cols, bands.cols, _loop_of(grid, loops, HALF)),
            source,
        )
        body.emit()


def _extent(grid: GridWalk, loops: Sequence[Loop], dim: str, size: int, tile: int) -> Extent:
    """The extent of a tile of the product as its grid walks it; where two loops walk a dim all tiles are whole."""
    total = size - grid.origin.get(dim, 0) * tile
    own = [loop for loop, axis in zip(loops, grid.axes, strict=True) if axis.dim == dim and axis.moves]
    if len(own) > 1:
        return Extent(tile, tile, None, total)
    return Extent(tile, size - (-(-size // tile) - 1) * tile, own[0], total)


def _loop_of(grid: GridWalk, loops: Sequence[Loop], dim: str) -> Loop | None:
    return next((loop for loop, axis in zip(loops, grid.axes, strict=True) if axis.dim == dim), None)


def _part(extent: Extent, size: int, loop: Loop | None) -> Extent:
    """The part of an extent that `loop` is at."""
    steps = [(each, -step) for each, step in ((extent.loop, extent.full), (loop, size)) if each is not None]
    if extent.loop is None or not steps:
        return Extent(size, size, None, extent.total)
    return Clamped(size, size, None, extent.total, tuple(steps))
