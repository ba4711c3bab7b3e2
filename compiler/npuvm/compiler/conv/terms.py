"""What estimates of convolutions' tiles are made of: sizes, cycles and waits of many tiles, by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.conv.loads import Load

__all__ = ["Areas", "Kernels", "Room", "Sent", "Waits", "Work"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Kernels(NamedTuple):
    """What tiles need of the kernels, whatever the size of images: `filters`, which make `cuts` tiles, `block` channels and
    `chunk` elements in L1, `step` of them a product.

    An image comes in `blocks` of channels, the kernels in `parts`, and there are `steps` products over `elements` with padding.
    `area` are blocks of the cube along the filters, with the cycles of each; `nbytes` those in L1. `load` brings all parts,
    `part` one of them. `started` are cycles of the cube for starts, `moved` those of moves but for `per_pixel` of them; `kept`
    says that the kernels stay for all tiles, `words` are cycles of the sequencer.
    """

    filters: Floats
    block: Floats
    chunk: Floats
    step: Floats
    cuts: Floats
    blocks: Floats
    parts: Floats
    steps: Floats
    elements: Floats
    area: Floats
    nbytes: Floats
    load: Load
    part: Load
    started: Floats
    moved: Floats
    per_pixel: Floats
    kept: Flags
    words: Floats
    room: Room
    sent: Sent
    waits: Waits


class Room(NamedTuple):
    """Room that kernels leave: bytes of L1 for a slot of the image, the most `pixels` of the image that fit there, if there
    is no bias, and the `doubled` pixels of the result of which two accumulators fit."""

    nbytes: Floats
    pixels: Floats
    doubled: Floats


class Sent(NamedTuple):
    """Cycles of the way out: `per_pixel` and the `rest`; where it goes through UB, those until accumulators are free."""

    per_pixel: Floats
    rest: Floats
    drained: Floats


class Waits(NamedTuple):
    """What of the waits for loads depends on the kernels alone.

    `near` are loads of kernels that others have read, and `further` what they take longer where none have; None where that
    does not change. `cuts` are those of the filters. `share` is one over parts; `full` is the largest part over their mean.

    Of later tiles: `slot` is the share of loads and work that slots of a ring do not hide, and `turn` the latencies beside it.
    Where the queue of moves does not hold the work of a part, `behind` is the share of the work before loads of the next
    part are sent, which take `issued` and, as `late` says, themselves. A new image is loaded behind the last part of the tile
    before: that comes `turns` times, with `more` parts each. `ahead` is how much of a tile's work the queue holds.

    Of a first tile: `requests` are what the requests of a part take of those in flight; parts take `whole` turns of the slots
    one after the other, and `rest` have the slot of one behind.

    `again` are blocks of an image for each part where there is more than one, and `several` says so. `stays`: an image may be
    there from the tile before; `forgets`: L2 keeps no kernels from one image to the next. `served` are bytes that L2 is busy
    for with each tile, `served_once` those with all. `pixel` are bytes of a pixel of the image, `dense` says where such follow
    each other.
    """

    near: Floats
    further: Floats | None
    cuts: Ints
    share: Floats
    full: Floats
    slot: Floats
    turn: Floats
    behind: Floats
    issued: Floats
    late: Floats
    turns: Floats
    more: Floats
    ahead: Floats
    requests: Floats
    whole: Floats
    rest: Floats
    again: Floats
    several: Floats
    stays: bool
    forgets: bool
    served: Floats
    served_once: Floats
    pixel: Floats
    dense: Flags | None


class Areas(NamedTuple):
    """Pixels of tiles: `rows` of the result, `pixels` of it, the `image` in L1 for them, and `inside` pixels of that in x.

    `fresh` are those of them that no other tile of the same filters reads.

    The first of them are parts of a row, of `cols` pixels.
    """

    rows: Floats
    cols: Floats
    pixels: Floats
    image: Floats
    inside: Floats
    fresh: Floats


class Work(NamedTuple):
    """`tiles`, of which a core has `waves`, `images` with an image of their own, which are a `share` of them; `loaded` have
    one to load. Cycles of the cube, of moves, of the way out, and until accumulators are free."""

    tiles: Floats
    waves: Floats
    images: Floats
    share: Floats
    loaded: Floats
    compute: Floats
    move: Floats
    out: Floats
    drained: Floats
