"""If, Loop and Scan: the host decides what runs next, and the bodies run on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from npuvm.compiler.graph.model import DeviceStep, IfStep, LoopStep, Model, ScanStep
from npuvm.compiler.graph.symbols import evaluate
from npuvm.runtime.device.allocator import ALIGNMENT_BYTES
from npuvm.runtime.session.binding import Binding
from npuvm.runtime.session.carrying import Array, carrier_of, numpy_dtype
from npuvm.runtime.session.errors import SessionError
from npuvm.runtime.session.held import Held
from npuvm.runtime.session.runner import Runner

__all__ = ["Caller", "run_control"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The run of the model that a step belongs to: its values by name, and its symbols."""

    runner: Runner
    value: Callable[[str], Held]
    binding: Binding

    def body(
        self,
        model: Model,
        given: Sequence[Held],
        captured: Mapping[str, str],
        into: Mapping[str, Held] | None = None,
    ) -> list[Held]:
        """The outputs of a body. `given` are its first inputs; those that it captures follow by name.

        `into` are places for values that its regions make.
        """
        names = model.inputs
        values = dict(zip(names, given, strict=False))
        for name in names[len(given) :]:
            values[name] = self.value(captured[name])
        return list(self.runner.run_body(model, values, self.binding, into).values())

    def host(self, name: str) -> Array:
        """A value on the host."""
        return self.runner.host_array(self.value(name), name)


def run_control(step: IfStep | LoopStep | ScanStep, caller: Caller) -> list[Held]:
    """The outputs of a step, in order. SessionError where a decision follows from data, and there is none."""
    if isinstance(step, IfStep):
        return caller.body(step.then_body if _true(caller.host(step.condition)) else step.else_body, (), step.captured)
    return _loop(step, caller) if isinstance(step, LoopStep) else _scan(step, caller)


def _true(array: Array) -> bool:
    return bool(array.reshape(-1)[0]) if array.size else False


def _loop(step: LoopStep, caller: Caller) -> list[Held]:
    trips = int(caller.host(step.trips).reshape(-1)[0]) if step.trips else None
    going = _true(caller.host(step.condition)) if step.condition else True
    carried = [caller.value(name) for name in step.carried]
    collected: list[list[Held]] = [[] for _ in range(len(step.outputs) - len(carried))]
    trip = 0
    while going and (trips is None or trip < trips):
        given = [_scalar(np.int64(trip)), _scalar(np.bool_(going)), *carried]
        condition, *made = caller.body(step.body, given, step.captured)
        going = _true(caller.runner.host_array(condition, f"{step.source}: the condition"))
        carried = made[: len(carried)]
        for kept, each in zip(collected, made[len(carried) :], strict=True):
            kept.append(each)
        trip += 1
        caller.runner.report.iterations += 1
    kinds = list(step.body.outputs.values())[1 + len(carried) :]
    return [
        *carried,
        *(_stacked(caller, kept, step.body, kind, 0) for kept, kind in zip(collected, kinds, strict=True)),
    ]


def _scan(step: ScanStep, caller: Caller) -> list[Held]:
    scanned = [caller.value(name) for name in step.scanned]
    lengths = {held.shape[axis] for held, axis in zip(scanned, step.axes, strict=True)}
    if len(lengths) != 1:
        raise SessionError(f"Scan over {sorted(lengths)} slices; allowed: the same number of each input", step.source)
    (trips,) = lengths
    slices = [
        _Slices(caller.runner, held, axis, name)
        for held, axis, name in zip(scanned, step.axes, step.scanned, strict=True)
    ]
    carried = [caller.value(name) for name in step.carried]
    collected: list[list[Held]] = [[] for _ in step.out_axes]
    kinds = list(step.body.outputs.values())[len(carried) :]
    wholes = [_whole(step, caller, kind, axis, trips) for kind, axis in zip(kinds, step.out_axes, strict=True)]
    for trip in range(trips):
        into = {
            kind: _element(caller.runner, whole, trips - 1 - trip if backward else trip)
            for kind, whole, backward in zip(kinds, wholes, step.out_directions, strict=True)
            if whole is not None
        }
        given = [
            each.at(trips - 1 - trip if backward else trip)
            for each, backward in zip(slices, step.directions, strict=True)
        ]
        made = caller.body(step.body, [*carried, *given], step.captured, into)
        carried = made[: len(carried)]
        for kept, each in zip(collected, made[len(carried) :], strict=True):
            kept.append(each)
        caller.runner.report.iterations += 1
    stacked = []
    for kept, axis, backward, kind, whole in zip(
        collected, step.out_axes, step.out_directions, kinds, wholes, strict=True
    ):
        if whole is not None:
            stacked.append(whole)
            continue
        stacked.append(_stacked(caller, kept[::-1] if backward else kept, step.body, kind, axis))
    return [*carried, *stacked]


def _whole(step: ScanStep, caller: Caller, output: str, axis: int, trips: int) -> Held | None:
    """Memory for what is collected over all trips, where each element can be written to its place in it; None otherwise."""
    kind, body = step.body.values[output], step.body
    on_device = any(isinstance(each, DeviceStep) and output in each.outputs.values() for each in body.steps)
    twice = list(body.outputs.values()).count(output) > 1
    if axis != 0 or not on_device or twice or not trips or kind.shape is None:
        return None
    if any(isinstance(dim, str) and dim not in caller.binding for dim in kind.shape):
        return None
    shape, carrier, device = evaluate(kind.shape, caller.binding), carrier_of(kind.dtype, output), caller.runner.device
    nbytes = prod(shape) * device.isa.dtypes[carrier].itemsize
    if not nbytes or nbytes % ALIGNMENT_BYTES:
        return None
    arena = caller.runner.pool.take(trips * nbytes)
    return Held(kind.dtype, (trips, *shape), None, device.part(arena.memory, 0, (trips, *shape), carrier), arena)


def _element(runner: Runner, whole: Held, number: int) -> Held:
    """The place of one element of what is collected along axis 0."""
    assert whole.tensor is not None
    nbytes, shape = whole.tensor.nbytes // whole.shape[0], whole.shape[1:]
    part = runner.device.part(whole.tensor, number * nbytes, shape, whole.tensor.dtype)
    return Held(whole.dtype, shape, None, part, whole.arena)


class _Slices:
    """Slices of a value along an axis: parts of its tensor where each begins on a line of L2, else cut by the host."""

    def __init__(self, runner: Runner, held: Held, axis: int, name: str) -> None:
        self._runner, self._held, self._name = runner, held, name
        self._axis = axis + len(held.shape) if axis < 0 else axis
        self._shape = (*held.shape[: self._axis], *held.shape[self._axis + 1 :])

    def at(self, number: int) -> Held:
        held, tensor = self._held, self._held.tensor
        count = held.shape[self._axis]
        if tensor is not None and self._axis == 0 and (tensor.nbytes // count) % ALIGNMENT_BYTES == 0:
            nbytes = tensor.nbytes // count
            part = self._runner.device.part(tensor, number * nbytes, self._shape, tensor.dtype)
            return Held(held.dtype, self._shape, None, part, held.arena)
        if held.array is None and self._runner.device.timing_only:
            self._runner.crossed(held, self._name)
            return Held(held.dtype, self._shape)
        array = self._runner.host_array(held, self._name)
        return Held(held.dtype, self._shape, np.asarray(np.take(array, number, self._axis)))


def _stacked(caller: Caller, parts: Sequence[Held], body: Model, output: str, axis: int) -> Held:
    """Elements of all trips along a new axis, put together on the host; none where there was no trip."""
    kind = body.values[output]
    if not parts:
        sizes = [caller.binding.get(dim, 0) if isinstance(dim, str) else dim for dim in kind.shape or ()]
        sizes.insert(axis + len(sizes) + 1 if axis < 0 else axis, 0)
        return Held(kind.dtype, tuple(sizes), np.empty(sizes, numpy_dtype(kind.dtype)))
    shapes = {each.shape for each in parts}
    if len(shapes) > 1:
        found = ", ".join(str(list(each)) for each in sorted(shapes))
        raise SessionError(f"elements of '{output}' have shapes {found}; allowed: the same in all trips", body.name)
    if caller.runner.device.timing_only and any(each.array is None for each in parts):
        (shape,) = shapes
        for each in parts:
            caller.runner.crossed(each, output)
        where = axis + len(shape) + 1 if axis < 0 else axis
        return Held(parts[0].dtype, (*shape[:where], len(parts), *shape[where:]))
    made = np.stack([caller.runner.host_array(each, output) for each in parts], axis)
    return Held(parts[0].dtype, made.shape, made)


def _scalar(number: np.generic) -> Held:
    array = np.asarray(number)
    return Held(str(array.dtype), (), array)
