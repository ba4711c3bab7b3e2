"""Compiles kernels of every kind: as their segments, as a stack of their parts, or as what they do with the sizes given."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from npuvm.compiler.conv.mix import mix_family_of
from npuvm.compiler.conv.relay import relay_family_of
from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.eager import Gathered, KernelStore
from npuvm.compiler.graph.ir import Graph, Node
from npuvm.compiler.language.kernel import Kernel
from npuvm.compiler.language.kinds import STACKED_KTYPES, check_ktype, check_operators, pins_of_kind
from npuvm.compiler.language.pins import Pins, pin_error
from npuvm.compiler.mix.segment import join_products
from npuvm.compiler.plan.joint import CutSegment, Joint, MixSegment, RelaySegment
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.program.compiled import CompiledKernel, TensorSpec
from npuvm.compiler.program.kernels import compile_segments
from npuvm.compiler.relay.segment import join_relays
from npuvm.compiler.stack.compile import compile_stack
from npuvm.compiler.stack.kernels import Stack, stack_of
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["compile_kernel", "for_shapes", "stack_of_kernel"]

Shapes = Mapping[str, Sequence[int]]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_KEPT = 1024


def compile_kernel(
    kernel: Kernel | Graph, shapes: Shapes, chip: NpuConfig, isa: Isa, pins: Pins | None = None
) -> CompiledKernel:
    """Programs of a kernel for the shapes of its parameters; `pins` replace those that the kernel itself sets with `k.pin`.

    A segment whose result has no elements needs no launch. Programs of a kernel without pins are kept: the same shapes give
    the same object. CompileError when the shapes do not fit the kernel, an operation cannot be had on the chip, a pin cannot
    be honoured, or the kernel is not of the kind that it states.
    """
    graph = kernel.graph if isinstance(kernel, Kernel) else kernel
    if graph.ktype == "auto":
        return compile_segments(graph, shapes, chip, isa, pins)
    if graph.ktype in STACKED_KTYPES or graph.ktype == "eager":
        return _compile_kept(kernel, graph, shapes, chip, isa, pins)
    _check(graph)
    made = compile_segments(graph, shapes, chip, isa, pins_of_kind(graph, pins))
    several = graph.ktype == "mix" and len(made.launches) > 1
    if several or (graph.ktype in ("cube", "mix") and any(launch.kind != graph.ktype for launch in made.launches)):
        _check_programs(graph, chip, isa)
    return made


def stack_of_kernel(kernel: Kernel | Graph) -> Stack | None:
    """The stack that a kernel of kind parallel or sequence is, always the same one; None for other kinds."""
    graph = kernel.graph if isinstance(kernel, Kernel) else kernel
    if graph.ktype not in STACKED_KTYPES:
        return None
    found = _STACKS.get(id(graph))
    if found is None:
        found = _keep(_STACKS, id(graph), (graph, stack_of(graph)))
    return found[1]


def for_shapes(kernel: Kernel | Stack, shapes: Shapes) -> tuple[Kernel | Stack, Shapes]:
    """What is compiled of a kernel for shapes, and those that it takes: parts are a stack, an eager kernel is its trace.

    CompileError when the shapes do not fit.
    """
    if isinstance(kernel, Stack):
        return kernel, shapes
    stack = stack_of_kernel(kernel)
    if stack is not None:
        kernel.bind(shapes)
        names = {each.name for each in stack.params}
        return stack, {name: shape for name, shape in shapes.items() if name in names}
    return Kernel(kernel.traced(shapes)) if kernel.graph.ktype == "eager" else kernel, shapes


def _compile_kept(
    kernel: Kernel | Graph, graph: Graph, shapes: Shapes, chip: NpuConfig, isa: Isa, pins: Pins | None
) -> CompiledKernel:
    """A kernel that is no list of segments before its sizes are known, or none at all."""
    buffering = None if pins is None else pins.buffering
    if pins is not None and pins != Pins(buffering=buffering):
        pin_error("pins", pins, f"none but buffering for a kernel of ktype = {graph.ktype!r}", graph.name)
    key = (id(graph), id(chip), isa.hash, buffering, tuple([(name, tuple(shape)) for name, shape in shapes.items()]))
    found = _COMPILED.get(key)
    if found is None:
        stack = stack_of_kernel(graph)
        if stack is None:
            made = _eager(kernel, graph, shapes, chip, isa, buffering)
        else:
            made = compile_stack(stack, for_shapes(Kernel(graph), shapes)[1], chip, isa, buffering)
            made = replace(made, outputs=tuple(each.name for each in graph.outputs))
        # Graph and chip are kept, so that no others can have their ids.
        found = _keep(_COMPILED, key, (graph, chip, made))
    return found[2]


def _eager(
    kernel: Kernel | Graph, graph: Graph, shapes: Shapes, chip: NpuConfig, isa: Isa, buffering: str | None
) -> CompiledKernel:
    """What the function does with these sizes: its operators in one launch, by a plan that serves other sizes too."""
    if not isinstance(kernel, Kernel) or kernel.function is None:
        raise CompileError("an eager kernel is a function; allowed: the Kernel that @kernel gives", graph.name)
    traced = kernel.traced(shapes)
    if traced.pins != Pins():
        pin_error("pins", traced.pins, "none for a kernel of ktype = 'eager'", graph.name)
    for store in traced.stores:
        if "cache" in store.attrs:
            raise CompileError("an eager kernel stores with cache = 'normal'", store.where or graph.name)
    wanted = [store.inputs[0] for store in traced.stores]
    made, loads = _GATHERED.get(Gathered(traced.nodes, wanted, traced.allowed))
    names = {f"p{number}": str(load.attrs["param"]) for number, load in enumerate(loads)}
    names |= {f"out{number}": str(store.attrs["output"]) for number, store in enumerate(traced.stores)}
    sizes = {f"p{number}": shapes[str(load.attrs["param"])] for number, load in enumerate(loads)}
    pins = made.graph.pins if buffering is None else replace(made.graph.pins, buffering=buffering)
    return _renamed(compile_segments(made.graph, sizes, chip, isa, pins), names, graph, shapes)


def _renamed(made: CompiledKernel, names: Mapping[str, str], graph: Graph, shapes: Shapes) -> CompiledKernel:
    """The kernel with the names of a graph for its parameters and outputs, and a tensor for each parameter."""
    tensors = {names.get(each.name, each.name): each for each in made.tensors}
    for param in graph.params:
        spec = TensorSpec(param.name, "param", param.type.dtype, tuple(shapes[param.name]))
        tensors.setdefault(param.name, spec)
    launches = tuple(
        replace(
            launch,
            args=tuple(names.get(name, name) for name in launch.args),
            writes=tuple(names.get(name, name) for name in launch.writes),
        )
        for launch in made.launches
    )
    outputs = tuple(names.get(name, name) for name in made.outputs)
    renamed = tuple(replace(each, name=name) for name, each in tensors.items())
    return CompiledKernel(graph.name, launches, renamed, outputs, made.seconds)


def _check(graph: Graph) -> None:
    """What can be said of a kind before there is a chip, once for each graph."""
    if id(graph) not in _CHECKED:
        check_ktype(graph.ktype, where=graph.name)
        check_operators(graph)
        _keep(_CHECKED, id(graph), graph)


def _check_programs(graph: Graph, chip: NpuConfig, isa: Isa) -> None:
    """CompileError where programs of another kind are what this kernel always becomes on this chip, not for one shape alone."""
    casts = [(a, b) for a, b in isa.instruction("vcast").dtypes if b is not None]
    plan = make_plan(graph, casts)
    if graph.ktype == "cube":
        for segment in plan.segments:
            if isinstance(segment, VectorSegment):
                message = f"kernel '{graph.name}' of ktype = 'cube' needs the vector unit: {_told(segment)}"
                raise CompileError(
                    f"{message}; allowed: views that strides express, on dense operands", _place(segment, graph)
                )
        return
    joined = join_products(join_relays(plan.segments))
    if len(joined) > 1 or not isinstance(joined[0], MixSegment | RelaySegment):
        apart = next((each for each in joined if not isinstance(each, MixSegment | RelaySegment)), joined[-1])
        message = f"kernel '{graph.name}' of ktype = 'mix' is {len(joined)} programs; {_told(apart)} stands apart"
        allowed = (
            "a product and what is computed of its result or of its left operand's rows, two around such rows, or a "
            "convolution and what is computed of its result or its images element by element"
        )
        raise CompileError(f"{message}; allowed: {allowed}; ktype 'split' takes any number", _place(apart, graph))
    names = (*graph.symbols(), *(each.name for each in graph.derived))
    if isinstance(joined[0], MixSegment):
        mix_family_of(joined[0], names, chip, isa)
    else:
        relay_family_of(joined[0], names, chip, isa)


def _nodes(segment: Joint) -> list[Node]:
    if isinstance(segment, MixSegment | RelaySegment):
        return [node for part in segment.parts for node in _nodes(part)]
    if isinstance(segment, CutSegment):
        return segment.whole.nodes
    if isinstance(segment, VectorSegment):
        return segment.nodes or [node for node, _ in (*segment.writes, *segment.reads)]
    return [segment.node]


def _told(segment: Joint) -> str:
    """A segment by its first operator."""
    node = _nodes(segment)[0]
    copied = isinstance(segment, VectorSegment) and not segment.nodes
    return f"{segment.name}, {'a copy of ' if copied else 'with '}{node.op} (%{node.id})"


def _place(segment: Joint, graph: Graph) -> str:
    return next((node.where for node in _nodes(segment) if node.where), graph.name)


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> V:
    kept[key] = value
    if len(kept) > _KEPT:
        kept.popitem(last=False)
    return value


_STACKS: OrderedDict[int, tuple[Graph, Stack]] = OrderedDict()
_COMPILED: OrderedDict[Hashable, tuple[Graph, NpuConfig, CompiledKernel]] = OrderedDict()
_CHECKED: OrderedDict[int, Graph] = OrderedDict()
_GATHERED = KernelStore(Pins(stack="sequence"))
