"""Where tile registers lie in UB: rings for what is loaded and stored, slots that temporaries share when they are dead."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from npuvm.compiler.emit.blocks import align_up
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.vector.lower import Reg, Shape, VecProgram

__all__ = ["Slot", "Storage", "assign_slots", "tile_bytes"]

_KEPT = 1024
"""Sizes of tiles that are kept: buffers of a program have few, and are asked for theirs several times."""


@dataclass(slots=True)
class Slot:
    """A buffer for tiles of one shape; `item` is the largest item size of the registers in it, `depth` the slots of a ring.

    `half` is 1 when it begins in the second half of a stripe of bank groups.
    """

    name: str
    shape: Shape
    item: int
    depth: int = 1
    half: int = 0


@dataclass(slots=True)
class Storage:
    """Slots, and the slot of every register. With a `stripe` (bytes; 0 for none) tiles keep their place in a stripe."""

    slots: list[Slot] = field(default_factory=list)
    of: dict[Reg, Slot] = field(default_factory=dict)
    stripe: int = 0

    @property
    def form(self) -> tuple[Hashable, ...]:
        """What storages have in common whose tiles of any size take the same bytes."""
        return (self.stripe, *[(each.shape, each.item, each.depth, each.half) for each in self.slots])

    @property
    def depth(self) -> int:
        """Most slots of a ring."""
        return max((slot.depth for slot in self.slots), default=1)

    def tile_bytes(self, slot: Slot, rows: int, cols: int) -> int:
        """Bytes from one tile of a slot to the next, for tiles of rows x cols."""
        return tile_bytes(slot.shape, slot.item, rows, cols, self.stripe)

    def nbytes(self, rows: int, cols: int) -> int:
        """Bytes of UB for tiles of rows x cols."""
        return sum(slot.depth * self.tile_bytes(slot, rows, cols) + slot.half * self.stripe for slot in self.slots)

    def addresses(self, rows: int, cols: int) -> dict[str, int]:
        """Where the slots lie for tiles of rows x cols, by name; empty without a stripe, when any place will do."""
        found: dict[str, int] = {}
        end = 0
        for slot in self.slots if self.stripe else ():
            found[slot.name] = end + slot.half * self.stripe // 2
            end += slot.depth * self.tile_bytes(slot, rows, cols) + slot.half * self.stripe
        return found


@lru_cache(_KEPT)
def tile_bytes(shape: Shape, item: int, rows: int, cols: int, stripe: int = 0) -> int:
    """Bytes of one tile in UB: rows at a pitch of whole blocks, a column stored densely; whole stripes where there are any."""
    has_rows, has_cols = shape
    if has_rows and has_cols:
        nbytes = rows * align_up(cols * item)
    else:
        nbytes = align_up((cols if has_cols else rows if has_rows else 1) * item)
    return align_up(nbytes, stripe) if stripe else nbytes


def assign_slots(program: VecProgram, pins: Pins, depth: int, where: str) -> Storage:
    """Rings of `depth` slots (or as pinned) for registers that are loaded or stored; temporaries share slots.

    Raises CompileError when a pin names no register.
    """
    storage = Storage()
    rings = {reg.name: reg for reg in program.regs if reg.kind in ("in", "out")}
    pins.check_names("ring_depth", rings, where)
    for reg in program.regs:
        if reg.kind != "temp":
            slots = pins.ring_depth.get(reg.name, depth) if reg.name in rings else 1
            _place(storage, reg, Slot(reg.name, reg.shape, _item(reg), slots))
    first, last = _lifetimes(program)
    free: dict[Shape, list[Slot]] = {}
    ends: dict[int, list[Reg]] = {}
    for reg, at in last.items():
        ends.setdefault(at, []).append(reg)
    for at, insn in enumerate(program.insns):
        dst = insn.dst.reg
        dying = [reg for reg in ends.get(at, ()) if reg is not dst]
        in_place = [reg for reg in dying if _item(reg) == _item(dst) and reg.shape == dst.shape]
        _release(storage, free, in_place)
        if dst.kind == "temp" and first[dst] == at:
            _take(storage, free, dst)
        _release(storage, free, [reg for reg in dying if reg not in in_place])
        _release(storage, free, [dst] if last.get(dst) == at else [])
    return storage


def _lifetimes(program: VecProgram) -> tuple[Mapping[Reg, int], Mapping[Reg, int]]:
    """First writing and last use of every temporary, by place of the instruction."""
    first: dict[Reg, int] = {}
    last: dict[Reg, int] = {}
    for at, insn in enumerate(program.insns):
        for use in (insn.dst, *(use for _, use in insn.sources)):
            if use.reg.kind == "temp":
                first.setdefault(use.reg, at)
                last[use.reg] = at
    return first, last


def _place(storage: Storage, reg: Reg, slot: Slot) -> None:
    storage.slots.append(slot)
    storage.of[reg] = slot


def _take(storage: Storage, free: dict[Shape, list[Slot]], reg: Reg) -> None:
    candidates = free.get(reg.shape, [])
    if candidates:
        slot = min(candidates, key=lambda each: (abs(each.item - _item(reg)), each.name))
        candidates.remove(slot)
        slot.item = max(slot.item, _item(reg))
        storage.of[reg] = slot
    else:
        _place(
            storage,
            reg,
            Slot(f"tmp{sum(each.name.startswith('tmp') for each in storage.slots)}", reg.shape, _item(reg)),
        )


def _release(storage: Storage, free: dict[Shape, list[Slot]], regs: list[Reg]) -> None:
    for reg in regs:
        free.setdefault(reg.shape, []).append(storage.of[reg])


def _item(reg: Reg) -> int:
    return DTYPES[reg.dtype].item_bytes
