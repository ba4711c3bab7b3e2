"""A kernel planned once for one chip: what stays the same from shape to shape, and the way of a new shape through it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import accumulate, chain, pairwise
from typing import Literal, NamedTuple

from npuvm.compiler.emit.blocks import check_blocks
from npuvm.compiler.emit.symint import Function, SymInt, compile_values
from npuvm.compiler.fusion.cuts import cut_of
from npuvm.compiler.fusion.launch_cost import LaunchCost
from npuvm.compiler.graph.ir import Graph
from npuvm.compiler.graph.ops_views import CHECKED_VIEWS
from npuvm.compiler.language.pins import most_slots
from npuvm.compiler.mix.segment import join_products
from npuvm.compiler.padding.launches import Padding
from npuvm.compiler.plan.joint import CutSegment, Joint, MixSegment, RelaySegment, sources_of
from npuvm.compiler.plan.plan import Plan, make_plan
from npuvm.compiler.plan.segments import CubeSegment, PickSegment, VectorSegment
from npuvm.compiler.program.compiled import CompiledKernel, TensorSpec
from npuvm.compiler.program.segment_launches import PickLaunches, launches_of
from npuvm.compiler.program.shared_launches import Launched, SharedLaunches
from npuvm.compiler.reduce.launches import ReduceFamily, joined
from npuvm.compiler.relay.segment import join_relays
from npuvm.compiler.stack.launch import plan_workspace
from npuvm.compiler.vector.codegen import RING_SLOTS
from npuvm.compiler.vector.launches import VectorLaunches, Ways
from npuvm.compiler.vector.space import RowsDoNotFit
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["KEPT_SHAPES", "KernelFamily", "Looked", "Mixing"]

Mixing = Literal["cheaper", "always", "never"]

_NONE: frozenset[str] = frozenset()

KEPT_SHAPES = 512
"""Shapes whose programs are kept of one kernel: some 5 KB each."""

Shapes = Mapping[str, Sequence[int]]

_Sizes = tuple[tuple[int, ...], ...]
"""Shapes of the parameters in their order."""

_Made = CompiledKernel | tuple[CompiledKernel, CompiledKernel]
"""A kernel, and the same with a launch for each part of what cores share where these are others."""


class Looked(NamedTuple):
    """A kernel for some shapes, the values of its symbols, its segments, and the launches of each by its number."""

    kernel: CompiledKernel
    binding: Mapping[str, int]
    values: tuple[int, ...]
    segments: Sequence[Joint]
    launches: SharedLaunches


class KernelFamily:
    """All instances of a kernel on one chip, without pins but those told here.

    `mixing` says when segments share a program: "cheaper" where that is estimated to take less time, "always" where they
    can, "never".

    With `atomic` sums that cores share are added to each other in memory; CompileError for reduces that cannot be.

    `padding` says when operands of products whose rows begin off the blocks of memory are copied first: "cheaper", "always",
    "never" likewise.

    `split` is how many parts of k cores share in each product: where that is estimated to be faster, unless it is given.

    With `operators` each operator of the source has a launch of its own, and no other operator's nodes are in its programs.

    `buffering` is that of `Pins`.
    """

    def __init__(
        self,
        graph: Graph,
        chip: NpuConfig,
        isa: Isa,
        *,
        mixing: Mixing = "cheaper",
        atomic: bool = False,
        padding: Padding = "cheaper",
        split: int | None = None,
        operators: bool = False,
        buffering: str | None = None,
    ) -> None:
        self._operators, self._buffering = operators, buffering
        self._graph, self._chip, self._isa, self._mixing, self._atomic = graph, chip, isa, mixing, atomic
        self._padding: Padding = padding
        self._split = split
        self._binder = _Binder(graph)
        self._known: tuple[OrderedDict[_Sizes, _Made], OrderedDict[_Sizes, _Made]] = OrderedDict(), OrderedDict()
        """What was made to be launched as it is, and to be linked with others."""
        self._stacks: OrderedDict[_Sizes, bool] = OrderedDict()
        self._plans: dict[frozenset[str] | None, _PlanFamily] = {}
        """By operators whose rows do not lie in UB whole; None of all."""
        self._weighs = False
        """Whether some plan makes other launches where they are going to be linked."""
        self._names = tuple(param.name for param in graph.params)
        self._outputs = tuple(output.name for output in graph.outputs)

    def compile(self, shapes: Shapes) -> CompiledKernel:
        """The kernel for the shapes of its parameters, as `compile_kernel` gives it."""
        found = self._both(shapes, linked=False)
        return found[0] if isinstance(found, tuple) else found

    def apart(self, shapes: Shapes) -> CompiledKernel:
        """The same with a launch for each part of what cores share, as it is stacked with others.

        The launches are going to be one: the host's time for each does not count in what is cheaper.
        """
        found = self._both(shapes, linked=True)
        return found[1] if isinstance(found, tuple) else found

    def stacks(self, shapes: Shapes) -> bool:
        """Whether one launch of all programs is estimated to take no longer than one for each.

        It saves what the host needs for a launch beyond the time of the program before, and has a barrier between two programs.
        """
        key = tuple([tuple(shapes[name]) for name in self._names])
        found = self._stacks.get(key)
        if found is None:
            looked = self.looked(shapes)
            alone, linked = (
                LaunchCost.of(self._chip, linked=each)(looked.launches.cycles(looked.values, linked=each))
                for each in (False, True)
            )
            found = self._stacks[key] = linked <= alone
            if len(self._stacks) > KEPT_SHAPES:
                self._stacks.popitem(last=False)
        return found

    def _both(self, shapes: Shapes, *, linked: bool) -> _Made:
        try:
            sizes = tuple([tuple(shapes[name]) for name in self._names])
        except KeyError:
            sizes = ()
        known, others = self._known[linked], self._known[not linked]
        found = known.get(sizes)
        if found is not None and len(shapes) == len(self._names):
            known.move_to_end(sizes)
            return found
        other = others.get(sizes)
        alike = other is not None and self._alike(self._binder.bind(shapes, sizes))
        made = known[sizes] = other if other is not None and alike else self._make(shapes, sizes, linked)
        if not self._weighs:
            others[sizes] = made
            if len(others) > KEPT_SHAPES:
                others.popitem(last=False)
        if len(known) > KEPT_SHAPES:
            known.popitem(last=False)
        return made

    def _alike(self, values: Sequence[int]) -> bool:
        """Whether it is known that launches are the same where they are going to be linked into one and where not."""
        (first, *others) = self._plans.values()
        return not others and first.shared.alike(values)

    def _make(self, shapes: Shapes, key: _Sizes, linked: bool) -> _Made:
        start = time.perf_counter()
        seconds: dict[str, float] = {}
        values = self._binder.bind(shapes, key)
        plan, made = self._launched(values, linked, seconds)
        launches = made[0].apart if len(made) == 1 else tuple([launch for each in made for launch in each.apart])
        tensors = plan.tensors(values)
        between = [tensor for each in made for tensor in each.tensors]
        if between:
            sizes = {each.name: each for each in between}
            tensors = tuple([sizes.pop(each.name, each) for each in tensors]) + tuple(sizes.values())
        if plan.has_workspace or between:
            # What mix programs hand over in place, or on chip, needs no memory.
            used = {name for launch in launches for name in launch.args}
            kept = [each for each in tensors if each.kind != "workspace" or each.name in used]
            tensors = plan_workspace(kept, launches)
        seconds["instance"] = time.perf_counter() - start - seconds.get("plan", 0.0)
        apart = CompiledKernel(self._graph.name, launches, tensors, self._outputs, seconds)
        if self._operators:
            return joined(apart, self._chip, self._isa), apart
        if all(each.joined is each.apart for each in made):
            return apart
        whole = tuple([launch for each in made for launch in each.joined])
        return CompiledKernel(apart.name, whole, tensors, apart.outputs, seconds), apart

    def looked(self, shapes: Shapes, *, linked: bool = False) -> Looked:
        """What the kernel for these shapes is made of, for who wants to see it."""
        made = self.apart(shapes) if linked else self.compile(shapes)
        values = self._binder.bind(shapes, tuple([tuple(shapes[name]) for name in self._names]))
        plan, _ = self._launched(values, linked, {})
        return Looked(made, dict(zip(self._binder.names, values, strict=True)), values, plan.segments, plan.shared)

    def plan(self, *, whole_rows: bool) -> Plan:
        """The segments and tensors; see `make_plan`."""
        return self._plan(_NONE if whole_rows else None, {}).plan

    def plans(self) -> Iterator[Plan]:
        """The plan that most shapes have, those of other shapes until now, and that without whole rows."""
        yield self._plan(_NONE, {}).plan
        yield from [each.plan for wide, each in self._plans.items() if wide]
        yield self._plan(None, {}).plan

    def plans_for(self, shapes: Shapes) -> Iterator[Plan]:
        """The plan that most shapes have, that of these shapes, and that without whole rows: for who makes tiles of its own."""
        yield self._plan(_NONE, {}).plan
        values = self._binder.bind(shapes, tuple([tuple(shapes[name]) for name in self._names]))
        with suppress(RowsDoNotFit):
            yield self._launched(values, False, {})[0].plan
        yield self._plan(None, {}).plan

    def reduces(self, plan: Plan) -> Mapping[str, ReduceFamily]:
        """By name of the segment, those of one of the plans whose reduces cores may share."""
        return next(each for each in self._plans.values() if each.plan is plan).reduces()

    def _launched(
        self, values: Sequence[int], linked: bool, seconds: dict[str, float]
    ) -> tuple[_PlanFamily, list[Launched]]:
        """The launches for values of the symbols, of a plan in which only rows that fit UB are whole."""
        wide: frozenset[str] | None = _NONE
        while True:
            plan = self._plan(wide, seconds)
            try:
                return plan, plan.launched(values, linked)
            except RowsDoNotFit:
                if wide is None:
                    raise
            more = wide | plan.too_long(values)
            wide = more if more > wide else None

    def _make_plan(self, wide: frozenset[str] | None) -> Plan:
        casts = [(a, b) for a, b in self._isa.instruction("vcast").dtypes if b is not None]
        check_blocks(self._isa, self._graph.name)
        whole = wide is not None
        return make_plan(self._graph, casts, whole_rows=whole, operators=self._operators, wide=wide or _NONE)

    def _plan(self, wide: frozenset[str] | None, seconds: dict[str, float]) -> _PlanFamily:
        found = self._plans.get(wide)
        if found is None:
            start = time.perf_counter()
            found = self._plans[wide] = _PlanFamily(
                self._make_plan(wide),
                Ways(
                    self._binder.names,
                    self._chip,
                    self._isa,
                    self._atomic,
                    self._mixing == "always",
                    self._padding,
                    self._split,
                    self._buffering,
                ),
                mixing=self._mixing != "never",
                operators=self._operators,
            )
            self._weighs = self._weighs or found.weighs
            seconds["plan"] = seconds.get("plan", 0.0) + time.perf_counter() - start
        return found


class _PlanFamily:
    """The segments of a plan, each for all sizes, and the shapes of its tensors."""

    def __init__(
        self,
        plan: Plan,
        ways: Ways,
        *,
        mixing: bool,
        operators: bool,
    ) -> None:
        self.plan, self._ways = plan, ways
        self.has_workspace = any(tensor.kind == "workspace" for tensor in plan.tensors)
        segments: Sequence[Joint] = join_products(join_relays(plan.segments)) if mixing else plan.segments
        if mixing and not ways.always:
            slots = most_slots(ways.buffering, RING_SLOTS)
            segments = [(isinstance(each, VectorSegment) and cut_of(each, slots)) or each for each in segments]
        self.segments = segments
        kinds = {tensor.name: tensor.kind for tensor in plan.tensors}
        self.shared = SharedLaunches(segments, partial(launches_of, ways=ways), kinds, ways.chip, ways.isa)
        self.weighs = any(isinstance(each, RelaySegment | MixSegment | CutSegment) for each in segments)
        """Whether what the host takes for a launch decides about some segment."""
        self._sources = [_source_of(each) if operators else "" for each in segments]
        shapes = list(dict.fromkeys([tensor.shape for tensor in plan.tensors]))
        dims = [dim for shape in shapes for dim in shape]
        self._dims: Function = compile_values(
            ways.names, [SymInt.variable(d) if isinstance(d, str) else d for d in dims]
        )
        ends = [0, *accumulate(map(len, shapes))]
        self._shapes = [slice(*each) for each in pairwise(ends)]
        self._tensors = [(t.name, t.kind, t.dtype, shapes.index(t.shape)) for t in plan.tensors]

    def tensors(self, values: Sequence[int]) -> tuple[TensorSpec, ...]:
        dims = self._dims(*values)
        shapes = [dims[place] for place in self._shapes]
        return tuple([TensorSpec(name, kind, dtype, shapes[at]) for name, kind, dtype, at in self._tensors])

    def launched(self, values: Sequence[int], linked: bool) -> list[Launched]:
        """The launches of each segment; what an operator of the source needs beyond its first continues that."""
        made = self.shared.launched(values, linked)
        before = ""
        for at, source in enumerate(self._sources):
            apart = made[at].apart
            if source and source == before and apart:
                made[at] = replace(made[at], apart=(replace(apart[0], continues=True), *apart[1:]))
            before = source if apart else before
        return made

    def too_long(self, values: Sequence[int]) -> frozenset[str]:
        """The operators of segments that want whole rows of more elements than fit UB."""
        found: set[str] = set()
        for number, segment in enumerate(self.segments):
            launches = self.shared.of(number)
            try:
                if not isinstance(launches, PickLaunches):
                    launches.cycles(values)
            except RowsDoNotFit:
                found |= sources_of(segment)
        return frozenset(found)

    def reduces(self) -> Mapping[str, ReduceFamily]:
        """By name of the segment, those whose reduces cores may share."""
        vectors = (each for each in self.plan.segments if isinstance(each, VectorSegment))
        made = (VectorLaunches(each, self._ways) for each in vectors)
        return {each.name: each.reduces for each in made if each.reduces is not None}


def _source_of(segment: Joint) -> str:
    """The operator of the source whose nodes a segment has; "" for copies."""
    if isinstance(segment, VectorSegment):
        return segment.nodes[0].source if segment.nodes else ""
    return segment.node.source if isinstance(segment, CubeSegment | PickSegment) else ""


class _Binder:
    """Values of a graph's symbols for shapes of its parameters. What is wrong with a shape is for the graph itself to say."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        own = graph.symbols()
        self.names = (*own, *(each.name for each in graph.derived))
        dims = [dim for param in graph.params for dim in param.type.shape]
        self._first = [dims.index(name) for name in own]
        self._ranks = tuple(param.type.rank for param in graph.params)
        named = [SymInt.variable(d) if isinstance(d, str) else d for d in dims]
        self._expected: Function = compile_values(self.names, named)
        checked = any(node.op in CHECKED_VIEWS for node in graph.nodes)
        self._plain = not (graph.derived or graph.checks or checked)

    def bind(self, shapes: Shapes, key: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """Values in the order of `names`. CompileError when the shapes do not fit the graph."""
        if self._plain and len(shapes) == len(self._ranks) and tuple(map(len, key)) == self._ranks:
            dims = tuple(chain.from_iterable(key))
            values = tuple([dims[at] for at in self._first])
            if {*map(type, dims)} <= {int} and dims == self._expected(*values) and min(dims, default=1) > 0:
                return values
        binding = self._graph.bind(shapes)
        return tuple([binding[name] for name in self.names])
