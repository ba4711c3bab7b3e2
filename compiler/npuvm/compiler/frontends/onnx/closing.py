"""The end of reading a model: what nothing uses is left out, and what is declared of outputs is compared with what they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx

from npuvm.compiler.deduction import Deduction
from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.attributes import dtype_name
from npuvm.compiler.frontends.onnx.entries import Entry
from npuvm.compiler.frontends.onnx.regions import used_symbols
from npuvm.compiler.frontends.onnx.symbols import Declared
from npuvm.compiler.graph.model import DeviceStep, Fact, Guard, IfStep, LoopStep, Model, ScanStep, SizesStep, Step
from npuvm.compiler.graph.sums import sum_of

__all__ = ["check_dtype", "claims", "close"]


def check_dtype(info: onnx.ValueInfoProto, entry: Entry) -> None:
    """CompileError for an output that is declared to be of another dtype than its operator gives."""
    declared = info.type.tensor_type.elem_type
    if declared and entry.dtype and dtype_name(declared) != entry.dtype:
        raise CompileError(
            f"it is declared {dtype_name(declared)}; allowed: {entry.dtype}, as it is made", f"output {info.name}"
        )


def claims(info: onnx.ValueInfoProto, entry: Entry, declared: Declared, deduction: Deduction) -> list[Fact]:
    """What a file declares of the dims of an output and what does not follow from its operators."""
    tensor, origin = info.type.tensor_type, f"output {info.name}"
    if info.type.WhichOneof("value") != "tensor_type" or not tensor.HasField("shape") or entry.shape is None:
        return []
    dims = tensor.shape.dim
    if len(dims) != len(entry.shape):
        return [Fact(f"rank of {info.name} == {len(dims)}, but it is {len(entry.shape)}", origin)]
    found: list[Fact] = []
    for axis, (dim, own) in enumerate(zip(dims, entry.shape, strict=True)):
        size = declared.claimed(dim)
        if size is not None and deduction.resolved(size) != deduction.resolved(deduction.sizes.of(own)):
            found.append(Fact(f"{info.name}[{axis}] == {size}, but it is {own}", origin))
    return found


def close(model: Model, steps: Sequence[Step], deduction: Deduction, late: Collection[str]) -> None:
    """Give a model, whose outputs are known, its steps and what is known of its symbols.

    `late` are the symbols that its operators of the host make; an earlier reading may have had others.
    """
    model.steps = _needed(model, steps, deduction, late)
    used = {*model.inputs, *model.outputs.values()}
    for step in model.steps:
        used.update(_names_of(step))
    model.values = {name: kind for name, kind in model.values.items() if name in used}
    model.constants = {name: array for name, array in model.constants.items() if name in used}
    model.guards = _once(deduction.guards, deduction, late)
    model.required = _once(deduction.required, deduction, late)
    model.facts = list(deduction.facts)
    named = {dim for kind in model.values.values() for dim in kind.shape or () if isinstance(dim, str)}
    sums = [sum_ for each in (*model.guards, *model.required) for sum_ in (each.left, each.right)]
    for step in model.steps:
        if isinstance(step, SizesStep):
            sums += step.sizes
        elif isinstance(step, DeviceStep):
            named.update(each.name for each in step.graph.derived)
    named = named.union(*(each.symbols() for each in sums))
    model.derived = used_symbols(named, deduction.derived)[1]


def _once(guards: Sequence[Guard], deduction: Deduction, late: Collection[str]) -> list[Guard]:
    """Guards that are different, without those of symbols that are gone."""
    gone = deduction.late.difference(late)
    found = {str(each): each for each in guards}
    if not gone:
        return list(found.values())
    symbols = deduction.symbols_of
    return [each for each in found.values() if gone.isdisjoint(symbols(each.left) | symbols(each.right))]


def _names_of(step: Step) -> list[str]:
    """Values that a step reads or makes."""
    if isinstance(step, DeviceStep):
        return [*step.inputs.values(), *step.outputs.values()]
    if isinstance(step, SizesStep):
        return [step.output]
    names = [*step.outputs]
    for field in ("inputs", "carried", "scanned"):
        names += getattr(step, field, ())
    names += getattr(step, "captured", {}).values()
    return [*names, getattr(step, "condition", ""), getattr(step, "trips", "")]


def _needed(model: Model, steps: Sequence[Step], deduction: Deduction, late: Collection[str]) -> list[Step]:
    """Steps without those whose results nothing uses: neither their elements, nor sizes that are known from them alone."""

    def follow(symbols: Iterable[str]) -> set[str]:
        """What symbols follow from, as far as it is not known before the model runs."""
        return set(late).intersection(set().union(*(deduction.symbols_of(sum_of(each)) for each in symbols)))

    used, kept = set(model.outputs.values()), list[Step]()
    wanted = follow(_dims(model, used)) if late else set()
    for step in reversed(steps):
        made = _made(step)
        if made.isdisjoint(used) and wanted.isdisjoint(_dims(model, made)):
            continue
        used.update(_names_of(step))
        wanted |= follow(_symbols_in(model, step)) if late else set()
        kept.append(step)
    return kept[::-1]


def _made(step: Step) -> set[str]:
    if isinstance(step, SizesStep):
        return {step.output}
    return set(step.outputs.values() if isinstance(step, DeviceStep) else step.outputs)


def _dims(model: Model, names: Iterable[str]) -> set[str]:
    """Symbols among the dims of values."""
    kinds = [model.values[name] for name in names if name in model.values]
    return {dim for kind in kinds for dim in kind.shape or () if isinstance(dim, str)}


def _symbols_in(model: Model, step: Step) -> set[str]:
    """Symbols that a step has: in dims, in sizes, in its bodies."""
    found = _dims(model, _names_of(step))
    if isinstance(step, SizesStep):
        found.update(*(each.symbols() for each in step.sizes))
    elif isinstance(step, DeviceStep):
        found.update(each.name for each in step.graph.derived)
        found.update(dim for param in step.graph.params for dim in param.type.shape if isinstance(dim, str))
    elif isinstance(step, IfStep | LoopStep | ScanStep):
        for body in (step.then_body, step.else_body) if isinstance(step, IfStep) else (step.body,):
            found |= _dims(body, body.values).union(*(_symbols_in(body, each) for each in body.steps))
    return found
