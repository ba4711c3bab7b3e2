"""A compiled kernel opened up: what each segment went through, its tile among its candidates, its buffers and their rings.

Nothing here decides anything: it calls what `compile_kernel` calls and keeps what that drops.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from npuvm.compiler.conv.codegen import ConvKernel, compile_conv
from npuvm.compiler.conv.mix import mix_family_of
from npuvm.compiler.conv.relay import relay_family_of
from npuvm.compiler.conv.segment import ConvSegment, lower_conv
from npuvm.compiler.cube.chooser import chooser_of
from npuvm.compiler.cube.codegen import MatmulKernel, compile_matmul
from npuvm.compiler.cube.family import CubeFamily, part_of
from npuvm.compiler.cube.lower import lower_cube
from npuvm.compiler.cube.plan import candidate_tiles as cube_candidates
from npuvm.compiler.cube.problem import CubeTile, Tail
from npuvm.compiler.cube.segment import family_of
from npuvm.compiler.emit.walk import Walk
from npuvm.compiler.fusion.cuts import cut_of
from npuvm.compiler.graph.ir import Graph
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.inspection.buffers import BufferUse, cube_buffers, vector_buffers
from npuvm.compiler.inspection.rings import RingEvents, ring_events
from npuvm.compiler.inspection.tiling import (
    Tiling,
    costs_text,
    even_counts,
    image_counts,
    tile_text,
    tiling_of,
)
from npuvm.compiler.language.kernel import Kernel
from npuvm.compiler.language.kinds import pins_of_kind
from npuvm.compiler.language.pins import Pins, most_slots
from npuvm.compiler.mix.family import MixFamily
from npuvm.compiler.mix.segment import join_products
from npuvm.compiler.padding.copies import PART
from npuvm.compiler.padding.launches import PaddedProduct, Padding
from npuvm.compiler.padding.parts import product_of
from npuvm.compiler.pick.codegen import PickKernel, compile_pick
from npuvm.compiler.pick.segment import lower_pick
from npuvm.compiler.plan.joint import CutSegment, Joint, MixSegment, RelaySegment
from npuvm.compiler.plan.plan import Plan
from npuvm.compiler.plan.segments import CubeSegment, PickSegment, Segment, VectorSegment
from npuvm.compiler.program.compiled import CompiledKernel
from npuvm.compiler.program.family import KernelFamily
from npuvm.compiler.program.kernels import compile_segments, linked_segments, padding_of, split_of
from npuvm.compiler.program.kinds import compile_kernel
from npuvm.compiler.program.pins import pins_of_segment
from npuvm.compiler.reduce.launches import ReduceFamily
from npuvm.compiler.relay.segment import join_relays
from npuvm.compiler.split.launches import SplitProduct
from npuvm.compiler.vector.codegen import RING_SLOTS, VectorKernel, compile_vector
from npuvm.compiler.vector.family import VectorFamily, opened
from npuvm.compiler.vector.space import RowsDoNotFit
from npuvm.compiler.vector.tile import candidate_tiles as vector_candidates
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["Candidate", "Inspected", "InspectedSegment", "JointKernel", "inspect_kernel"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tile that was tried, as text, and its estimated cycles."""

    tile: str
    cycles: float


@dataclass(frozen=True, slots=True)
class JointKernel:
    """The program that several segments share; `walk` has the ranges of its cores alone."""

    parts: tuple[Segment, ...]
    image: Image
    walk: Walk


@dataclass(frozen=True)
class InspectedSegment:
    """A segment that became a program; `kernel` is what its code generator returned.

    `tile` is the one taken, `cycles` its estimate; `candidates` come with the lowest estimate first. `pitches` are the values
    of symbols that it has beside those of the graph: how far apart rows of copied operands lie. `known_by` is how costs of
    tiles are known at the levels of the chip, `tiling` how a product's lie on it and on the cores, where that is told; `split`
    says in how many parts of k a product is computed.
    """

    segment: Joint
    kernel: VectorKernel | MatmulKernel | ConvKernel | PickKernel | JointKernel
    args: tuple[str, ...]
    tile: str
    cycles: float
    candidates: tuple[Candidate, ...]
    buffers: tuple[BufferUse, ...]
    place: str = ""
    pitches: Mapping[str, int] = field(default_factory=dict)
    known_by: str = ""
    tiling: Tiling | None = None
    split: str = ""

    @property
    def name(self) -> str:
        """The name of the segment, behind where its kernel stands in a stack."""
        return f"{self.place}{self.segment.name}"

    @property
    def image(self) -> Image:
        """The program of the segment alone."""
        return self.kernel.image

    def space_bytes(self) -> dict[str, int]:
        """Bytes of all buffers on chip by memory space."""
        used: dict[str, int] = {}
        for each in (buffer for buffer in self.buffers if buffer.space != "gm"):
            used[each.space] = used.get(each.space, 0) + each.nbytes
        return used


@dataclass(frozen=True)
class Inspected:
    """A kernel for concrete shapes, its plan, and the segments that became programs.

    `whole_rows` says that the plan keeps whole rows in UB wherever it may. A plan has more segments than `segments` where some
    write nothing.
    """

    graph: Graph
    plan: Plan
    whole_rows: bool
    binding: Mapping[str, int]
    segments: tuple[InspectedSegment, ...]
    compiled: CompiledKernel


def inspect_kernel(
    kernel: Kernel | Graph, shapes: Mapping[str, Sequence[int]], chip: NpuConfig, isa: Isa, pins: Pins | None = None
) -> Inspected:
    """Compile a kernel for the shapes of its parameters and keep every step. CompileError as from `compile_kernel`.

    Of kernels of the kinds parallel, sequence and eager `npuvm.compiler.program.kinds.for_shapes` gives what can be inspected.
    """
    graph = kernel.graph if isinstance(kernel, Kernel) else kernel
    compiled = compile_kernel(kernel, shapes, chip, isa, pins)
    binding = graph.bind(shapes)
    values = pins_of_kind(graph, pins)
    parts = compiled
    if values.stack == "sequence":
        linked = linked_segments(graph, shapes, chip, isa, values)
        parts = linked or compile_segments(graph, shapes, chip, isa, replace(values, stack=None))
    # Launches of several programs are those that share a reduce, or copy what a product or a mix reads.
    whole_names = ((launch.segment.partition(".")[0], launch.kind) for launch in parts.launches)
    joint = frozenset(name for name, kind in whole_names if kind in ("mix", "stack") or "+" in name)
    joint |= {launch.segment.removesuffix(".first") for launch in parts.launches if launch.segment.endswith(".first")}
    pins = replace(graph.pins if pins is None else pins, split_k=split_of(values))
    for number, plan in enumerate(KernelFamily(graph, chip, isa, buffering=pins.buffering).plans_for(shapes)):
        try:
            segments = _segments(plan, binding, chip, isa, pins, joint)
            return Inspected(graph, plan, number == 0, binding, segments, compiled)
        except RowsDoNotFit as error:
            last = error
    raise last


def _segments(
    plan: Plan, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins, joint: Collection[str]
) -> tuple[InspectedSegment, ...]:
    """The segments; those that `joint` names share a program, or are cut in two."""
    found: list[InspectedSegment] = []
    todo: list[Joint] = [*join_products(join_relays(plan.segments))] if joint else [*plan.segments]
    slots = most_slots(pins.buffering, RING_SLOTS)
    todo = [(isinstance(each, VectorSegment) and each.name in joint and cut_of(each, slots)) or each for each in todo]
    ways, pins = (padding_of(pins), pins.split_k), replace(pins, pad=None, split_k=None)
    while todo:
        each = todo.pop(0)
        if isinstance(each, CubeSegment) or (isinstance(each, MixSegment) and each.name in joint):
            found += _product(each, plan, binding, chip, isa, pins, ways)
        elif isinstance(each, CutSegment):
            todo[:0] = each.parts
        elif not isinstance(each, MixSegment | RelaySegment):
            found += _apart([each], plan, binding, chip, isa, pins)
        elif each.name in joint:
            found.append(_joint(each, binding, chip, isa, pins.buffering))
        else:
            todo[:0] = join_products(each.parts) if isinstance(each, RelaySegment) else each.apart
    return tuple(found)


def _product(
    segment: CubeSegment | MixSegment,
    plan: Plan,
    binding: Mapping[str, int],
    chip: NpuConfig,
    isa: Isa,
    pins: Pins,
    ways: tuple[Padding, int | None],
) -> list[InspectedSegment]:
    """A product, alone or in a mix, behind the copies of its operands or before the sum of its parts where these are made.

    `ways` are how operands are copied, and the pinned number of parts.
    """
    (padding, parts_of_k), buffering = ways, pins.buffering
    chosen, always, names = _is_free(pins), padding == "always", tuple(binding)
    like = product_of(segment)
    product = PaddedProduct.of(segment, names, chip, isa, padding, buffering) if chosen or always else None
    split = SplitProduct.of(segment, names, chip, isa, parts_of_k, buffering) if chosen or parts_of_k else None
    operands = product.operands(tuple(binding.values()), split) if product is not None else ()
    if product is None or not operands:
        if split is not None and split.split(tuple(binding.values())).parts > 1:
            return _in_parts(split, plan, binding, chip, isa, pins)
        if isinstance(segment, MixSegment):
            return [_joint(segment, binding, chip, isa, buffering)]
        return _apart([segment], plan, binding, chip, isa, pins)
    parts, sizes = product.parts(operands), product.binding(operands, tuple(binding.values()))
    pitches = {name: size for name, size in sizes.items() if name not in binding}
    panels = _panels(product, operands, plan, binding, chip, isa) if chosen else []
    if panels:
        return [replace(each, pitches=pitches) for each in panels]
    found = _apart(parts.copies, plan, sizes, chip, isa, Pins(buffering=buffering))
    if isinstance(parts.segment, MixSegment):
        found.append(_joint(parts.segment, sizes, chip, isa, buffering, like))
    else:
        found += _apart([parts.segment], plan, sizes, chip, isa, pins, like)
    return [replace(each, pitches=pitches) for each in found]


def _panels(
    product: PaddedProduct, operands: tuple[str, ...], plan: Plan, binding: Mapping[str, int], chip: NpuConfig, isa: Isa
) -> list[InspectedSegment]:
    """The panels of a product, each behind the copies that are made for it; none where it is one."""
    segment, pins = product.parts(operands).segment, Pins(buffering=product.buffering)
    if not isinstance(segment, CubeSegment):
        return []
    values, sizes = tuple(binding.values()), product.binding(operands, tuple(binding.values()))
    pitches = product.pitches(operands, values)
    family = CubeFamily(segment, tuple(sizes), chip, isa, product_of(product.segment), product.buffering)
    made = product.panels(operands, family)
    if made is None:
        return []
    spec, args = lower_cube(segment, sizes)
    found: list[InspectedSegment] = []
    for step in product.steps(made, operands, values, pitches):
        for operand, first, size in step.copies:
            part = dict(zip(PART, (first, size), strict=True))
            copy = replace(made.segments[operand], name=made.copy_name(step, operand))
            found += _apart([copy], plan, {**sizes, **part}, chip, isa, pins)
        taken, panel = made.program(step, values, pitches), step.panel
        plain = compile_matmul(part_of(spec, panel[:2], panel[2:]), len(args), chip, isa, pins)
        if taken is None or plain is None:
            return []
        kernel = replace(_tiled(plain, taken.tile, len(args), chip, isa), image=taken.image)
        found.append(_cube(replace(segment, name=taken.image.name), kernel, args, chip, isa, taken.tail))
    return found


def _in_parts(
    split: SplitProduct, plan: Plan, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins
) -> list[InspectedSegment]:
    """The products of parts of k, and what adds them up."""
    values, parts = tuple(binding.values()), split.parts
    taken = split.split(values)
    bindings = split.bindings(taken, values)
    sizes = bindings[0]
    own = pins_of_segment(pins, product_of(split.segment), plan.segments)
    rest = replace(parts.product, name=f"{parts.product.name}.rest")
    products = [
        _apart([segment], replace(plan, segments=[segment]), each, chip, isa, own)[0]
        for segment, each in zip((parts.product, rest), bindings, strict=False)
    ]
    of_join = Pins(cores=own.cores, buffering=own.buffering)
    kernel = _vector_kernel(parts.join, sizes, chip, isa, of_join)
    assert kernel is not None, "what is added up has elements"
    whole = f"; as one {split.cost.whole_cycles(values):.0f}"
    left = f" and one of {taken.rest}" if taken.rest else ""
    text = (
        f"k in {taken.parts} parts of {taken.length}{left}, with their sum {taken.cycles:.0f} cycles estimated{whole}"
    )
    join = _vector(parts.join, kernel, chip, isa, of_join)
    extra = [{name: size for name, size in each.items() if name not in binding} for each in (*bindings, sizes)]
    return [replace(each, pitches=more, split=text) for each, more in zip((*products, join), extra, strict=True)]


def _apart(
    segments: Sequence[Segment],
    plan: Plan,
    binding: Mapping[str, int],
    chip: NpuConfig,
    isa: Isa,
    pins: Pins,
    like: CubeSegment | None = None,
) -> list[InspectedSegment]:
    """Segments that have programs of their own; products have the tiles of the product `like`."""
    found = []
    for segment in segments:
        own = pins_of_segment(pins, segment, plan.segments)
        if isinstance(segment, ConvSegment):
            conv, args = lower_conv(segment, binding)
            windows = compile_conv(conv, len(args), chip, isa, own)
            if windows is not None and _is_free(own):
                family = family_of(segment, tuple(binding), chip, isa, buffering=own.buffering)
                image = family.instance(tuple(binding.values()))
                windows = windows if image is None else replace(windows, image=image)
            if windows is not None:
                found.append(_conv(segment, windows, args, isa))
        elif isinstance(segment, CubeSegment):
            spec, args = lower_cube(segment, binding)
            product, tail = compile_matmul(spec, len(args), chip, isa, own), None
            if product is not None and _is_free(own):
                family = family_of(segment, tuple(binding), chip, isa, like, own.buffering)
                values = tuple(binding.values())
                assert isinstance(family, CubeFamily)
                image, tail = family.instance(values), family.tail(values)
                if image is not None:
                    tiled = _tiled(product, family.tile(values), len(args), chip, isa)
                    product = replace(tiled, image=image)
            if product is not None:
                found.append(_cube(segment, product, args, chip, isa, tail))
        elif isinstance(segment, PickSegment):
            rows, args = lower_pick(segment, binding)
            picked = compile_pick(rows, len(args), chip, isa, own)
            if picked is not None:
                found.append(_pick(segment, picked, args, isa))
        elif parts := _shared(segment, binding, chip, isa, own):
            found += [_vector(part, kernel, chip, isa, own) for part, kernel in parts]
        else:
            kernel = _vector_kernel(segment, binding, chip, isa, own)
            if kernel is not None:
                found.append(_vector(segment, kernel, chip, isa, own))
    return found


def _is_free(pins: Pins) -> bool:
    """Whether nothing is pinned that families do not know of."""
    return replace(pins, stack=None, buffering=None) == Pins()


def _tiled(product: MatmulKernel, tile: CubeTile, n_args: int, chip: NpuConfig, isa: Isa) -> MatmulKernel:
    """The product with the tile that its family takes."""
    if (tile.l1, tile.l0) == (product.tile.l1, product.tile.l0):
        return product
    pins = replace(product.problem.pins, tile={"l1": tile.l1, "l0": tile.l0})
    made = compile_matmul(product.spec, n_args, chip, isa, pins)
    assert made is not None
    return replace(made, problem=product.problem, tile=tile)


def _joint(
    segment: MixSegment | RelaySegment,
    binding: Mapping[str, int],
    chip: NpuConfig,
    isa: Isa,
    buffering: str | None,
    like: CubeSegment | None = None,
) -> InspectedSegment:
    """Segments that share a program: its buffers are named after the cores that have them where these are of two types."""
    names = tuple(binding)
    if isinstance(segment, MixSegment):
        family = mix_family_of(segment, names, chip, isa, like, buffering=buffering)
        looked = family.look(tuple(binding.values()))
        known_by = costs_text(family.chooser, chip, isa) if isinstance(family, MixFamily) else ""
    else:
        known_by = "formulas, on chips with a library as on others"
        looked = relay_family_of(segment, names, chip, isa, buffering).look(tuple(binding.values()))
    assert looked is not None, "a launch of it was compiled"
    image = looked.image
    starts = {entry.core_type: entry.pc for entry in image.entries}
    events: dict[tuple[str, int], RingEvents] = {}
    for core, start in starts.items():
        stop = min((pc for pc in starts.values() if pc > start), default=len(image.words))
        own = replace(image, words=image.words[start:stop], relocs=(), entries=(), grids=None)
        events |= {(core, each.number): each for each in ring_events(own, isa)}
    buffers = tuple(
        BufferUse(
            each.name if len(starts) == 1 else f"{each.core} {each.name}",
            each.space,
            each.slot_bytes,
            each.slots,
            each.slot_bytes,
            (each.name,),
            events=None if each.ring is None else events[each.core, each.ring],
        )
        for each in looked.buffers
    )
    kernel = JointKernel(segment.parts, image, Walk((), tuple(entry.ranges for entry in image.entries)))
    candidates = (Candidate(looked.tile, looked.cycles),)
    tiling = None if looked.product is None else _mix_tiling(segment, *looked.product, chip)
    return InspectedSegment(
        segment,
        kernel,
        looked.tensors,
        looked.tile,
        looked.cycles,
        candidates,
        buffers,
        known_by=known_by,
        tiling=tiling,
    )


def _mix_tiling(
    segment: MixSegment | RelaySegment, sizes: tuple[int, int, int, int], tile: CubeTile, chip: NpuConfig
) -> Tiling:
    assert isinstance(segment, MixSegment)
    (m, n, _, batch), (m1, n1, _) = sizes, tile.l1
    counts = even_counts(batch * -(-m // m1) * -(-n // n1), chip.cores_with("cube"))
    return tiling_of(sizes, tile, DTYPES[segment.product.a.tensor.dtype].item_bytes, counts, chip)


def _vector_kernel(
    segment: VectorSegment, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins
) -> VectorKernel | None:
    """The segment as an instance of its family, which segments without pins are; what the family leaves out is written anew."""
    if not _is_free(pins):
        return compile_vector(segment, binding, chip, isa, pins)
    values = tuple(binding.values())
    family = VectorFamily(segment, tuple(binding), chip, isa, buffering=pins.buffering)
    made = opened(family.chosen(values), family.instance(values), chip)
    return made or compile_vector(segment, binding, chip, isa, pins)


def _shared(
    segment: VectorSegment, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins
) -> list[tuple[VectorSegment, VectorKernel]]:
    """The parts of a segment whose reduces cores share; none where they do not."""
    names = tuple(binding)
    family = ReduceFamily.of(segment, VectorFamily(segment, names, chip, isa, buffering=pins.buffering), names)
    return [] if family is None else family.inspected(binding, pins)


def _conv(segment: ConvSegment, kernel: ConvKernel, args: tuple[str, ...], isa: Isa) -> InspectedSegment:
    """A convolution: of its tiles only the one taken is told."""
    text, cycles = str(kernel.tile), kernel.tile.cycles
    buffers = tuple(
        BufferUse(name, events.space, events.slot_bytes, events.slots, nbytes, (name,), events=events)
        for (name, nbytes), events in zip(kernel.used_bytes.items(), ring_events(kernel.image, isa), strict=True)
    )
    return InspectedSegment(segment, kernel, args, text, cycles, (Candidate(text, cycles),), buffers)


def _pick(segment: PickSegment, kernel: PickKernel, args: tuple[str, ...], isa: Isa) -> InspectedSegment:
    """Rows by index: there is one tile, and a ring for each of what is loaded and calculated."""
    tile = kernel.tile
    text = f"{tile.rows} x {tile.cols}, indices of {tile.tiles} tiles together"
    item = DTYPES[kernel.spec.dtype].item_bytes
    used = {"index": 4 * tile.block, "rows": tile.rows * tile.cols * item}
    buffers = tuple(
        BufferUse(name, events.space, events.slot_bytes, events.slots, nbytes, (name,), events=events)
        for (name, nbytes), events in zip(used.items(), ring_events(kernel.image, isa), strict=True)
    )
    return InspectedSegment(segment, kernel, args, text, kernel.cycles, (Candidate(text, kernel.cycles),), buffers)


def _vector(segment: Segment, kernel: VectorKernel, chip: NpuConfig, isa: Isa, pins: Pins) -> InspectedSegment:
    taken, buffers = kernel.tile, vector_buffers(kernel, isa)
    text, pieces = f"{taken.rows} x {taken.cols}", kernel.pieces
    if pieces is not None:
        text += " interleaved"
        tried = [(text, taken.cycles), (f"{pieces.rows} x {pieces.cols}", pieces.cycles)]
    else:
        tiles = vector_candidates(kernel.space, kernel.program, kernel.storage, chip, isa, pins)
        ordered = sorted(tiles, key=lambda tile: (tile.cycles, -tile.rows * tile.cols))
        tried = [(f"{tile.rows} x {tile.cols}", tile.cycles) for tile in ordered]
    candidates = tuple(Candidate(*each) for each in tried)
    return InspectedSegment(segment, kernel, kernel.tensors, text, taken.cycles, candidates, buffers)


def _cube(
    segment: CubeSegment,
    kernel: MatmulKernel,
    args: tuple[str, ...],
    chip: NpuConfig,
    isa: Isa,
    tail: Tail | None = None,
) -> InspectedSegment:
    cores = kernel.problem.pins.cores or chip.cores_with("cube")
    table, depths, cycles = cube_candidates(kernel.problem, kernel.spec, cores)
    order = np.argsort(cycles, kind="stable")
    candidates = tuple(
        Candidate(tile_text(table[at].tolist(), int(depths[at])), float(cycles[at])) for at in order.tolist()
    )
    estimate = kernel.tile.cycles
    if tail is not None:
        kernel, estimate = replace(kernel, tile=tail.main), tail.cycles
    tile = kernel.tile
    text = tile_text([*tile.l1, *tile.l0], tile.l0c_depth)
    found = InspectedSegment(segment, kernel, args, text, estimate, candidates, cube_buffers(kernel, isa))
    spec = kernel.spec
    sizes, item = (spec.m, spec.n, spec.k, prod(spec.batch)), kernel.problem.item
    tiling = tiling_of(sizes, tile, item, image_counts(kernel.image), chip, tail) if spec.k else None
    return replace(found, known_by=costs_text(chooser_of(kernel.problem, cores), chip, isa), tiling=tiling)
