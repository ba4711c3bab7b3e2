"""A session: a model on a simulated device, run at any size."""

from __future__ import annotations

import time
import weakref
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from npuvm.compiler import Pins
from npuvm.compiler.graph.model import Model
from npuvm.hw.config import NpuConfig
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.runtime.device.device import Device, DeviceEngine
from npuvm.runtime.device.run_timeline import RunCalls
from npuvm.runtime.host.provider import HostProvider, default_provider
from npuvm.runtime.session.binding import LARGEST_DIM, Binding, GuardFails, bind_value
from npuvm.runtime.session.carrying import Array, numpy_dtype
from npuvm.runtime.session.device_array import DeviceArray, check_stays, device_input, keep_output, put_array
from npuvm.runtime.session.errors import NO_ONNX, SessionError
from npuvm.runtime.session.held import Held
from npuvm.runtime.session.operators import operator_types
from npuvm.runtime.session.plan_file import compiler_hash, model_hash, read_plan, write_plan
from npuvm.runtime.session.prepared import Prepared
from npuvm.runtime.session.profile import Executed, KernelUse, NodeUse, TransferUse, nodes_of, profile_of, transfers_of
from npuvm.runtime.session.report import RunReport, SessionStats
from npuvm.runtime.session.runner import Loaded, Runner

if TYPE_CHECKING:
    import onnx

    from npuvm.compiler.frontends.onnx import Reader

__all__ = ["Session"]

_KEPT_REREAD = 32
"""Most models that are kept of those read again for sizes, or integers, of a run."""

_ENGINES = ("functional_first", "functional", "simpy", "compiled")


class Session:
    """Runs a model: a path of an ONNX file, an `onnx.ModelProto`, or a `npuvm.compiler.graph.model.Model`.

    `chip` is a chip's name, file or configuration, with `overrides`, or a `Device` that sessions share. `fusion` and
    `buffering` are those of `npuvm.compiler.Pins`, "pattern" and "auto" where they are None. `engine` is that of `Device`; None
    takes "functional_first". With `timing_only` there is no data, and rows that operators pick by index are drawn uniformly.
    With `no_host`, operators that the device cannot run are a SessionError here that names them; otherwise `provider` runs
    them, onnxruntime or ONNX's reference where it is None.

    CompileError for a model that cannot be read.
    """

    def __init__(
        self,
        source: Path | str | onnx.ModelProto | Model,
        chip: NpuConfig | str | Device = "ascend_910b1",
        overrides: Sequence[str] = (),
        *,
        fusion: str | None = None,
        buffering: str | None = None,
        engine: DeviceEngine | None = None,
        timing_only: bool = False,
        no_host: bool = False,
        provider: HostProvider | None = None,
    ) -> None:
        if engine is not None and engine not in _ENGINES:
            raise SessionError(f"engine {engine!r}; allowed: {', '.join(_ENGINES)}")
        if engine == "compiled" and not timing_only and not isinstance(chip, Device):
            allowed = ", ".join(each for each in _ENGINES if each != engine)
            raise SessionError(f"engine {engine!r} simulates time only; allowed: timing_only=True, or {allowed}")
        self._proto, self._reader, self.model = _read(source)
        self._no_host = no_host
        _allow_host(self.model, no_host)
        if isinstance(chip, Device):
            self.device = chip
        elif not isinstance(cast("object", chip), str | NpuConfig):
            allowed = "the name of a chip or its file, an NpuConfig, or a Device"
            raise SessionError(f"the chip is of type {type(chip).__name__}; allowed: {allowed}")
        else:
            wanted: DeviceEngine | None = None if timing_only else engine or "functional_first"
            rows = IndexDistribution("uniform") if timing_only else None
            self.device = Device(chip, overrides, timing_only=timing_only, engine=engine or wanted, indices=rows)
        self.stats = SessionStats()
        self.last = RunReport({})
        self.kept: dict[str, DeviceArray] = {}
        pins = Pins(fusion=fusion, buffering=buffering)
        if provider is None and self.model.host_steps():
            provider = default_provider()
        self._shared = isinstance(chip, Device)
        self._runner = Runner(self.device, None if pins == Pins() else pins, provider)
        weakref.finalize(self, self._runner.close).atexit = False
        self._loaded = Loaded(Prepared(self.model))
        self._reread: dict[tuple[bool, tuple[tuple[str, int], ...]], tuple[Model, Loaded]] = {}

    def run(
        self,
        inputs: Mapping[str, Array | DeviceArray],
        *,
        stream: str | None = None,
        wait: bool = True,
        keep: Collection[str] = (),
    ) -> dict[str, Array]:
        """Outputs by name, in the dtypes of the model. `last` says afterwards what the run took.

        Outputs that `keep` names stay on the device: they are in `kept`, and may be inputs of later runs.

        In simulated time the run is on a stream, that of the device where it is None, and the host waits for the outputs unless
        `wait` is False; so runs of sessions on one `Device` overlap (`Device.timeline`). The data is there either way.

        SessionError for inputs that do not fit the model, naming input, dim and what is allowed; and what `Device.run` raises.
        """
        if self.device.timing_only:
            raise SessionError("a session that simulates time only gives no data; allowed: time(shapes)")
        self._forget()
        start = time.perf_counter_ns()
        self._check_names(inputs)
        self._check_kept(keep)
        values = {name: self._input(name, inputs[name]) for name in self.model.inputs}
        with self.device.on_stream(self.device.log.stream if stream is None else stream):
            return self._run(values, start, wait, keep)

    def time(
        self,
        shapes: Mapping[str, Sequence[int] | DeviceArray],
        *,
        stream: str | None = None,
        wait: bool = True,
        keep: Collection[str] = (),
    ) -> RunReport:
        """Simulate the time of a run on inputs of these shapes, without data; `stream`, `wait` and `keep` are those of `run`.

        SessionError for shapes that do not fit, and where a size, a condition or a count of trips follows from data.
        """
        if not self.device.timing_only:
            raise SessionError("this session runs with data; allowed: run(inputs), or a session with timing_only=True")
        self._forget()
        start = time.perf_counter_ns()
        self._check_names(shapes)
        self._check_kept(keep)
        values = {name: self._input(name, shapes[name]) for name in self.model.inputs}
        with self.device.on_stream(self.device.log.stream if stream is None else stream):
            self._run(values, start, wait, keep)
        return self.last

    def put(self, name: str, value: Array | Sequence[int]) -> DeviceArray:
        """Upload an input once, to be given to any number of runs; where only time is simulated, a value of a shape.

        SessionError for what is no input of the model, or does not fit it.
        """
        self._check_names({name: value}, complete=False)
        given: object = value
        if isinstance(given, DeviceArray):
            raise SessionError(f"input '{name}' is on the device already; allowed: an array", self.model.name)
        check_stays(name, self.model)
        held = self._input(name, value)
        bind_value("input", name, self.model.values[name], held.shape, {}, {}, self.model)
        return put_array(self._runner, held, name)

    def close(self) -> None:
        """Give the device the memory of weights and arenas back; a run after it takes its own again.

        What is kept, or was put, is given back when nobody refers to it any more. A session that is dropped does the same.
        """
        self._runner.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Plan files.

    @classmethod
    def load(
        cls,
        path: Path | str,
        source: Path | str | onnx.ModelProto,
        chip: NpuConfig | str | Device = "ascend_910b1",
        overrides: Sequence[str] = (),
        **options: Any,
    ) -> Session:
        """A session as the constructor gives it, that takes programs from a plan file where it has them.

        SessionError where the file is none, is damaged, or was made for another model, chip, instruction set, compiler,
        fusion or buffering.
        """
        session = cls(source, chip, overrides, **options)
        session._runner.stored = read_plan(Path(path), session._made_for())
        return session

    def save(self, path: Path | str) -> int:
        """Write the programs that were compiled so far to a plan file; how many these are."""
        return write_plan(Path(path), self._made_for(), self._runner.log)

    def _made_for(self) -> dict[str, str]:
        if self._proto is None:
            raise SessionError("plan files are for ONNX models; allowed: a session of a file or an onnx.ModelProto")
        pins, chip = self._runner.pins or Pins(), self.device.chip
        return {
            "model": model_hash(self._proto),
            "chip": f"{chip.name} {chip.chip_hash}",
            "instruction set": self.device.isa.hash,
            "fusion": pins.fusion or "pattern",
            "buffering": pins.buffering or "auto",
            "compiler": compiler_hash(),
        }

    def executed(self) -> tuple[Executed, ...]:
        """The regions that the last run executed, in order, with their programs and the numbers of their first launches."""
        return tuple(self._runner.executed)

    def profile(self) -> list[KernelUse]:
        """The kernels of the last run by simulated time, with the operators of the model that each computes.

        SessionError where no time was simulated.
        """
        if not self.device.launches and self.last.launches:
            raise SessionError("engine 'functional' simulates no time; allowed: another engine")
        return profile_of(
            self._runner.executed, self.device.launches, self.device, self._runner.pins, self._operator_types()
        )

    def profile_nodes(self) -> list[NodeUse]:
        """The operators of the model by their part of the last run's simulated time; see `npuvm.runtime.session.attribution`.

        SessionError where no time was simulated.
        """
        return nodes_of(self.profile(), self._operator_types())

    def profile_transfers(self) -> list[TransferUse]:
        """What crossed between host and device in the last run, by value; those that took longest first.

        SessionError where no time was simulated.
        """
        if self.last.calls is None:
            raise SessionError(
                "no transfers of a run with simulated time; allowed: run first, with another engine than 'functional'"
            )
        return transfers_of(self.last.calls)

    def _operator_types(self) -> dict[str, str]:
        return {} if self._proto is None else operator_types(self._proto.graph)

    def _forget(self) -> None:
        """Drop launches and transfers of the last run, where nobody else has launched anything; they may be large."""
        self._runner.executed.clear()
        if not self._shared:
            self.device.launches.clear()
            self.device.operations.clear()

    def _input(self, name: str, given: Any) -> Held:
        """An input as it is given: on the device, an array, or a shape where only time is simulated."""
        if isinstance(given, DeviceArray):
            return device_input(self.device, given, name, self.model)
        if self.device.timing_only:
            return Held(self.model.values[name].dtype, _shape(name, given, self.model))
        return _held(name, given, self.model)

    def _check_kept(self, keep: Collection[str]) -> None:
        for name in (keep,) if isinstance(keep, str) else keep:
            if name not in self.model.outputs or isinstance(keep, str):
                allowed = ", ".join(self.model.outputs)
                raise SessionError(
                    f"keep={keep!r}; allowed: a list of outputs, of which there are {allowed}", self.model.name
                )

    def _check_names(self, inputs: Mapping[str, object], complete: bool = True) -> None:
        given: object = inputs
        if not isinstance(given, Mapping):
            raise SessionError(f"inputs of type {type(given).__name__}; allowed: a dict by name", self.model.name)
        allowed = ", ".join(self.model.inputs) or "none"
        for name in self.model.inputs if complete else ():
            if name not in inputs:
                raise SessionError(f"no input '{name}'; inputs: {allowed}", self.model.name)
        for name in inputs:
            if name not in self.model.inputs:
                raise SessionError(f"the model has no input '{name}'; inputs: {allowed}", self.model.name)

    def _run(self, values: dict[str, Held], start: int, wait: bool, keep: Collection[str]) -> dict[str, Array]:
        """The outputs by name, none where only time is simulated."""
        runner = self._runner
        launched, logged = len(self.device.launches), len(self.device.operations)
        runner.executed.clear()
        runner.synchronised.clear()
        shapes = {name: held.shape for name, held in values.items()}
        report = runner.report = self.last = RunReport(shapes)
        runner.simulating_us = 0.0
        runner.pool.peak_bytes = runner.pool.in_use_bytes
        uploaded_bytes = runner.weights.uploaded_bytes
        began_us = self.device.stream.synchronise()
        any_integers = not all(_holds(values[name], ends) for name, ends in self.model.taken.items())
        model, loaded = self._read_again({}, True) if any_integers else (self.model, self._loaded)
        if any_integers:
            report.reread = "an input holds integers larger than it was taken to"
        binding = self._bind(model, values)
        report.bind_measured_us = (time.perf_counter_ns() - start) / 1000
        try:
            made = runner.run(loaded, dict(values), dict(binding))
        except GuardFails as failure:
            made = self._again(failure, values, loaded, any_integers)
        report.total_measured_us = (time.perf_counter_ns() - start) / 1000
        self.kept = {name: keep_output(runner, made[name], name) for name in keep}
        found = self._fetched({name: each for name, each in made.items() if name not in keep}, wait)
        records = self.device.launches[launched:]
        report.cycles = sum(each.result.cycles for each in records)
        ends = sorted({*runner.synchronised, launched + len(records)})
        durations = [float(self.device.chip.cycles_to_us(each.result.cycles)) for each in records]
        starts = [launched, *ends[:-1]]
        report.launch_groups_us = [
            durations[a - launched : b - launched] for a, b in zip(starts, ends, strict=True) if b > a
        ]
        report.simulated_us = self.device.stream.synchronise() - began_us
        report.peak_bytes, report.weight_bytes = runner.pool.peak_bytes, runner.weights.nbytes
        report.output_shapes = {name: each.shape for name, each in made.items()}
        if self.device.times:
            calls = report.calls = RunCalls(self.device.chip, tuple(self.device.operations[logged:]))
            resident = calls.transfers
            report.weight_upload_bytes, report.weight_upload_us = resident.resident_bytes, resident.resident_us
        else:
            report.weight_upload_bytes = runner.weights.uploaded_bytes - uploaded_bytes
        self._count(report)
        return found

    def _fetched(self, made: Mapping[str, Held], wait: bool) -> dict[str, Array]:
        """Outputs on the host; what the host had before is the caller's own, or a constant of the model, so it is copied."""
        if self.device.timing_only:
            for name, each in made.items():
                self._runner.crossed(each, name, wait=wait)
            return {}
        return {
            name: self._runner.host_array(each, name, wait=wait) if each.array is None else copy(each.array)
            for name, each in made.items()
        }

    def _count(self, report: RunReport) -> None:
        stats = self.stats
        stats.runs += 1
        stats.known_shapes += report.known_shape
        stats.shapes_compiled += not report.known_shape
        stats.compile_measured_us += report.compile_measured_us
        spent = self._runner.simulating_us + report.compile_measured_us + report.verify_measured_us
        stats.overhead_measured_us = report.total_measured_us - spent

    def _bind(self, model: Model, values: Mapping[str, Held]) -> Binding:
        binding: Binding = {}
        origin: dict[str, str] = {}
        for name in model.inputs:
            bind_value("input", name, model.values[name], values[name].shape, binding, origin, model)
        return binding

    def _again(
        self, failure: GuardFails, values: Mapping[str, Held], loaded: Loaded, any_integers: bool
    ) -> dict[str, Held]:
        """Run the model that is read for these sizes alone, because an assumption about sizes is wrong for them."""
        if self._proto is None:
            raise SessionError(
                f"{failure.message}; there is no ONNX model to read for these sizes alone", failure.where
            )
        model, loaded = self._read_again(loaded.prepared.roots(failure.binding), any_integers)
        self._runner.report.reread = str(failure)
        fresh = {name: each.anew() for name, each in values.items()}
        try:
            return self._runner.run(loaded, fresh, self._bind(model, fresh))
        except GuardFails as again:
            raise SessionError(f"{again.message}, even where it is read for these sizes alone", again.where) from None

    def _read_again(self, roots: Mapping[str, int], any_integers: bool) -> tuple[Model, Loaded]:
        """The model read for these sizes, or for `any_integers` in its inputs; the last ones are kept."""
        key = any_integers, tuple(sorted(roots.items()))
        found = self._reread.get(key)
        if found is None:
            if self._reader is None:
                raise SessionError(
                    "an input holds integers larger than it was taken to, and there is no ONNX model to read"
                )
            start = time.perf_counter_ns()
            model = self._reader.read(roots, any_integers=any_integers)
            _allow_host(model, self._no_host)
            if self._runner.provider is None and model.host_steps():
                self._runner.provider = default_provider()
            found = model, Loaded(Prepared(model))
            while len(self._reread) >= _KEPT_REREAD:
                self._reread.pop(next(iter(self._reread)))
            self._runner.keep([self.model, model, *(each for each, _ in self._reread.values())])
            self.stats.models_reread += 1
            self._runner.report.known_shape = False
            self._runner.report.compile_measured_us += (time.perf_counter_ns() - start) / 1000
        self._reread.pop(key, None)
        self._reread[key] = found  # the last of all, those that are used longest ago go first
        return found


def _allow_host(model: Model, no_host: bool) -> None:
    if no_host and (left := model.host_steps()):
        found = "; ".join(f"{each.op} ({each.source}): {each.reason}" for each in left)
        raise SessionError(f"operators would run on the host: {found}", model.name)


def _holds(held: Held, ends: tuple[int, int]) -> bool:
    """Whether all integers of an input, as far as it has data, are within bounds."""
    array = held.array
    return array is None or not array.size or (ends[0] <= int(array.min()) and int(array.max()) <= ends[1])


def _read(source: Path | str | onnx.ModelProto | Model) -> tuple[onnx.ModelProto | None, Reader | None, Model]:
    if isinstance(source, Model):
        return None, None, source
    try:
        from npuvm.compiler.frontends.onnx import Reader, load_model
    except ModuleNotFoundError:
        raise SessionError(NO_ONNX) from None
    from onnx import ModelProto

    proto: object = load_model(source) if isinstance(source, str | Path) else source
    if not isinstance(proto, ModelProto):
        allowed = "a path, an onnx.ModelProto, or a npuvm.compiler.graph.model.Model"
        raise SessionError(f"the model is of type {type(source).__name__}; allowed: {allowed}")
    reader = Reader(proto)
    return proto, reader, reader.read()


def _shape(name: str, given: Any, model: Model) -> tuple[int, ...]:
    """The shape of an input. SessionError for what is none."""
    try:
        shape = tuple([index(size) for size in given])
    except TypeError:
        raise SessionError(f"input '{name}': {given!r} is no shape; allowed: whole numbers", model.name) from None
    wrong = next((size for size in shape if not 0 <= size <= LARGEST_DIM), None)
    if wrong is not None:
        raise SessionError(f"input '{name}': a size of {wrong}; allowed: 0 to {LARGEST_DIM}", model.name)
    return shape


def _held(name: str, given: Any, model: Model) -> Held:
    kind = model.values[name]
    if not isinstance(given, np.ndarray | np.generic):
        message = f"input '{name}' is a {type(given).__name__}; allowed: a numpy array of {kind.dtype}"
        raise SessionError(message, model.name)
    array = np.asarray(given)
    if array.dtype != numpy_dtype(kind.dtype):
        raise SessionError(f"input '{name}' must be {kind.dtype}, got {array.dtype}", model.name)
    return Held(kind.dtype, array.shape, array)
