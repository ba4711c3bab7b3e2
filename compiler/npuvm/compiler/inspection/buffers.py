"""The buffers that a program of one segment has on a core, as inspections tell them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npuvm.compiler.cube.codegen import MatmulKernel
from npuvm.compiler.cube.levels import slot_bytes
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.inspection.rings import RingEvents, ring_events
from npuvm.compiler.inspection.tiling import value_bytes
from npuvm.compiler.vector.buffers import Slot
from npuvm.compiler.vector.codegen import VectorKernel
from npuvm.compiler.vector.lower import Reg
from npuvm.isa import Isa

__all__ = ["BufferUse", "cube_buffers", "vector_buffers"]


@dataclass(frozen=True, slots=True)
class BufferUse:
    """A buffer on a core: `slots` slots of `slot_bytes`, of which the tiles of its values need `used_bytes`.

    `values` are the tile registers that lie in it one after the other, with their dtypes. `gap_bytes` lie before it, so that
    it begins in another bank. `events` is None for a buffer that is no ring.
    """

    name: str
    space: str
    slot_bytes: int
    slots: int
    used_bytes: int
    values: tuple[str, ...]
    gap_bytes: int = 0
    events: RingEvents | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all slots, and the gap before them."""
        return self.slot_bytes * self.slots + self.gap_bytes


def vector_buffers(kernel: VectorKernel, isa: Isa) -> tuple[BufferUse, ...]:
    rows, cols = kernel.tile.rows, kernel.tile.cols
    storage = kernel.storage
    rings = {id(storage.of[reg]) for reg in kernel.program.regs if reg.kind in ("in", "out")}
    events = iter(ring_events(kernel.image, isa))
    found = []
    for slot in storage.slots:
        regs = [reg for reg, home in storage.of.items() if home is slot]
        found.append(
            BufferUse(
                slot.name,
                "ub",
                storage.tile_bytes(slot, rows, cols),
                slot.depth,
                max((_tile_bytes(reg, slot, rows, cols) for reg in regs), default=0),
                tuple(repr(reg) for reg in regs),
                slot.half * storage.stripe,
                next(events, None) if id(slot) in rings else None,
            )
        )
    return tuple(found)


def _tile_bytes(reg: Reg, slot: Slot, rows: int, cols: int) -> int:
    """Bytes of the elements of a tile, without any rounding."""
    has_rows, has_cols = slot.shape
    return (rows if has_rows else 1) * (cols if has_cols else 1) * DTYPES[reg.dtype].item_bytes


def cube_buffers(kernel: MatmulKernel, isa: Isa) -> tuple[BufferUse, ...]:
    """The rings of a product, in the order of their numbers."""
    problem, tile = kernel.problem, kernel.tile
    sizes = slot_bytes(problem, np.array([[*tile.l1, *tile.l0]], dtype=np.int64))
    used = value_bytes(kernel)
    names = [name for name in ("l0c", "l1.a", "l1.b", "l1.bias", "l0a", "l0b", "ub.c") if int(sizes[name][0])]
    by_bytes = list(ring_events(kernel.image, isa))
    found = []
    for name in names:
        size = int(sizes[name][0])
        events = next((each for each in by_bytes if each.slot_bytes == size and each.space == name.split(".")[0]), None)
        if events is None:
            continue
        by_bytes.remove(events)
        found.append(BufferUse(name, events.space, size, events.slots, used[name], (name,), events=events))
    return tuple(found)
