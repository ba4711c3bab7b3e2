"""The choice of a convolution's tile by machine code; see `npuvm.compiler.native`."""

from __future__ import annotations

from enum import Enum
from struct import Struct
from struct import error as StructError
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from npuvm.compiler.conv.cost import ConvCost
from npuvm.compiler.conv.spec import ConvSizes
from npuvm.compiler.conv.terms import Kernels
from npuvm.compiler.native.conv_layout import Field, Found, Rate, Size
from npuvm.compiler.native.loading import Native
from npuvm.compiler.native.tile_layout import Result

__all__ = ["TOO_LARGE", "NativeChoice", "Tables", "tables_of"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Tables = tuple[Floats, Floats]
"""The numbers of `Field` of all candidates of a layer, candidate by candidate: the first of them, and all.

A choice asks all candidates for the first, and few for more; they are read from memory that is seldom in a cache.
"""

_pack = Struct(f"={Size.COUNT}q").pack
_FOUND, _FIRST = Found.COUNT.value, Field.ROOM_BYTES + 1


class _Refusal(Enum):
    TOO_LARGE = 0


TOO_LARGE: Final = _Refusal.TOO_LARGE
"""Says that machine code does not choose for these sizes."""


class NativeChoice:
    """Chooses as `ConvTileChooser` does by `cost`; `pixel_unit` are pixels of the least tile."""

    def __init__(self, native: Native, cost: ConvCost, pixel_unit: int) -> None:
        self._kernel, self._cost = native.choose_conv_tile, cost
        rates = cost.rates() | {Rate.PIXEL_UNIT: pixel_unit}
        self._rates = np.array([rates[each] for each in Rate if each is not Rate.COUNT], dtype=np.float64)

    def best(
        self, sizes: ConvSizes, tables: Tables, whole_rows: bool, takes_parts: bool
    ) -> list[int] | Literal[_Refusal.TOO_LARGE] | None:
        """The numbers of `Found` for the best of a layer's candidates, those of `tables_of`; None where none fits.

        With `whole_rows` tiles may be whole rows, of the candidates that have as many pixels; with `takes_parts` parts of one.
        """
        images, size, out, kernel, strides, dilations, _, filters, _, _, adjacent, target, _ = sizes
        try:
            packed = _pack(
                images, *size, *out, *kernel, *strides, *dilations, filters, adjacent, target, whole_rows, takes_parts
            )
        except StructError:
            return TOO_LARGE
        asked = np.frombuffer(packed, dtype=np.int64)
        found = np.empty(_FOUND, np.int64)
        result = self._kernel(*tables, self._rates, asked, self._cost.read_cycles(sizes), found)
        if result == Result.TOO_LARGE:
            return TOO_LARGE
        if result == Result.NONE:
            return None
        numbers: list[int] = found.tolist()
        return numbers


def tables_of(pixels: Floats, waves: Floats, apart: Floats, kernels: Kernels) -> Tables:
    """Those of candidates with so many pixels, and rounds of a core for an image; `apart` is the inverse of these."""
    room, sent, waits, load, part = kernels.room, kernels.sent, kernels.waits, kernels.load, kernels.part
    table = np.zeros((Field.COUNT, len(pixels)))
    fields: dict[Field, Floats | Flags | float | None] = {
        Field.PIXELS: pixels,
        Field.WAVES: waves,
        Field.APART: apart,
        Field.FILTERS: kernels.filters,
        Field.BLOCK: kernels.block,
        Field.CHUNK: kernels.chunk,
        Field.STEP: kernels.step,
        Field.CUTS: kernels.cuts,
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
        Field.ROOM_DOUBLED: room.doubled,
        Field.SENT_PER_PIXEL: sent.per_pixel,
        Field.SENT_REST: sent.rest,
        Field.SENT_DRAINED: sent.drained,
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
    return np.ascontiguousarray(table[:_FIRST].T), np.ascontiguousarray(table.T)
