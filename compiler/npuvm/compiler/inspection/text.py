"""The phases of a compilation as text, one piece a phase: stable, readable, without ids of objects or times of the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from npuvm.compiler.conv.codegen import ConvKernel
from npuvm.compiler.conv.segment import ConvSegment
from npuvm.compiler.cube.codegen import MatmulKernel
from npuvm.compiler.cube.spec import MatView
from npuvm.compiler.emit.walk import Walk
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.printer import print_graph, print_node
from npuvm.compiler.inspection.buffers import BufferUse
from npuvm.compiler.inspection.kernel import Inspected, InspectedSegment, JointKernel
from npuvm.compiler.pick.codegen import PickKernel
from npuvm.compiler.plan.joint import MixSegment
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.tiles.library import find_library
from npuvm.compiler.vector.codegen import VectorKernel
from npuvm.compiler.vector.lower import Shape, Use, VecInsn, VecProgram
from npuvm.compiler.vector.space import Space, Transfer, dim_name
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa, disassemble

__all__ = ["PHASE_NAMES", "Phase", "library_note", "phase_texts"]

PHASE_NAMES = (
    *("stack", "graph", "legal", "plan", "space", "covered", "program", "product", "convolution", "rows", "parts"),
    *("buffers", "tile", "walk", "assembly"),
)
"""All names of phases; those of a segment stand behind its own name and a hyphen, all of a stack's kernel behind its place."""

_SHAPES: dict[Shape, str] = {
    (True, True): "tile",
    (False, True): "row",
    (True, False): "column",
    (False, False): "element",
}
_LISTED = 40
"""Candidates of a tile that are printed; of a matrix product there are about a thousand."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase left; `name` is that of its file without number and ending."""

    name: str
    text: str


def library_note(segments: Iterable[InspectedSegment], chip: NpuConfig, isa: Isa) -> str:
    """A line that says that the chip has no library for the tiles of products among the segments; empty where all is well.

    Convolutions and relays choose by formulas on every chip.
    """

    def asks(each: InspectedSegment) -> bool:
        if isinstance(each.segment, MixSegment):
            return not isinstance(each.segment.product, ConvSegment)
        return isinstance(each.kernel, MatmulKernel)

    if find_library(chip, isa) is not None or not any(map(asks, segments)):
        return ""
    return "costs of products' tiles are by formulas: this chip has no tile library; `npuvm tune` makes one"


def phase_texts(found: Inspected, chip: NpuConfig, isa: Isa) -> tuple[Phase, ...]:
    """All phases in order: graph, legal, plan; then for each segment its own; then launches that hold several segments."""
    sizes = ", ".join(f"{name} = {size}" for name, size in found.binding.items()) or "none"
    form = "whole rows in UB" if found.whole_rows else "cut at reduces whose whole rows do not fit UB"
    phases = [
        Phase("graph", print_graph(found.graph)),
        Phase("legal", print_graph(found.plan.graph)),
        Phase("plan", f"chip {chip.name}\nsizes {sizes}\nform {form}\n\n{found.plan}\n"),
    ]
    for segment in found.segments:
        phases += [Phase(f"{segment.name}-{name}", text) for name, text in _segment_texts(segment, chip, isa)]
    alone = {segment.name for segment in found.segments}
    for launch in found.compiled.launches:
        if launch.segment not in alone:
            phases.append(Phase(f"{launch.segment}-assembly", disassemble(isa, launch.image)))
    return tuple(phases)


def _segment_texts(segment: InspectedSegment, chip: NpuConfig, isa: Isa) -> list[tuple[str, str]]:
    kernel = segment.kernel
    if isinstance(kernel, VectorKernel):
        head = [
            ("space", _space_text(kernel.space)),
            ("covered", _covered_text(kernel.covered)),
            ("program", _program_text(kernel.program)),
        ]
    elif isinstance(kernel, JointKernel):
        head = [("parts", _text(str(part) for part in kernel.parts))]
    elif isinstance(kernel, PickKernel):
        head = [("rows", _rows_text(kernel))]
    elif isinstance(kernel, ConvKernel):
        head = [("convolution", _convolution_text(kernel))]
    else:
        head = [("product", _product_text(kernel))]
    return [
        *head,
        ("buffers", _buffers_text(segment, chip)),
        ("tile", _tile_text(segment)),
        ("walk", _walk_text(kernel.walk)),
        ("assembly", disassemble(isa, kernel.image)),
    ]


# Vector segments.


def _space_text(space: Space) -> str:
    lines = [f"{'dim':4} {'size':>12}  what"]
    for dim, size in enumerate(space.sizes):
        place = "row of a tile" if dim == space.row else "column of a tile" if dim == space.col else "walked"
        if space.cut is not None and dim == space.cut.chunk:
            place = f"chunks of {dim_name(space.cut.of)}, the last of {space.cut.rest} first"
        lines.append(f"{dim_name(dim):4} {size:12}  {place}{', reduced' if space.reduced[dim] else ''}")
    if any(space.reduced):
        lines.append(f"reduced dims are {'whole in a tile' if space.whole else 'walked and accumulated'}")
    lines += ["", *(f"read  {_transfer_text(each)}" for each in space.reads)]
    lines += [f"write {_transfer_text(each)}" for each in space.writes]
    return _text(lines)


def _transfer_text(transfer: Transfer) -> str:
    strides = ", ".join(str(stride) for stride in transfer.strides)
    offset = f" + {transfer.offset}" if transfer.offset else ""
    policy = f", {transfer.access.cache}" if transfer.access.cache != "normal" else ""
    return f"%{transfer.node.id} : {transfer.node.type}  @{transfer.access.tensor.name}[{strides}]{offset}{policy}"


def _covered_text(segment: VectorSegment) -> str:
    lines = [f"%{node.id} <- {access}" for node, access in segment.reads]
    lines += [_node_text(node) for node in segment.nodes]
    return _text([*lines, *(f"%{node.id} -> {access}" for node, access in segment.writes)])


def _node_text(node: Node) -> str:
    if "instruction" not in node.attrs:
        return print_node(node)
    inputs = ", ".join(f"%{each.id}" for each in node.inputs)
    op = _op_text(str(node.attrs["instruction"]), str(node.attrs["dtype"]), str(node.attrs["dtype2"] or ""))
    return f"%{node.id} = {op} {inputs} : {node.type}"


def _op_text(op: str, dtype: str, dtype2: str | None) -> str:
    return f"{op}.{dtype}" + (f"->{dtype2}" if dtype2 else "")


def _program_text(program: VecProgram) -> str:
    lines = [f"{'register':16} {'kind':5} {'shape':8} dtype"]
    lines += [f"{reg.name:16} {reg.kind:5} {_SHAPES[reg.shape]:8} {reg.dtype}" for reg in program.regs]
    return _text([*lines, "", *(f"{at:3}  {_insn_text(insn)}" for at, insn in enumerate(program.insns))])


def _insn_text(insn: VecInsn) -> str:
    sources = [f"{name}={_use_text(use)}" for name, use in insn.sources]
    sources += [f"{insn.imm[0]}={insn.imm[1]:#x}"] if insn.imm else []
    notes = [f"over {insn.over}"] if insn.over != "tile" else []
    if insn.when.kind != "always":
        dims = ", ".join(dim_name(dim) for dim in insn.when.dims)
        notes.append(f"if {insn.when.kind}({dims})")
    words = [_use_text(insn.dst), "=", _op_text(insn.op, insn.dtype, insn.dtype2), *sources, f"[{_SHAPES[insn.shape]}]"]
    return "  ".join([" ".join(words), *notes])


def _use_text(use: Use) -> str:
    return use.reg.name if use.how == "plain" else f"{use.reg.name}:{use.how}"


# Rows by index.


def _rows_text(kernel: PickKernel) -> str:
    spec, tile = kernel.spec, kernel.tile
    lines = [
        f"{spec.op} {spec.dtype}: {spec.outer} times {spec.picks} of {spec.count} rows of {spec.inner} elements",
        *(
            f"{name:5} argument {arg}, from element {first}"
            for name, (arg, first) in (("table", spec.table), ("index", spec.index), ("rows", spec.rows))
        ),
        f"a row in {tile.parts} pieces, indices in {tile.blocks} blocks",
    ]
    return _text(lines)


# Convolutions.


def _convolution_text(kernel: ConvKernel) -> str:
    spec = kernel.spec

    def pair(sizes: tuple[int, int]) -> str:
        return f"{sizes[0]} x {sizes[1]}"

    lines = [
        f"{spec.images} images of {pair(spec.size)} to {pair(spec.out)}, channels {'first' if spec.planes else 'last'}",
        f"kernel {pair(spec.kernel)}, strides {pair(spec.strides)}, dilations {pair(spec.dilations)}, pads {pair(spec.pads)}",
        f"{spec.groups} groups of {spec.channels} channels to {spec.filters}; sums of {spec.depth} products",
        f"x     argument {spec.x.arg} {spec.x.dtype}",
        f"w     argument {spec.w.arg} {spec.w.dtype}",
        f"y     argument {spec.y.arg} {spec.y.dtype}",
    ]
    lines += [f"bias  argument {spec.bias.arg} {spec.bias.dtype}"] if spec.bias is not None else []
    return _text(lines)


# Matrix products.


def _product_text(kernel: MatmulKernel) -> str:
    spec = kernel.spec
    batch = f"batch {' x '.join(map(str, spec.batch))}, " if spec.batch else ""
    lines = [f"{batch}m {spec.m}, n {spec.n}, k {spec.k}{', relu' if spec.relu else ''}"]
    lines += [f"{name:5} {_view_text(view)}" for name, view in spec.views.items()]
    lines.append(f"results leave through {'UB' if kernel.via_ub else 'the fixpipe to memory'}")
    return _text(lines)


def _view_text(view: MatView) -> str:
    offset = f" + {view.offset}" if view.offset else ""
    batch = f", batch strides {', '.join(map(str, view.batch))}" if view.batch else ""
    return f"argument {view.arg} {view.dtype}, row stride {view.row}, column stride {view.col}{batch}{offset}"


# Both.


def _buffers_text(segment: InspectedSegment, chip: NpuConfig) -> str:
    columns = f"{'slot bytes':>10} {'slots':>5} {'of values':>10} {'before':>6}"
    lines = [f"{'buffer':12} {'space':5} {columns}  values, in turn"]
    for each in segment.buffers:
        numbers = f"{each.slot_bytes:10} {each.slots:5} {each.used_bytes:10} {each.gap_bytes:6}"
        lines.append(f"{each.name:12} {each.space:5} {numbers}  {' '.join(each.values)}")
    lines += ["", *_ring_lines(segment.buffers), ""]
    for space, used in segment.space_bytes().items():
        capacity = chip.capacity_bytes(space)
        lines.append(f"{space:5} {used} of {capacity} bytes, {100 * used / capacity:.1f} %")
    return _text(lines)


def _ring_lines(buffers: Iterable[BufferUse]) -> list[str]:
    lines = []
    for each in buffers:
        if each.events is not None:
            events = each.events
            ends = f"{' and '.join(events.producers) or 'nobody'} to {' and '.join(events.consumers) or 'nobody'}"
            lines.append(
                f"ring g{events.number} {each.name}: {ends}, ready m{events.ready}, free m{events.free}; "
                f"{events.waits} waits and {events.sets} sets in the program"
            )
    return lines


def _tile_text(segment: InspectedSegment) -> str:
    lines = [f"taken {segment.tile}: {segment.cycles:.0f} cycles estimated"]
    lines += [segment.split] if segment.split else []
    lines += [segment.tiling.text] if segment.tiling is not None else []
    lines += [f"costs of tiles: {segment.known_by}"] if segment.known_by else []
    lines.append("")
    left = max(0, len(segment.candidates) - _LISTED)
    lines += [f"{each.cycles:14.0f}  {each.tile}" for each in segment.candidates[:_LISTED]]
    lines += [f"and {left} with higher estimates"] if left else []
    return _text(lines)


def _walk_text(walk: Walk) -> str:
    lines = []
    for number, grid in enumerate(walk.grids):
        axes = ", ".join(
            f"{axis.dim} {axis.trip}" + (f" by {axis.step}" if axis.step > 1 else "") for axis in grid.axes
        )
        origin = ", ".join(f"{dim} from {at}" for dim, at in grid.origin.items())
        lines.append(f"grid {number}: {axes}{f'; {origin}' if origin else ''}; {grid.tiles} tiles")
    lines += ["", f"{'core':>4}  tiles, start:stop of each grid"]
    lines += [
        f"{core:4}  {' '.join(f'{start}:{stop}' for start, stop in ranges)}" for core, ranges in enumerate(walk.ranges)
    ]
    return _text(lines)


def _text(lines: Iterable[str]) -> str:
    return "\n".join(line.rstrip() for line in lines) + "\n"
