"""The choice of a convolution's tile by machine code; see `npuvm.compiler.native`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npuvm.compiler.conv.cost import ConvCost
from npuvm.compiler.conv.spec import ConvSizes
from npuvm.compiler.conv.terms import Kernels
from npuvm.compiler.native.conv_layout import MOST_PAIRS, TOO_LARGE, Field, Pair, Rate
from npuvm.compiler.native.loading import Native

__all__ = ["NativeChoice", "Tables", "tables_of"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Tables = tuple[Floats, Floats]
"""The numbers of `Pair` of all pairs of pixels and filters of a layer, each of them of all pairs side by side, and behind them
how many pairs there are; and those of `Field`, candidate by candidate.

A choice asks for all pairs, and for few candidates; they are read from memory that is seldom in a cache.
"""

_TOO_LARGE = 0, 0, False, 0, 0, 0, 0, 0, TOO_LARGE


class NativeChoice:
    """Chooses as `ConvTileChooser` does by `cost`; `pixel_unit` are pixels of the least tile."""

    def __init__(self, native: Native, cost: ConvCost, pixel_unit: int) -> None:
        self._kernel = native.choose_conv_tile
        rates = cost.rates() | {Rate.PIXEL_UNIT: pixel_unit}
        self._rates = np.array([rates[each] for each in Rate if each is not Rate.COUNT], dtype=np.float64)

    def best(self, sizes: ConvSizes, tables: Tables, whole_rows: bool, takes_parts: bool) -> tuple[int, ...]:
        """The numbers of a `ConvTile`, the best of a layer's candidates, those of `tables_of`; or what says that there is none.

        With `whole_rows` tiles may be whole rows, of the candidates that have as many pixels; with `takes_parts` parts of one.
        """
        images, (h, w), (high, wide), (taps_h, taps_w), (step_h, step_w), (far_h, far_w), *others = sizes
        channels, filters, _, _, adjacent, target, depth = others
        pairs, table = tables
        try:
            found: tuple[int, ...] = self._kernel(
                pairs, table, self._rates, images, h, w, high, wide, taps_h, taps_w, step_h, step_w, far_h, far_w,
                channels, filters, adjacent, target, depth, whole_rows, takes_parts,
            )  # fmt: skip
        except OverflowError:
            return _TOO_LARGE
        return found


def tables_of(pixels: Floats, waves: Floats, apart: Floats, kernels: Kernels) -> Tables:
    """Those of candidates with so many pixels, and rounds of a core for an image; `apart` is the inverse of these."""
    room, waits, load, part = kernels.room, kernels.waits, kernels.load, kernels.part
    table = np.zeros((Field.COUNT, len(pixels)))
    fields: dict[Field, Floats | Flags | float | None] = {
        Field.FILTERS: kernels.filters,
        Field.BLOCK: kernels.block,
        Field.CHUNK: kernels.chunk,
        Field.STEP: kernels.step,
        Field.BLOCKS: kernels.blocks,
        Field.PARTS: kernels.parts,
        Field.STEPS: kernels.steps,
        Field.AREA: kernels.area,
        Field.STARTED: kernels.started,
        Field.MOVED: kernels.moved,
        Field.PER_PIXEL: kernels.per_pixel,
        Field.IS_KEPT: kernels.kept,
        Field.WORDS: kernels.words,
        Field.ROOM_BYTES: room.nbytes,
        Field.ROOM_PIXELS: room.pixels,
        Field.LOAD_FETCHED: load.fetched,
        Field.LOAD_PAST: load.past,
        Field.PART_ISSUE: part.issue,
        Field.PART_FAR: part.far,
        Field.PART_FETCHED: part.fetched,
        Field.PART_PAST: part.past,
        Field.NEAR: waits.near,
        Field.FURTHER: waits.further,
        Field.SHARE: waits.share,
        Field.FULL: waits.full,
        Field.SLOT: waits.slot,
        Field.TURN: waits.turn,
        Field.BEHIND: waits.behind,
        Field.ISSUED: waits.issued,
        Field.LATE: waits.late,
        Field.TURNS: waits.turns,
        Field.MORE: waits.more,
        Field.AHEAD: waits.ahead,
        Field.REQUESTS: waits.requests,
        Field.WHOLE: waits.whole,
        Field.REST: waits.rest,
        Field.AGAIN: waits.again,
        Field.SEVERAL: waits.several,
        Field.STAYS: waits.stays,
        Field.SERVED: waits.served,
        Field.SERVED_ONCE: waits.served_once,
        Field.PIXEL_BYTES: waits.pixel,
        Field.IS_DENSE: waits.dense,
        Field.FORGETS: waits.forgets,
    }
    for field, values in fields.items():
        if values is not None:
            table[field] = values
    return _pairs_of(pixels, waves, apart, kernels, table), np.ascontiguousarray(table.T)


def _pairs_of(pixels: Floats, waves: Floats, apart: Floats, kernels: Kernels, table: Floats) -> Floats:
    """Of candidates whose `Field` are the rows of the table."""
    is_first = np.append(True, (pixels[1:] != pixels[:-1]) | (kernels.filters[1:] != kernels.filters[:-1]))
    starts = np.flatnonzero(is_first)
    every = np.zeros(Pair.COUNT * MOST_PAIRS + 1)
    every[-1] = len(starts)
    pairs = every[:-1].reshape(Pair.COUNT, -1)[:, : len(starts)]
    # All at once: a call takes as long as what it does.
    alike = np.empty((Pair.AREA, len(pixels)))
    alike[Pair.PIXELS], alike[Pair.CUTS], alike[Pair.WAVES], alike[Pair.APART] = pixels, kernels.cuts, waves, apart
    alike[Pair.ROOM_DOUBLED], alike[Pair.SENT_PER_PIXEL] = kernels.room.doubled, kernels.sent.per_pixel
    alike[Pair.SENT_REST], alike[Pair.SENT_DRAINED] = kernels.sent.rest, kernels.sent.drained
    pairs[: Pair.AREA] = alike[:, starts]
    pairs[Pair.AREA : Pair.IMAGE_BYTES] = np.minimum.reduceat(table[_LEAST], starts, axis=1)
    pairs[Pair.IMAGE_BYTES] = np.minimum.reduceat(table[Field.PIXEL_BYTES] * table[Field.BLOCKS], starts)
    pairs[Pair.STEPS] = np.maximum.reduceat(table[Field.STEPS], starts)
    pairs[Pair.STOP, :-1], pairs[Pair.STOP, -1] = starts[1:], len(pixels)
    return every


_LEAST = [Field[each.name] for each in Pair if Pair.AREA <= each < Pair.IMAGE_BYTES]
"""Of which the least of a pair is one of its numbers, in the order of these."""
