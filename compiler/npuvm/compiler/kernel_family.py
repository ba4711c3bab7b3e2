"""A kernel planned once for one chip: what stays the same from shape to shape, and the way of a new shape through it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property

from npuvm.compiler.blocks import check_blocks
from npuvm.compiler.compiled import CompiledKernel, Launch, TensorSpec
from npuvm.compiler.cube_segment import compile_cube_segment, family_of
from npuvm.compiler.errors import CompileError
from npuvm.compiler.ir import Graph
from npuvm.compiler.mix_family import MixFamily
from npuvm.compiler.mix_segment import MixSegment, join_products
from npuvm.compiler.ops_views import CHECKED_VIEWS
from npuvm.compiler.pick_codegen import PickFamily
from npuvm.compiler.pick_segment import lower_pick
from npuvm.compiler.plan import Plan, make_plan
from npuvm.compiler.reduce_launches import Reduced, ReduceFamily, joined
from npuvm.compiler.segments import CubeSegment, PickSegment, Segment, VectorSegment
from npuvm.compiler.stack_launch import plan_workspace
from npuvm.compiler.symint import Function, SymInt, compile_values
from npuvm.compiler.vector_codegen import compile_vector
from npuvm.compiler.vector_family import VectorFamily
from npuvm.compiler.vector_space import RowsDoNotFit
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["KernelFamily"]

_KEPT_SHAPES = 512
"""Shapes whose programs are kept of one kernel: some 5 KB each."""

Shapes = Mapping[str, Sequence[int]]


class KernelFamily:
    """All instances of a kernel without pins on one chip; `mixed`, with products and what follows them in one program.

    With `atomic` sums that cores share are added to each other in memory; CompileError for reduces that cannot be.
    """

    def __init__(self, graph: Graph, chip: NpuConfig, isa: Isa, *, mixed: bool = True, atomic: bool = False) -> None:
        self._graph, self._chip, self._isa, self._mixed, self._atomic = graph, chip, isa, mixed, atomic
        self._binder = _Binder(graph)
        self._known: OrderedDict[tuple[tuple[int, ...], ...], tuple[CompiledKernel, CompiledKernel]] = OrderedDict()
        self._plans: dict[bool, _PlanFamily] = {}
        self._names = tuple(param.name for param in graph.params)
        self._outputs = tuple(output.name for output in graph.outputs)

    def compile(self, shapes: Shapes) -> CompiledKernel:
        """The kernel for the shapes of its parameters, as `compile_kernel` gives it."""
        return self._both(shapes)[0]

    def apart(self, shapes: Shapes) -> CompiledKernel:
        """The same with a launch for each part of what cores share, as it is stacked with others."""
        return self._both(shapes)[1]

    def _both(self, shapes: Shapes) -> tuple[CompiledKernel, CompiledKernel]:
        try:
            key = tuple([tuple(shapes[name]) for name in self._names])
        except KeyError:
            key = ()
        found = self._known.get(key)
        if found is not None and len(shapes) == len(self._names):
            self._known.move_to_end(key)
            return found
        apart = self._make(shapes, key)
        made = self._known[key] = joined(apart, self._chip, self._isa), apart
        if len(self._known) > _KEPT_SHAPES:
            self._known.popitem(last=False)
        return made

    def _make(self, shapes: Shapes, key: tuple[tuple[int, ...], ...]) -> CompiledKernel:
        start = time.perf_counter()
        seconds: dict[str, float] = {}
        values = self._binder.bind(shapes, key)
        try:
            plan = self._plan(True, seconds)
            launches, between = plan.launches(values)
        except RowsDoNotFit:
            plan = self._plan(False, seconds)
            launches, between = plan.launches(values)
        tensors = plan.tensors(values) + between
        if plan.has_workspace or between:
            # What mix programs hand over in place, or on chip, needs no memory.
            used = {name for launch in launches for name in launch.args}
            kept = [each for each in tensors if each.kind != "workspace" or each.name in used]
            tensors = plan_workspace(kept, launches)
        seconds["instance"] = time.perf_counter() - start - seconds.get("plan", 0.0)
        return CompiledKernel(self._graph.name, launches, tensors, self._outputs, seconds)

    def plan(self, *, whole_rows: bool) -> Plan:
        """The segments and tensors; see `make_plan`."""
        return self._plan(whole_rows, {}).plan

    def reduces(self, *, whole_rows: bool) -> Mapping[str, ReduceFamily]:
        """By name of the segment, those of the plan whose reduces cores may share."""
        return self._plan(whole_rows, {}).reduces

    def _make_plan(self, whole_rows: bool) -> Plan:
        casts = [(a, b) for a, b in self._isa.instruction("vcast").dtypes if b is not None]
        check_blocks(self._isa, self._graph.name)
        return make_plan(self._graph, casts, whole_rows=whole_rows)

    def _plan(self, whole_rows: bool, seconds: dict[str, float]) -> _PlanFamily:
        found = self._plans.get(whole_rows)
        if found is None:
            start = time.perf_counter()
            found = self._plans[whole_rows] = _PlanFamily(
                self._make_plan(whole_rows), self._binder.names, self._chip, self._isa, self._mixed, self._atomic
            )
            seconds["plan"] = seconds.get("plan", 0.0) + time.perf_counter() - start
        return found


class _PlanFamily:
    """The segments of a plan, each for all sizes, and the shapes of its tensors."""

    def __init__(self, plan: Plan, names: Sequence[str], chip: NpuConfig, isa: Isa, mixed: bool, atomic: bool) -> None:
        self.plan = plan
        self.has_workspace = any(tensor.kind == "workspace" for tensor in plan.tensors)
        segments = join_products(plan.segments) if mixed else plan.segments
        self._segments = [_launches(each, names, chip, isa, atomic) for each in segments]
        launches = (each for each in self._segments if isinstance(each, _VectorLaunches))
        self.reduces = {each.name: each.reduces for each in launches if each.reduces is not None}
        dims = [dim for tensor in plan.tensors for dim in tensor.shape]
        self._dims: Function = compile_values(names, [SymInt.variable(d) if isinstance(d, str) else d for d in dims])
        ends = [0]
        for tensor in plan.tensors:
            ends.append(ends[-1] + len(tensor.shape))
        self._tensors = [
            (t.name, t.kind, t.dtype, slice(start, end))
            for t, start, end in zip(plan.tensors, ends[:-1], ends[1:], strict=True)
        ]

    def tensors(self, values: Sequence[int]) -> tuple[TensorSpec, ...]:
        dims = self._dims(*values)
        return tuple([TensorSpec(name, kind, dtype, dims[place]) for name, kind, dtype, place in self._tensors])

    def launches(self, values: Sequence[int]) -> tuple[tuple[Launch, ...], tuple[TensorSpec, ...]]:
        """A launch for each segment that has something to do, two where cores share a reduce, and what is between these."""
        made: list[Launch] = []
        between: tuple[TensorSpec, ...] = ()
        for segment in self._segments:
            launch = segment.launch(values)
            if isinstance(launch, Reduced):
                made += launch.launches
                between += launch.tensors
            elif launch is not None:
                made.append(launch)
        return tuple(made), between


class _VectorLaunches:
    """Launches of a vector segment."""

    def __init__(
        self, segment: VectorSegment, names: Sequence[str], chip: NpuConfig, isa: Isa, atomic: bool = False
    ) -> None:
        self._segment, self._names, self._chip, self._isa = segment, names, chip, isa
        self._family = VectorFamily(segment, names, chip, isa)
        self._written = segment.written
        self.name, self.reduces = segment.name, ReduceFamily.of(segment, self._family, names, atomic=atomic)

    def launch(self, values: Sequence[int]) -> Launch | Reduced | None:
        shared = self.reduces.launches(values) if self.reduces is not None else None
        if shared is not None:
            return shared
        made = self._family.instance(values)
        if made is not None:
            return Launch(self._segment.name, "vector", *made, self._written)
        binding = dict(zip(self._names, values, strict=True))
        kernel = compile_vector(self._segment, binding, self._chip, self._isa)
        if kernel is None:
            return None
        return Launch(self._segment.name, "vector", kernel.image, kernel.tensors, self._written)


class _CubeLaunches:
    """Launches of a matrix product or a convolution."""

    def __init__(self, segment: CubeSegment, names: Sequence[str], chip: NpuConfig, isa: Isa) -> None:
        self._segment, self._names, self._chip, self._isa = segment, names, chip, isa
        self._family = family_of(segment, names, chip, isa)

    def launch(self, values: Sequence[int]) -> Launch | None:
        image = self._family.instance(values)
        if image is not None:
            return Launch(self._segment.name, "cube", image, self._family.tensors, self._segment.written)
        binding = dict(zip(self._names, values, strict=True))
        made = compile_cube_segment(self._segment, binding, self._chip, self._isa)
        return None if made is None else Launch(self._segment.name, "cube", *made, self._segment.written)


class _PickLaunches:
    """Launches of rows picked by index."""

    def __init__(self, segment: PickSegment, names: Sequence[str], chip: NpuConfig, isa: Isa) -> None:
        self._segment, self._names, self._family = segment, names, PickFamily(chip, isa)

    def launch(self, values: Sequence[int]) -> Launch | None:
        spec, args = lower_pick(self._segment, dict(zip(self._names, values, strict=True)))
        image = self._family.instance(spec, len(args))
        return None if image is None else Launch(self._segment.name, "vector", image, args, self._segment.written)


class _MixLaunches:
    """Launches of a product and the vector operations on it: one, or one for each where a shape does not allow that."""

    def __init__(self, segment: MixSegment, names: Sequence[str], chip: NpuConfig, isa: Isa) -> None:
        self._segment, self._names, self._chip, self._isa = segment, names, chip, isa
        try:
            self._family: MixFamily | None = MixFamily(segment, names, chip, isa)
        except CompileError:
            self._family = None

    def launch(self, values: Sequence[int]) -> Launch | Reduced | None:
        image = None if self._family is None else self._family.instance(values)
        if self._family is None or image is None:
            cube, vector = self._apart
            made = cube.launch(values), vector.launch(values)
            shared = [each for each in made if isinstance(each, Reduced)]
            launches = [each for each in made if isinstance(each, Launch)]
            return Reduced(
                (*launches, *(launch for each in shared for launch in each.launches)),
                tuple(tensor for each in shared for tensor in each.tensors),
            )
        return Launch(self._segment.name, "mix", image, self._family.tensors, self._segment.written)

    @cached_property
    def _apart(self) -> tuple[_CubeLaunches, _VectorLaunches]:
        """Both parts for themselves, where there is no program for both or a shape with nothing to add up."""
        chosen = self._names, self._chip, self._isa
        return _CubeLaunches(self._segment.product, *chosen), _VectorLaunches(self._segment.vector, *chosen)


_Launches = _VectorLaunches | _CubeLaunches | _PickLaunches | _MixLaunches


def _launches(
    segment: Segment | MixSegment, names: Sequence[str], chip: NpuConfig, isa: Isa, atomic: bool
) -> _Launches:
    if isinstance(segment, MixSegment):
        return _MixLaunches(segment, names, chip, isa)
    if isinstance(segment, CubeSegment):
        return _CubeLaunches(segment, names, chip, isa)
    if isinstance(segment, PickSegment):
        return _PickLaunches(segment, names, chip, isa)
    return _VectorLaunches(segment, names, chip, isa, atomic)


class _Binder:
    """Values of a graph's symbols for shapes of its parameters. What is wrong with a shape is for the graph itself to say."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        own = graph.symbols()
        self.names = (*own, *(each.name for each in graph.derived))
        dims = [dim for param in graph.params for dim in param.type.shape]
        self._first = [dims.index(name) for name in own]
        self._ranks = tuple(param.type.rank for param in graph.params)
        self._expected: Function = compile_values(own, [SymInt.variable(d) if isinstance(d, str) else d for d in dims])
        checked = any(node.op in CHECKED_VIEWS for node in graph.nodes)
        self._plain = not (graph.derived or graph.checks or checked)

    def bind(self, shapes: Shapes, key: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """Values in the order of `names`. CompileError when the shapes do not fit the graph."""
        if self._plain and len(shapes) == len(self._ranks) and tuple(map(len, key)) == self._ranks:
            dims = [size for shape in key for size in shape]
            values = tuple([dims[at] for at in self._first])
            if tuple(dims) == self._expected(*values) and min(dims, default=1) > 0:
                return values
        binding = self._graph.bind(shapes)
        return tuple([binding[name] for name in self.names])
