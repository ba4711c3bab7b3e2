"""Writes the program of a vector segment: loads, vector instructions and stores of a tile, inside the grids over all tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Buffer
from npuvm.compiler.emit.walk import GridWalk
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.vector.body import BodyContext, TileBody
from npuvm.compiler.vector.buffers import Storage
from npuvm.compiler.vector.lower import Reg, VecProgram
from npuvm.compiler.vector.picks import directs
from npuvm.compiler.vector.space import Space
from npuvm.compiler.vector.sync import VectorSync
from npuvm.compiler.vector.tile import VectorTile
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["part_context", "ring_count", "write_vector"]


def write_vector(
    name: str,
    space: Space,
    program: VecProgram,
    storage: Storage,
    tile: VectorTile,
    grids: Sequence[GridWalk],
    chip: NpuConfig,
    isa: Isa,
    pins: Pins,
    rest: tuple[Space, VectorTile, GridWalk] | None = None,
) -> tuple[InstrBuilder, tuple[str, ...]]:
    """The instructions of a segment, and the tensors whose addresses it takes, in order.

    Sizes, strides and the tile may be SymInts: then a template can be made of the result. `rest` is what is left behind the
    grids of `space`: a space of its own, its tile, no larger than `tile`, and its grid.
    Raises CompileError when a pin names what the segment does not have.
    """
    tensors = tuple(dict.fromkeys(each.access.tensor.name for each in (*space.reads, *space.writes)))
    builder = InstrBuilder(isa, {"ub": chip.capacity_bytes("ub")}, name, len(tensors))
    loads = [reg.name for reg in program.regs if reg.kind == "in"]
    stores = [each.access.tensor.name for each in space.writes]
    pins.check_names("cache", [*loads, *stores], name)
    pins.check_names("transfer", loads, name)
    pins.check_names("address", [slot.name for slot in storage.slots], name)
    buffers = _make_buffers(builder, space, program, storage, tile, pins.address)
    rings = {reg.name: buffers[reg] for reg in program.regs if reg.kind in ("in", "out")}
    events = pins.events
    declared = {each: builder.semaphore(each, count) for each, count in events.semaphores.items()} if events else {}
    sync = VectorSync(events, rings, declared, stores)
    context = BodyContext(builder, space, program, tile, buffers, sync, tensors, pins, chip.core.vector.repeat_bytes)
    parts = [(context, grid) for grid in grids]
    if rest is not None:
        parts.append((replace(context, space=rest[0], tile=rest[1]), rest[2]))
    for own, grid in parts:
        with builder.grid([axis.trip for axis in grid.axes]) as loops:
            TileBody(own, grid, loops).emit()
    return builder, tensors


def part_context(
    builder: InstrBuilder,
    space: Space,
    program: VecProgram,
    storage: Storage,
    tile: VectorTile,
    tensors: tuple[str, ...],
    chip: NpuConfig,
    accumulators: Reg | None = None,
) -> BodyContext:
    """What the code of a segment in a program with others needs, with its buffers made; see `_make_buffers`."""
    buffers = _make_buffers(builder, space, program, storage, tile, accumulators=accumulators)
    rings = {reg.name: buffers[reg] for reg in program.regs if reg.kind in ("in", "out")}
    sync = VectorSync(None, rings, {}, [each.access.tensor.name for each in space.writes])
    return BodyContext(builder, space, program, tile, buffers, sync, tensors, Pins(), chip.core.vector.repeat_bytes)


def ring_count(program: VecProgram, storage: Storage) -> int:
    """How many rings a part has: those of what it loads and stores."""
    return len(_rings(program, storage))


def _rings(program: VecProgram, storage: Storage) -> dict[int, Reg]:
    """Loaded and stored registers by their slot."""
    return {id(storage.of[reg]): reg for reg in program.regs if reg.kind in ("in", "out")}


def _make_buffers(
    builder: InstrBuilder,
    space: Space,
    program: VecProgram,
    storage: Storage,
    tile: VectorTile,
    address: Mapping[str, int] | None = None,
    accumulators: Reg | None = None,
) -> dict[Reg, Buffer]:
    """Rings for loaded and stored registers, plain buffers for the others.

    `address` pins buffers by name. What is in the register `accumulators` comes from the fixpipe and not by a load.
    """
    rings = _rings(program, storage)
    made: dict[int, Buffer] = {}
    addresses = address or storage.addresses(tile.rows, tile.cols)
    for slot in storage.slots:
        size = storage.tile_bytes(slot, tile.rows, tile.cols)
        place = addresses.get(slot.name)
        reg = rings.get(id(slot))
        if reg is None:
            made[id(slot)] = builder.temp(slot.name, "ub", size, address=place)
        elif reg.kind == "out":
            made[id(slot)] = builder.ring(slot.name, "ub", size, slot.depth, "vector", "store", address=place)
        else:
            consumer = "store" if reg.writes else "load" if directs(reg, space) else "vector"
            producer = "fixpipe" if reg is accumulators else "load"
            made[id(slot)] = builder.ring(slot.name, "ub", size, slot.depth, producer, consumer, address=place)
    return {reg: made[id(storage.of[reg])] for reg in program.regs if reg in storage.of}
