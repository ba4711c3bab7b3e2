"""From a kernel to launches: plan once per graph, bind concrete shapes, generate each segment's image."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.blocks import check_blocks
from npuvm.compiler.builder import Kernel
from npuvm.compiler.cube_codegen import compile_matmul
from npuvm.compiler.cube_lower import lower_cube
from npuvm.compiler.ir import Graph
from npuvm.compiler.plan import Plan, make_plan
from npuvm.compiler.program_clock import Clock
from npuvm.compiler.program_pins import pins_of_segment
from npuvm.compiler.schedule import Pins
from npuvm.compiler.segments import CubeSegment, Segment
from npuvm.compiler.stack_launch import plan_workspace, stacked
from npuvm.compiler.symbols import evaluate
from npuvm.compiler.types import DTYPES
from npuvm.compiler.vector_codegen import compile_vector
from npuvm.compiler.vector_space import RowsDoNotFit
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["CompiledKernel", "Launch", "TensorSpec", "compile_kernel"]

_KEPT_PLANS = 256


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A row-major tensor that the launches read or write; `kind` is param, output or workspace.

    `offset` is where a tensor of kind workspace begins in the kernel's workspace, in bytes; launches that run later may use
    the bytes of what nobody needs any more.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes in global memory."""
        count = 1
        for size in self.shape:
            count *= size
        return count * DTYPES[self.dtype].item_bytes


@dataclass(frozen=True, slots=True)
class Launch:
    """An image and the tensors whose addresses it takes, in order. `kind` is cube, vector, or stack for several segments.

    `writes` are those of the tensors that it writes; empty when it is not known which.
    """

    segment: str
    kind: str
    image: Image
    args: tuple[str, ...]
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel for concrete shapes: launches to run one after the other, and the tensors they need.

    `outputs` names the outputs in the order of the kernel's stores. `seconds` is measured host time by phase: plan (0 when
    the graph was planned before), bind, then tile, emit and encode of products, vector for all of vector segments, and stack.
    """

    name: str
    launches: tuple[Launch, ...]
    tensors: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def workspace_bytes(self) -> int:
        """Bytes of the workspace that holds all tensors of that kind."""
        return max((each.offset + each.nbytes for each in self.tensors if each.kind == "workspace"), default=0)


def compile_kernel(
    kernel: Kernel | Graph, shapes: Mapping[str, Sequence[int]], chip: NpuConfig, isa: Isa, pins: Pins | None = None
) -> CompiledKernel:
    """Programs of a kernel for the shapes of its parameters; `pins` replace those that the kernel itself sets with `k.pin`.

    A segment whose result has no elements needs no launch. CompileError when the shapes do not fit the kernel, an operation
    cannot be had on the chip, or a pin cannot be honoured.
    """
    graph = kernel.graph if isinstance(kernel, Kernel) else kernel
    clock = Clock()
    with clock.phase("bind"):
        binding = graph.bind(shapes)
    try:
        plan = _PLANS.get(graph, isa, True, clock)
        launches = _launches(plan, binding, chip, isa, pins or graph.pins, clock)
    except RowsDoNotFit:
        plan = _PLANS.get(graph, isa, False, clock)
        launches = _launches(plan, binding, chip, isa, pins or graph.pins, clock)
    tensors = tuple(TensorSpec(t.name, t.kind, t.dtype, evaluate(t.shape, binding)) for t in plan.tensors)
    outputs = tuple(output.name for output in graph.outputs)
    if (pins or graph.pins).stack == "sequence":
        with clock.phase("stack"):
            return stacked(CompiledKernel(graph.name, launches, tensors, outputs, clock.seconds), chip, isa)
    return CompiledKernel(graph.name, launches, plan_workspace(tensors, launches), outputs, clock.seconds)


def _launches(
    plan: Plan, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins, clock: Clock
) -> tuple[Launch, ...]:
    compiled = []
    for segment in plan.segments:
        launch = _launch(segment, binding, chip, isa, pins_of_segment(pins, segment, plan.segments), clock)
        if launch is not None:
            compiled.append(launch)
    return tuple(compiled)


def _launch(
    segment: Segment, binding: Mapping[str, int], chip: NpuConfig, isa: Isa, pins: Pins, clock: Clock
) -> Launch | None:
    if isinstance(segment, CubeSegment):
        with clock.phase("bind"):
            spec, args = lower_cube(segment, binding)
        product = compile_matmul(spec, len(args), chip, isa, pins, clock)
        return None if product is None else Launch(segment.name, "cube", product.image, args, (segment.c.tensor.name,))
    with clock.phase("vector"):
        result = compile_vector(segment, binding, chip, isa, pins)
    if result is None:
        return None
    writes = tuple(dict.fromkeys(access.tensor.name for _, access in segment.writes))
    return Launch(segment.name, "vector", result.image, result.tensors, writes)


class _Plans:
    """The most recently used plans, by graph."""

    def __init__(self) -> None:
        self._plans: OrderedDict[tuple[int, str, bool], tuple[Graph, Plan]] = OrderedDict()

    def get(self, graph: Graph, isa: Isa, whole_rows: bool, clock: Clock) -> Plan:
        """The plan of a graph; made when it is not there. An entry keeps its graph alive, so an id names one graph."""
        key = (id(graph), isa.hash, whole_rows)
        found = self._plans.get(key)
        if found is not None:
            self._plans.move_to_end(key)
            return found[1]
        with clock.phase("plan"):
            casts = [(a, b) for a, b in isa.instruction("vcast").dtypes if b is not None]
            check_blocks(isa, graph.name)
            plan = make_plan(graph, casts, whole_rows=whole_rows)
        self._plans[key] = (graph, plan)
        if len(self._plans) > _KEPT_PLANS:
            self._plans.popitem(last=False)
        return plan


_PLANS = _Plans()
