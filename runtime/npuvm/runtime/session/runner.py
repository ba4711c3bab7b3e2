"""Runs the steps of a model once: regions on the device, other operators by the provider of the host."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from npuvm.compiler import CompileError, Kernel, Pins
from npuvm.compiler.graph.model import DeviceStep, Guard, HostStep, IfStep, LoopStep, Model, ScanStep, SizesStep, Step
from npuvm.compiler.graph.ops_indexed import INDEXED
from npuvm.compiler.graph.sums import Computed
from npuvm.compiler.graph.symbols import Derived, evaluate
from npuvm.hw.errors import TrapError
from npuvm.runtime.device.device import Device, DeviceProgram
from npuvm.runtime.device.tensor import Tensor
from npuvm.runtime.host.provider import HostError, HostProvider
from npuvm.runtime.session.arena import Arena, ArenaPool, Weights
from npuvm.runtime.session.binding import Binding, GuardFails, bind_value, derive, sizes_text, symbols_of
from npuvm.runtime.session.carrying import Array, carried, numpy_dtype, restored
from npuvm.runtime.session.errors import SessionError
from npuvm.runtime.session.held import Held
from npuvm.runtime.session.plan_file import ProgramLog, StoredPrograms
from npuvm.runtime.session.planning import StagePlan, plan_stage
from npuvm.runtime.session.prepared import Prepared, Stage, with_bodies
from npuvm.runtime.session.profile import Executed
from npuvm.runtime.session.report import HostUse, RunReport

__all__ = ["Loaded", "Runner"]

_KEPT_PLANS = 512


@dataclass(slots=True)
class Loaded:
    """A model on a device: what is prepared of it, and the plans of its stages by their sizes."""

    prepared: Prepared
    kernels: list[dict[int, Kernel]] = field(default_factory=list)
    plans: dict[tuple[object, ...], StagePlan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kernels = [
            {at: Kernel(step.graph) for at, step in enumerate(stage.steps) if isinstance(step, DeviceStep)}
            for stage in self.prepared.stages
        ]


class Runner:
    """What the runs of a session share: device, memory, weights, plans of the model and of its bodies."""

    def __init__(
        self,
        device: Device,
        pins: Pins | None,
        provider: HostProvider | None,
    ) -> None:
        self.device = device
        self.pins = pins
        self.provider = provider
        self.pool = ArenaPool(device)
        self.weights = Weights(device)
        self.report = RunReport({})
        self.simulating_us = 0.0
        """Measured host time of the current run in simulation and in operators of the host."""
        self.executed: list[Executed] = []
        """Regions that the current run has executed."""
        self.synchronised: list[int] = []
        """Numbers of launches of the device after which the host waited in the current run."""
        self.log = ProgramLog()
        self.stored: StoredPrograms | None = None
        self._bodies: dict[int, tuple[Model, Loaded]] = {}

    def program(self, kernel: Kernel, shapes: Mapping[str, tuple[int, ...]]) -> DeviceProgram:
        """The program of a region for sizes: of the plan file where it has it, otherwise compiled."""
        ready = None if self.stored is None else self.stored.find(kernel.graph, shapes)
        made = self.device.compiled(kernel, shapes, self.pins, ready)
        self.log.add(kernel.graph, shapes, made.kernel)
        return made

    def run_body(
        self, model: Model, values: dict[str, Held], outside: Mapping[str, int], into: Mapping[str, Held] | None = None
    ) -> dict[str, Held]:
        """The outputs of a model that another one runs, whose symbols are `outside`. What is known of it is kept.

        `into` are places on the device for values that regions make.
        """
        found = self._bodies.get(id(model))
        if found is None:
            found = self._bodies[id(model)] = model, Loaded(Prepared(model, frozenset(outside), is_body=True))
        prepared = found[1].prepared
        binding = {name: outside[name] for name in prepared.relevant if name in outside}
        for name in model.inputs:
            bind_value("input", name, model.values[name], values[name].shape, binding, {}, model)
        return _Run(self, found[1], values, binding, into or {}).outputs()

    def keep(self, models: Iterable[Model]) -> None:
        """Give up weights and plans of all models but these, and of their bodies."""
        kept = {id(each): each for model in models for each in with_bodies(model)}
        self.weights.keep(array for each in kept.values() for array in each.constants.values())
        self._bodies = {key: found for key, found in self._bodies.items() if key in kept}

    def close(self) -> None:
        """Give the device the memory of weights and arenas back."""
        self.weights.clear()
        self.pool.close()

    def run(self, loaded: Loaded, values: dict[str, Held], binding: Binding) -> dict[str, Held]:
        """The outputs of a model by name. `binding` are its symbols, those of the inputs and from outside; it grows."""
        return _Run(self, loaded, values, binding, {}).outputs()

    # Between host and device.

    def host_array(self, held: Held, name: str, *, wait: bool = True) -> Array:
        """A value on the host, which waits for it in simulated time unless `wait` is False.

        SessionError where only time is simulated, and nobody knows it.
        """
        if held.array is None:
            if self.device.timing_only or held.tensor is None:
                raise SessionError(f"'{name}' is needed on the host, and only time is simulated; run it with data")
            held.array = restored(self.device.read(held.tensor, name, wait=wait), held.dtype)
            self._downloaded(held.tensor)
        return held.array

    def crossed(self, held: Held, name: str, *, wait: bool = True) -> Array | None:
        """What `host_array` does, where only time is simulated; the array is given where the host has one."""
        if held.tensor is not None and held.array is None and not held.on_host:
            held.on_host = True
            self.device.transfer(held.tensor, "to_host", name, wait=wait)
            self._downloaded(held.tensor)
        return held.array

    def _downloaded(self, tensor: Tensor) -> None:
        self.report.download_bytes += tensor.nbytes
        self.report.download_us += self.device.transfer_us("to_host", tensor.nbytes)
        self.device.stream.synchronise()
        self.synchronised.append(len(self.device.launches))

    def upload(self, held: Held, name: str, tensor: Tensor) -> None:
        """Write a value of the host to its place on the device."""
        if self.device.timing_only:
            # The lines leave L2 as they do with data.
            array: Array = np.broadcast_to(np.zeros((), self.device.isa.dtypes[tensor.dtype].numpy), tensor.shape)
        else:
            array = carried(self.host_array(held, name), held.dtype, name)
        self.device.write(tensor, array, name)
        us = self.device.transfer_us("to_device", tensor.nbytes)
        self.report.upload_bytes += tensor.nbytes
        self.report.upload_us += us
        if held.maker is not None:
            held.maker.to_device_bytes += tensor.nbytes
            held.maker.to_device_us += us
        held.tensor, held.on_host, held.uploaded = tensor, True, True


class _Run:
    """One run of one model."""

    def __init__(
        self,
        runner: Runner,
        loaded: Loaded,
        values: dict[str, Held],
        binding: Binding,
        into: Mapping[str, Held],
    ) -> None:
        self.runner, self.loaded, self._into = runner, loaded, into
        self.model = loaded.prepared.model
        self.values, self.binding = values, binding
        self._origin: dict[str, str] = {}

    def outputs(self) -> dict[str, Held]:
        for stage in self.loaded.prepared.stages:
            self._stage(stage)
        return {name: self.value(source) for name, source in self.model.outputs.items()}

    def value(self, name: str) -> Held:
        """A value by name; constants when they are first asked for."""
        found = self.values.get(name)
        if found is None:
            array = self.model.constants[name]
            found = self.values[name] = Held(str(array.dtype), array.shape, array, constant=True)
        return found

    def _stage(self, stage: Stage) -> None:
        given = {each.name: self.binding[each.name] for each in stage.derived if each.name in self.binding}
        try:
            derive(stage.derived, self.binding)
        except CompileError:  # a size may be what it is under an assumption, or where what is required holds
            if (guard := self._fails(stage.guards)) is not None:
                raise GuardFails(guard, self.binding) from None
            if (needed := self._fails(stage.required)) is not None:
                raise self._not_met(needed) from None
            raise
        failing = stage.first_guard(self.binding)
        if failing >= 0:
            raise GuardFails(stage.guards[failing], self.binding)
        for each in stage.derived:
            if given.get(each.name, self.binding[each.name]) != self.binding[each.name]:
                raise self._not_derived(each, given[each.name])
        failing = stage.first_required(self.binding)  # what is required may follow from what is assumed
        if failing >= 0:
            raise self._not_met(stage.required[failing])
        kernels = self.loaded.kernels[stage.number]
        plan = self._plan(stage, kernels) if kernels else None
        arena = None if plan is None else self.runner.pool.take(max(plan.nbytes, 1))
        for at, step in enumerate(stage.steps):
            if isinstance(step, DeviceStep):
                assert plan is not None and arena is not None
                self._device_step(at, step, plan, arena)
            else:
                self._other(step)

    def _not_derived(self, derived: Derived | Computed, size: int) -> SessionError:
        """What is said of a value that has a size where another one follows from sizes that are known too."""
        name, axis = next(
            (name, axis)
            for name in self.values
            for axis, dim in enumerate(self.model.values[name].shape or ())
            if dim == derived.name
        )
        what = "input " if name in self.model.inputs else ""
        return SessionError(
            f"{what}'{name}', dim {axis} is {size}, but {derived} is {self.binding[derived.name]}", self.model.name
        )

    def _fails(self, guards: Sequence[Guard]) -> Guard | None:
        """The first whose sizes are known already, and for which it does not hold."""
        known = self.binding.keys()
        ready = (each for each in guards if symbols_of(each.left) | symbols_of(each.right) <= known)
        return next((each for each in ready if not each.holds(self.binding)), None)

    def _not_met(self, needed: Guard) -> SessionError:
        sizes = sizes_text(needed, self.binding)
        message = f"{needed} must hold, not {sizes}" if sizes else "it does not fit any sizes"
        return SessionError(message, needed.origin or self.model.name)

    def _plan(self, stage: Stage, kernels: Mapping[int, Kernel]) -> StagePlan:
        read = {name for at in kernels for name in stage.reads[at]}
        for name in read:
            held = self.values.get(name)
            if held is not None and held.constant and held.tensor is None:
                assert held.array is not None
                held.tensor = self.runner.weights.get(held.array, name)
        resident = frozenset(name for name in read if (held := self.values.get(name)) and held.tensor is not None)
        key = (stage.number, resident, *self.binding.items())
        found = self.loaded.plans.get(key)
        if found is None:
            device = self.runner.device
            start, verified_us = time.perf_counter_ns(), device.verify_us
            found = plan_stage(self.runner.program, self.model, stage, kernels, self.binding, resident)
            self.runner.report.known_shape = False
            verified_us = device.verify_us - verified_us
            self.runner.report.verify_measured_us += verified_us
            self.runner.report.compile_measured_us += (time.perf_counter_ns() - start) / 1000 - verified_us
            if len(self.loaded.plans) >= _KEPT_PLANS:
                self.loaded.plans.pop(next(iter(self.loaded.plans)))
            self.loaded.plans[key] = found
        return found

    def _device_step(self, at: int, step: DeviceStep, plan: StagePlan, arena: Arena) -> None:
        runner = self.runner
        places, own = plan.tensors(runner.device, arena.memory)
        tensors = dict(own[at])
        for inner, name in step.inputs.items():
            if name in self.model.constants:
                tensors[inner] = runner.weights.get(self.model.constants[name], name)
                continue
            held = self.value(name)
            if held.tensor is None:
                runner.upload(held, name, places[name])
                held.arena = arena
            assert held.tensor is not None
            tensors[inner] = held.tensor
        for inner, name in step.outputs.items():
            placed = self._into.get(name)
            made = places[name] if placed is None or placed.tensor is None else placed.tensor
            tensors[inner] = made
            self.values[name] = placed or Held(self.model.values[name].dtype, made.shape, None, made, arena)
        start = time.perf_counter_ns()
        runner.executed.append(Executed(step, plan.programs[at], len(runner.device.launches)))
        try:
            runner.device.execute(plan.programs[at], tensors, step.name)
        except TrapError as error:
            picking = dict.fromkeys(node.source for node in step.graph.nodes if node.op in INDEXED and node.source)
            error.where = error.where or ", ".join(picking) or None
            raise
        runner.simulating_us += (time.perf_counter_ns() - start) / 1000
        runner.report.launches += len(plan.programs[at].kernel.launches)

    def _other(self, step: Step) -> None:
        match step:
            case SizesStep():
                self._made(step.output, self._sizes(step))
            case HostStep():
                self._host_step(step)
            case IfStep() | LoopStep() | ScanStep():
                # It runs models itself, and so needs this module.
                from npuvm.runtime.session.control import Caller, run_control

                made = run_control(step, Caller(self.runner, self.value, self.binding))
                for name, held in zip(step.outputs, made, strict=True):
                    if name:
                        self._bind(f"{step.source}'s output", name, held.shape)
                        self.values[name] = held

    def _sizes(self, step: SizesStep) -> Array:
        """The numbers of a step that is made of sizes. SessionError for one that its dtype does not hold."""
        dtype = numpy_dtype(self.model.values[step.output].dtype)
        ends = np.iinfo(dtype)
        numbers = [each.value(self.binding) for each in step.sizes]
        for size, number in zip(step.sizes, numbers, strict=True):
            if not ends.min <= number <= ends.max:
                message = (
                    f"'{step.output}' is {size} = {number}; allowed: {ends.min} to {ends.max}, which {dtype} holds"
                )
                raise SessionError(message, self.model.name)
        return np.array(numbers, dtype).reshape(step.shape)

    def _made(self, name: str, array: Array) -> Held:
        made = self.values[name] = Held(str(array.dtype), array.shape, array)
        return made

    def _host_step(self, step: HostStep) -> None:
        runner = self.runner
        use = runner.report.hosts.get(step.source)
        if use is None:
            name = "none" if runner.provider is None else runner.provider.name
            use = runner.report.hosts[step.source] = HostUse(step.op, step.source, step.reason, name)
        use.calls += 1
        report = runner.report
        before_bytes, before_us = report.download_bytes, report.download_us
        given = [None if not name else self.value(name) for name in step.inputs]
        unknown = runner.device.timing_only and any(each is not None and each.array is None for each in given)
        inputs = [
            None if held is None else runner.crossed(held, name) if unknown else runner.host_array(held, name)
            for held, name in zip(given, step.inputs, strict=True)
        ]
        use.to_host_bytes += report.download_bytes - before_bytes
        use.to_host_us += report.download_us - before_us
        if unknown:
            self._known_by_shape(step, use)
            return
        start = time.perf_counter_ns()
        try:
            assert runner.provider is not None
            made = runner.provider.run(step.node, inputs)
        except HostError as error:
            raise HostError(f"{step.op} on the host: {error.message}", step.source) from error
        spent = (time.perf_counter_ns() - start) / 1000
        use.measured_us += spent
        runner.simulating_us += spent
        for name, array in zip([name for name in step.outputs if name], made, strict=True):
            if not isinstance(array, np.ndarray):  # a sequence, which only operators of the host take
                self.values[name] = Held("", (), array)
                continue
            self._bind(f"{step.op}'s output", name, array.shape)
            self._made(name, array).maker = use

    def _known_by_shape(self, step: HostStep, use: HostUse) -> None:
        """Outputs of an operator of the host without data: their shapes, where these follow from sizes."""
        for name in filter(None, step.outputs):
            kind = self.model.values[name]
            if kind.shape is None or any(isinstance(dim, str) and dim not in self.binding for dim in kind.shape):
                message = (
                    f"the shape of '{name}', which {step.op} makes on the host, follows from data; run it with data"
                )
                raise SessionError(message, step.source)
            self.values[name] = Held(kind.dtype, evaluate(kind.shape, self.binding), maker=use)

    def _bind(self, what: str, name: str, shape: tuple[int, ...]) -> None:
        bind_value(what, name, self.model.values[name], shape, self.binding, self._origin, self.model)
