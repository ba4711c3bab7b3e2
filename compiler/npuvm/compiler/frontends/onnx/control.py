"""If, Loop and Scan: bodies become models of their own, with what they take from outside as further inputs.

A constant condition leaves one branch, whose operators stand in the place of the If.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from npuvm.compiler.deduction import Contradiction, Deduced, Deduction
from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.entries import Entry
from npuvm.compiler.frontends.onnx.lowering import Lowering
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.registry import control_rule
from npuvm.compiler.graph.model import Guard, IfStep, LoopStep, Model, ScanStep, ValueType
from npuvm.compiler.graph.sums import Sum, sum_of
from npuvm.compiler.graph.types import Dim

__all__ = ["Body", "lower_body"]

_MOST_READINGS = 1000

Shape = tuple[Dim, ...] | None


@dataclass(frozen=True, slots=True)
class Body:
    """A body as a model, the values that it takes from outside by the names of its inputs, and what its outputs are.

    `outputs` have dims of the model around it; None where one is not known there. `impossible` says why it can never run.
    """

    model: Model
    captured: Mapping[str, Entry]
    outputs: Sequence[tuple[str, tuple[Dim | None, ...] | None]]
    inner: Sequence[Entry] = ()
    impossible: str = ""


def lower_body(op: Operator, graph: onnx.GraphProto, given: Sequence[tuple[str, Shape]], label: str = "body") -> Body:
    """The model of a body whose first inputs have the dtypes and dims `given`; those of `graph` are theirs in order.

    CompileError where the body is malformed, or has values that are no tensors.
    """
    deduction = _inner(op.lowering.deduction)
    for _ in range(_MOST_READINGS):
        try:
            return _read(op, graph, given, label, deduction)
        except Deduced:
            continue
        except Contradiction:
            if not deduction.retract():
                raise
    raise CompileError(f"sizes of its {label} are still being deduced after {_MOST_READINGS} readings", op.source)


def _inner(outer: Deduction) -> Deduction:
    """What is known of sizes in a body: all that is known around it, and what is found in it stays there."""
    made = Deduction(
        outer.fixed,
        dict(outer.known),
        names=dict(outer.names),
        late=set(outer.late),
        late_names=dict(outer.late_names),
        ordered=list(outer.ordered),
        _units=set(outer._units),
    )
    made.derived = outer.derived
    return made


def _read(
    op: Operator, graph: onnx.GraphProto, given: Sequence[tuple[str, Shape]], label: str, deduction: Deduction
) -> Body:
    outer = op.lowering
    inner = Lowering(
        f"{outer.model.name}_{op.source}_{label}", deduction, outer.opsets, outer.functions, outer.folded, outer
    )
    inner.enter(f"{next(filter(None, op.node.output), op.source)}/{label}/")
    for info, (dtype, shape) in zip(graph.input, given, strict=True):
        _add_input(inner, info.name, dtype, shape)
    captured: dict[str, Entry] = {}
    for name in _captured(graph):
        entry = outer.find(name, op.source)
        if entry.const is not None:
            inner.entries[name] = inner.add_constant(inner.name(name), entry.const)
        elif entry.sizes is not None:
            inner.entries[name] = Entry(inner.name(name), entry.dtype, entry.shape, sizes=entry.sizes)
        else:
            captured[_add_input(inner, name, entry.dtype, entry.shape, entry.bounds).name] = entry
    inner.add_initialisers(graph)
    prefix = f"{op.source}/" if label == "body" else f"{op.source}/{label}/"
    inner.read(graph.node, prefix)
    results = [inner.find(info.name, f"outputs of {op.source}") for info in graph.output]
    for at, entry in enumerate(results):
        if entry.kind is not None or not entry.dtype:
            raise CompileError(f"{op.type}: output {at} of its {label} is no tensor; allowed: tensors", op.source)
        inner.model.outputs[f"{at}"] = inner.stored(entry)
    outputs = [(entry.dtype, _outside(outer, inner, entry.shape)) for entry in results]
    return Body(inner.close(), captured, outputs, results)


def _add_input(inner: Lowering, name: str, dtype: str, shape: Shape, bounds: tuple[int, int] | None = None) -> Entry:
    if not dtype or dtype == "sequence":
        raise CompileError(f"'{name}' is no tensor; bodies take tensors only", inner.model.name)
    dims = None if shape is None else tuple(map(inner.deduction.resolve, shape))
    entry = Entry(inner.name(name), dtype, dims, bounds=bounds)
    inner.define(entry)
    inner.entries[name] = entry
    inner.model.inputs += (entry.name,)
    inner.model.values[entry.name] = ValueType(dtype, shape)
    return entry


def _captured(graph: onnx.GraphProto) -> list[str]:
    """Names that a body, or a body in it, reads and nobody in it makes."""
    found: dict[str, None] = {}
    made = {each.name for each in (*graph.input, *graph.initializer)}
    for node in graph.node:
        read = [*node.input, *(name for inside in _bodies(node) for name in _captured(inside))]
        found.update((name, None) for name in read if name and name not in made)
        made.update(node.output)
    found.update((info.name, None) for info in graph.output if info.name not in made)
    return list(found)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g


def _outside(outer: Lowering, inner: Lowering, shape: Shape) -> tuple[Dim | None, ...] | None:
    """Dims of a body in the symbols around it, None for each that follows from what is only known in it."""
    if shape is None:
        return None
    deduction = outer.deduction
    found: list[Dim | None] = []
    for dim in shape:
        size = inner.sizes.of(dim)
        roots = {name for name in inner.deduction.symbols_of(size) if deduction.definition(name) is None}
        units = inner.deduction._units - deduction._units
        known = roots <= set(deduction.names) and units.isdisjoint(inner.deduction.symbols_of(size))
        found.append(outer.dim(size) if known else None)
    return tuple(found)


# Steps.


@control_rule("If")
def _if(op: Operator) -> None:
    condition = op.input(0)
    branches = (op.attribute("then_branch"), op.attribute("else_branch"))
    if condition.const is not None:
        if condition.const.size != 1:
            raise CompileError(f"If: its condition has {condition.const.size} elements; allowed: one", op.source)
        op.lowering.inline(op, branches[0] if bool(condition.const.reshape(())) else branches[1])
        return
    bodies, failures = [], []
    for graph, label in zip(branches, ("then", "else"), strict=True):
        try:
            bodies.append(lower_body(op, graph, (), label))
        except Contradiction as error:
            failures.append(error)
            bodies.append(_impossible(op, label, error))
    if len(failures) == 2:
        raise failures[0]
    captured = {**bodies[0].captured, **bodies[1].captured}
    level = _level(op, captured.values())
    possible = [each for each in bodies if not each.impossible]
    made = []
    for at, name in enumerate(op.node.output):
        kinds = [each.outputs[at] for each in possible]
        dtypes = {dtype for dtype, _ in kinds}
        if len(dtypes) > 1:
            raise CompileError(f"If: output {at} is {' or '.join(sorted(dtypes))}; allowed: one dtype", op.source)
        shapes = [shape for _, shape in kinds]
        made.append(_result(op, name, dtypes.pop(), _merged(shapes), level))
    stored = {inner: op.lowering.stored(entry) for inner, entry in captured.items()}
    op.lowering.add_step(
        level,
        IfStep(op.lowering.stored(condition), bodies[0].model, bodies[1].model, stored, tuple(made), op.source),
    )


def _impossible(op: Operator, label: str, error: Contradiction) -> Body:
    """A branch whose operators do not fit the sizes, whatever these are: an error where it is taken."""
    guard = Guard(sum_of(1), "==", Sum(), f"{op.source}/{label}: {error}")
    return Body(Model(f"{op.source}_{label}", required=[guard]), {}, (), impossible=str(error))


def _merged(shapes: Sequence[tuple[Dim | None, ...] | None]) -> tuple[Dim | None, ...] | None:
    """What two shapes have in common."""
    first = shapes[0]
    if first is None or any(each is None or len(each) != len(first) for each in shapes):
        return None
    columns = zip(*(each for each in shapes if each is not None), strict=True)
    return tuple(dims[0] if all(dim == dims[0] for dim in dims) else None for dims in columns)


def _result(op: Operator, name: str, dtype: str, shape: tuple[Dim | None, ...] | None, level: int) -> str:
    """Make an output known; dims that are not become symbols that are told when it is there. Its name, "" without one."""
    if not name:
        return ""
    lowering = op.lowering
    full = lowering.name(name)
    dims: Shape = None
    if shape is not None:
        dims = tuple(
            lowering.late_symbol(f"{full}_{axis}", level) if dim is None else dim for axis, dim in enumerate(shape)
        )
    lowering.entries[name] = lowering.define(Entry(full, dtype, dims, level=level))
    return full


def _level(op: Operator, captured: Iterable[Entry]) -> int:
    """The first region that can use the results."""
    entries = [*(each for each in op.inputs if each is not None), *captured]
    levels = [each.level + each.computed for each in entries]
    levels += [op.lowering.level_of(tuple(each.sizes.ravel())) for each in entries if each.sizes is not None]
    return max(levels, default=0)


@control_rule("Loop")
def _loop(op: Operator) -> None:
    graph = op.attribute("body")
    carried = [op.input(at) for at in range(2, len(op.inputs))]
    if len(graph.input) != 2 + len(carried) or len(graph.output) < 1 + len(carried):
        raise CompileError(
            f"Loop: {len(carried)} values are carried, its body has {len(graph.input)} inputs and {len(graph.output)} "
            "outputs; allowed: two inputs more than carried values, at least one output more",
            op.source,
        )
    names = [info.name for info in graph.input][2:]
    body, shapes = _settled(op, graph, names, carried, lambda states: [("int64", ()), ("bool", ()), *states], 1)
    level = _level(op, body.captured.values())
    count = _trip_count(op, body)
    outputs = _carried_results(op, carried, shapes, body, 1, level)
    for at in range(1 + len(carried), len(graph.output)):
        dtype, shape = body.outputs[at]
        outputs.append(_result(op, op.node.output[at - 1], dtype, None if shape is None else (count, *shape), level))
    trips, condition = (op.lowering.stored(op.input(at)) if op.has(at) else "" for at in (0, 1))
    step = LoopStep(
        trips,
        condition,
        body.model,
        tuple(op.lowering.stored(each) for each in carried),
        {inner: op.lowering.stored(entry) for inner, entry in body.captured.items()},
        tuple(outputs),
        op.source,
    )
    op.lowering.add_step(level, step)


def _trip_count(op: Operator, body: Body) -> Dim | None:
    """How often a loop runs, where its condition never changes and the number follows from sizes."""
    condition = body.inner[0]
    given = body.model.inputs[1]
    always = condition.name == given or (condition.const is not None and bool(condition.const.all()))
    starts = not op.has(1) or ((first := op.input(1).const) is not None and bool(first.all()))
    if not (always and starts and op.has(0)):
        return None
    trips = op.input(0)
    if trips.const is not None:
        return max(int(trips.const.reshape(())), 0)
    if trips.sizes is None:
        return None
    size: Sum = trips.sizes.ravel()[0]
    return op.dim(size) if size.never_negative() else None


def _settled(
    op: Operator,
    graph: onnx.GraphProto,
    names: Sequence[str],
    carried: Sequence[Entry],
    inputs: Callable[[Sequence[tuple[str, Shape]]], Sequence[tuple[str, Shape]]],
    first: int,
) -> tuple[Body, list[tuple[Dim | None, ...] | None]]:
    """The body of a loop for carried values whose dims stay as they are, and symbols of the body for those that change.

    `first` is the output of the body that gives the first carried value. The shapes have None for what changes.
    """
    path = f"{next(filter(None, op.node.output), op.source)}"
    own: list[set[int]] = [set() for _ in carried]
    ranks: list[bool] = [each.shape is not None for each in carried]
    while True:
        states: list[tuple[str, Shape]] = []
        for at, entry in enumerate(carried):
            shape: Shape = None
            if ranks[at]:
                shape = tuple(
                    op.lowering.inner_symbol(f"{path}/{names[at]}_{axis}") if axis in own[at] else dim
                    for axis, dim in enumerate(entry.dims)
                )
            states.append((entry.dtype, shape))
        body = lower_body(op, graph, inputs(states))
        if not _widened(op, body, first, carried, own, ranks):
            break
    kept = [
        tuple(None if axis in own[at] else dim for axis, dim in enumerate(entry.dims)) if ranks[at] else None
        for at, entry in enumerate(carried)
    ]
    return body, kept


def _widened(
    op: Operator, body: Body, first: int, carried: Sequence[Entry], own: list[set[int]], ranks: list[bool]
) -> bool:
    """Whether a carried value was found to change its dims, or their number; noted in `own` and `ranks`."""
    changed = False
    for at, entry in enumerate(carried):
        dtype, shape = body.outputs[first + at]
        if dtype != entry.dtype:
            message = f"{op.type}: carried value {at} is {entry.dtype} at first and {dtype} then; allowed: one dtype"
            raise CompileError(message, op.source)
        if not ranks[at]:
            continue
        if shape is None or len(shape) != entry.rank:
            ranks[at], changed = False, True
            continue
        given = entry.dims
        fresh = {axis for axis, dim in enumerate(shape) if axis not in own[at] and dim != given[axis]}
        own[at] |= fresh
        changed = changed or bool(fresh)
    return changed


def _carried_results(
    op: Operator,
    carried: Sequence[Entry],
    shapes: Sequence[tuple[Dim | None, ...] | None],
    body: Body,
    first: int,
    level: int,
) -> list[str]:
    found = []
    for at, (entry, shape) in enumerate(zip(carried, shapes, strict=True)):
        name = op.node.output[at] if at < len(op.node.output) else ""
        found.append(_result(op, name, entry.dtype, shape, level))
    return found


@control_rule("Scan")
def _scan(op: Operator) -> None:
    graph, count = op.attribute("body"), int(op.attribute("num_scan_inputs"))
    states = len(op.inputs) - count
    carried = [op.input(at) for at in range(states)]
    scanned = [op.input(at) for at in range(states, len(op.inputs))]
    if count < 1 or states < 0 or len(graph.input) != len(op.inputs) or len(graph.output) < states:
        raise CompileError(
            f"Scan: {len(op.inputs)} inputs, {count} of them scanned, do not fit a body with {len(graph.input)} inputs and "
            f"{len(graph.output)} outputs",
            op.source,
        )
    collected = len(graph.output) - states
    axes = _numbers(op, "scan_input_axes", count)
    axes = [axis + each.rank if axis < 0 else axis for axis, each in zip(axes, scanned, strict=True)]
    length: Dim = scanned[0].dims[axes[0]]
    for each, axis in zip(scanned[1:], axes[1:], strict=True):
        op.equal(length, each.dims[axis])
    slices = [
        (each.dtype, tuple(dim for at, dim in enumerate(each.dims) if at != axis))
        for each, axis in zip(scanned, axes, strict=True)
    ]
    names = [info.name for info in graph.input]
    body, shapes = _settled(op, graph, names, carried, lambda given: [*given, *slices], 0)
    level = _level(op, body.captured.values())
    outputs = _carried_results(op, carried, shapes, body, 0, level)
    out_axes = _numbers(op, "scan_output_axes", collected)
    for at in range(collected):
        dtype, shape = body.outputs[states + at]
        whole: tuple[Dim | None, ...] | None = None
        if shape is not None:
            out_axes[at] += len(shape) + 1 if out_axes[at] < 0 else 0
            whole = (*shape[: out_axes[at]], length, *shape[out_axes[at] :])
        outputs.append(_result(op, op.node.output[states + at], dtype, whole, level))
    step = ScanStep(
        body.model,
        tuple(op.lowering.stored(each) for each in carried),
        tuple(op.lowering.stored(each) for each in scanned),
        tuple(axes),
        tuple(_numbers(op, "scan_input_directions", count)),
        {inner: op.lowering.stored(entry) for inner, entry in body.captured.items()},
        tuple(outputs),
        tuple(out_axes),
        tuple(_numbers(op, "scan_output_directions", collected)),
        op.source,
    )
    op.lowering.add_step(level, step)


def _numbers(op: Operator, name: str, count: int) -> list[int]:
    found = [int(each) for each in np.asarray(op.attribute(name, [0] * count)).reshape(-1)]
    if len(found) != count:
        raise CompileError(f"{op.type}: {name} {found} must be {count} numbers", op.source)
    return found
