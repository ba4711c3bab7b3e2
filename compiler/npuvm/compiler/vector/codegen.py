"""Compiles a vector segment for concrete sizes: iteration space, tile program, buffers, tile, walk over the tiles, image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from npuvm.compiler.emit.walk import Axis, GridWalk, TileDim, Walk, plan_walk
from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops import REDUCES
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import TensorType
from npuvm.compiler.language.pins import Pins, most_slots, pin_error
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.reduce.cut import cut_space
from npuvm.compiler.reduce.parts import CHUNKS, EDGE, LENGTH
from npuvm.compiler.vector.buffers import Storage, assign_slots
from npuvm.compiler.vector.cover import cover
from npuvm.compiler.vector.emit import write_vector
from npuvm.compiler.vector.lower import VecProgram, lower_vector
from npuvm.compiler.vector.phases import stagger, stripe_bytes
from npuvm.compiler.vector.select import Selector
from npuvm.compiler.vector.space import RowsDoNotFit, Space, dim_name, make_space, view_tile
from npuvm.compiler.vector.tile import VectorTile, choose_tile, fair_cycles, least_tile
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["RING_SLOTS", "VectorKernel", "compile_vector", "covered", "tiled"]

RING_SLOTS = 2
"""Slots of a ring, so that transfers and work overlap."""


_KEPT_PROGRAMS = 64
"""Tile programs, and selections of instructions, that are kept of one segment."""


@dataclass(frozen=True, slots=True)
class VectorKernel:
    """A vector segment as a program image. `tensors` names the tensors whose addresses the launch gives, in order.

    `covered` is the segment in instructions; `program` and `storage` are its tile program and its buffers. `pieces`
    is the tile that cores with a piece each would have, where they have chunks, or blocks of rows, in turn; else None.
    """

    image: Image
    tensors: tuple[str, ...]
    tile: VectorTile
    space: Space
    walk: Walk
    core_type: str
    covered: VectorSegment
    program: VecProgram
    storage: Storage
    pieces: VectorTile | None = None


def compile_vector(
    segment: VectorSegment, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins | None = None
) -> VectorKernel | None:
    """The program of a segment; None when it writes no elements.

    Raises RowsDoNotFit when the segment wants whole rows and they do not fit UB (make the plan with `whole_rows=False`
    then), and CompileError when the instruction set lacks an operation or a pin cannot be honoured.
    """
    pins = pins or Pins()
    live = _nonempty(segment, binding)
    if live is None:
        return None
    where = segment.name
    _check_pins(pins, chip, where)
    space, program, storage, tile, used = _best(live, binding, chip, isa, pins)
    walk = _walk(space, tile, pins.cores or chip.cores_with("vector"), pins)
    core_type = chip.core_type_with("vector")
    builder, tensors = write_vector(where, space, program, storage, tile, walk.grids, chip, isa, pins)
    return VectorKernel(
        builder.build(core_type, walk.ranges), tensors, tile, space, walk, core_type, used, program, storage
    )


def covered(segment: VectorSegment, space: Space, chip: NpuConfig, isa: Isa, *, again: bool) -> VectorSegment:
    """The segment in instructions; which are cheapest depends on the chip's vector unit and on how much UB holds."""
    tile = view_tile(space)
    key = ("covered", isa.hash, id(chip), tile, again)
    if key not in segment.memo:
        if len(segment.memo) >= _KEPT_PROGRAMS:
            segment.memo.clear()
        # The chip is kept, so that no other can have its id.
        segment.memo[key] = chip, cover(segment, tile, isa, chip, again=again)
    result: VectorSegment = segment.memo[key][1]
    return result


_Choice = tuple[Space, VecProgram, Storage, VectorTile, VectorSegment]


def _best(segment: VectorSegment, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins) -> _Choice:
    """Space, tile program, buffers and tile with the lowest estimate: reduced dims whole in a tile, or accumulated.

    As in a family, which it is does not depend on the number of cores.
    """
    space = make_space(segment, binding)
    if segment.chunked is not None:
        number, length, edge = (binding[each] for each in (CHUNKS, LENGTH, EDGE))
        space = cut_space(space, number, length, edge, segment.chunked)
    if space.whole or not space.may_be_whole():
        return _choose(segment, space, binding, chip, isa, pins)
    walked = _choose(segment, space, binding, chip, isa, pins)
    entire = replace(space, whole=True)
    pinned = pins.tile.get("vector")
    if pinned is not None and any(size < least for size, least in zip(pinned, least_tile(entire), strict=True)):
        return walked
    try:
        most = most_slots(pins.buffering, RING_SLOTS)
        whole = _with_depth(most, segment, entire, binding, chip, isa, pins, gaps_only=True)
    except RowsDoNotFit:
        return walked
    if pinned is not None:
        return min(whole, walked, key=lambda choice: choice[3].cycles)

    return min(whole, walked, key=lambda choice: fair_cycles(choice[0], choice[1], choice[2], choice[3], chip, isa))


def _choose(
    segment: VectorSegment, space: Space, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins
) -> _Choice:
    """Rings of as many slots as there may be; of one slot where whole rows fit only so."""
    most = most_slots(pins.buffering, RING_SLOTS)
    try:
        return _with_depth(most, segment, space, binding, chip, isa, pins)
    except RowsDoNotFit:
        if most == 1:
            raise
        return _with_depth(1, segment, space, binding, chip, isa, pins)


def _with_depth(
    depth: int,
    segment: VectorSegment,
    space: Space,
    binding: Mapping[str, int],
    chip: NpuConfig,
    isa: Isa,
    pins: Pins,
    *,
    gaps_only: bool = False,
) -> _Choice:
    segment = covered(segment, space, chip, isa, again=depth > 1)
    if not pins.address and stripe_bytes(chip):
        try:
            program, storage = tiled(segment, space, binding, isa, pins, depth, chip)
            tile = choose_tile(space, program, storage, chip, isa, pins, segment.name)
            return space, program, storage, tile, segment
        except CompileError:  # there may be room without the gaps between buffers
            if gaps_only:
                raise
    program, storage = tiled(segment, space, binding, isa, pins, depth, None)
    return space, program, storage, choose_tile(space, program, storage, chip, isa, pins, segment.name), segment


def tiled(
    segment: VectorSegment,
    space: Space,
    binding: Mapping[str, int],
    isa: Isa,
    pins: Pins,
    depth: int,
    banked: NpuConfig | None,
) -> tuple[VecProgram, Storage]:
    """Tile program and buffers of a segment, made once for all that it depends on.

    `banked` is a chip whose banks they are to respect.
    """
    counts = tuple(
        prod(evaluate(each.dims("dims"), binding))
        for node in segment.nodes
        for each in node.inputs
        if each.op == "size"
    )
    banks = banked.core.ub_banks if banked is not None else None
    key = (isa.hash, space.structure(), counts, depth, tuple(sorted(pins.ring_depth.items())), banks)
    known: tuple[VecProgram, Storage] | None = segment.memo.get(key)
    if known is None:
        if len(segment.memo) >= _KEPT_PROGRAMS:
            segment.memo.clear()
        program = lower_vector(segment, space, binding, Selector(isa))
        storage = assign_slots(program, pins, depth, segment.name)
        if banked is not None:
            stagger(program, storage, banked)
        known = segment.memo[key] = (program, storage)
    return known


def _check_pins(pins: Pins, chip: NpuConfig, where: str) -> None:
    cores = chip.cores_with("vector")
    for level in ("l1", "l0"):
        if level in pins.tile:
            pin_error(f"tile.{level}", pins.tile[level], "tile.vector for a vector kernel", where)
    for pin in ("l1_depth", "l1_k", "l0c_parts", "part"):
        if getattr(pins, pin):
            pin_error(pin, getattr(pins, pin), "nothing for a vector kernel: it has no matrix product", where)
    if pins.cores is not None and pins.cores > cores:
        pin_error("cores", pins.cores, f"at most {cores} cores with a vector unit on {chip.name}", where)
    if pins.grid is not None and prod(pins.grid) > cores:
        pin_error("grid", pins.grid, f"at most {cores} cores with a vector unit on {chip.name}", where)


def _nonempty(segment: VectorSegment, binding: Mapping[str, int]) -> VectorSegment | None:
    """The segment without what has no elements; a sum over nothing is 0, a product 1. None when nothing is written."""

    def filled(node: Node) -> bool:
        return 0 not in evaluate(node.type.shape, binding)

    writes = [(node, access) for node, access in segment.writes if filled(node)]
    if not writes:
        return None
    if 0 not in evaluate(segment.domain, binding):
        return segment
    needed = {node.id for node, _ in writes}
    nodes: list[Node] = []
    for node in reversed(segment.nodes):
        if node.id in needed:
            nodes.insert(0, _neutral(node) if node.op in REDUCES else node)
            needed.update(each.id for each in nodes[0].inputs)
    needed.update(access.picks.index for node, access in segment.reads if access.picks and node.id in needed)
    reads = [(node, access) for node, access in segment.reads if node.id in needed]
    domain = _joint_shape([*nodes, *(node for node, _ in (*reads, *writes))], len(segment.domain), binding)
    return replace(segment, domain=domain, reduce_axes=(), form="map", nodes=nodes, reads=reads, writes=writes, memo={})


def _joint_shape(nodes: Sequence[Node], rank: int, binding: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of `rank` dims that all values, none of them empty, broadcast to."""
    shapes = [evaluate(node.type.shape, binding) for node in nodes]
    return tuple(max(shape[axis] if -axis <= len(shape) else 1 for shape in shapes) for axis in range(-rank, 0))


def _neutral(node: Node) -> Node:
    """Zero in the shape and under the number of a sum; one for a product."""
    value: float = int(node.op == "reduce_prod")
    value = value if node.type.dtype == "int32" else float(value)
    zero = Node(-1, "const", (), {"dtype": node.type.dtype, "value": value}, TensorType(node.type.dtype, ()))
    return Node(node.id, "broadcast_to", (zero,), {"shape": node.type.shape}, node.type, node.where)


def _walk(space: Space, tile: VectorTile, cores: int, pins: Pins) -> Walk:
    """Tiles of the dims that stay, cut over the cores; inside each, all tiles of the reduced dims on the same core."""
    counts = {dim: space.sizes[dim] for dim in space.others}
    counts[space.col] = -(-space.cols // tile.cols)
    if space.row is not None:
        counts[space.row] = -(-space.rows // tile.rows)

    def tile_dim(dim: int | None, size: int, edge: int) -> TileDim:
        if dim is None or space.reduced[dim]:
            return TileDim("none", 1)
        return TileDim(dim_name(dim), counts[dim], size % edge != 0)

    batch = [TileDim(dim_name(dim), space.sizes[dim]) for dim in space.others if not space.reduced[dim]]
    rows, cols = tile_dim(space.row, space.rows, tile.rows), tile_dim(space.col, space.cols, tile.cols)
    if pins.order is None and pins.grid is None:
        pins = replace(pins, order="column")
    walk = plan_walk(batch, rows, cols, cores, pins)
    inner = tuple(Axis(dim_name(dim), counts[dim]) for dim in sorted(counts) if space.reduced[dim] and counts[dim] > 1)
    if not inner:
        return walk
    steps = prod(axis.trip for axis in inner)
    grids = tuple(GridWalk((*(axis for axis in grid.axes if axis.moves), *inner), grid.origin) for grid in walk.grids)
    ranges = tuple(tuple((start * steps, stop * steps) for start, stop in each) for each in walk.ranges)
    return Walk(grids, ranges)
