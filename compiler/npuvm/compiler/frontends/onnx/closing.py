"""The end of reading a model: what nothing uses is left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from npuvm.compiler.deduction import Deduction
from npuvm.compiler.frontends.onnx.regions import used_symbols
from npuvm.compiler.model import DeviceStep, Guard, Model, SizesStep, Step

__all__ = ["close"]


def close(model: Model, steps: Sequence[Step], deduction: Deduction, late: Collection[str]) -> None:
    """Give a model, whose outputs are known, its steps and what is known of its symbols.

    `late` are the symbols that its operators of the host make; an earlier reading may have had others.
    """
    model.steps = _needed(steps, set(model.outputs.values()))
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


def _needed(steps: Sequence[Step], outputs: set[str]) -> list[Step]:
    """Steps without those whose results nothing uses."""
    used, kept = set(outputs), list[Step]()
    for step in reversed(steps):
        made = (
            {step.output}
            if isinstance(step, SizesStep)
            else set(step.outputs.values() if isinstance(step, DeviceStep) else step.outputs)
        )
        if not made.isdisjoint(used):
            used.update(_names_of(step))
            kept.append(step)
    return kept[::-1]
