"""A simulated device: its memory, its second-level cache, its stream of launches."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from npuvm.compiler import CompiledKernel, Kernel, Pins, Stack, compile_kernel, compile_stack
from npuvm.hw.compiled import backend_of
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import DeviceError
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.hw.functional.interpreter import Interpreted, interpret
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.launch import capacity_limits
from npuvm.hw.link import Direction
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import EngineName, HazardMode, l2_state, simulate, timing_engine
from npuvm.isa import Image, Isa, load_isa
from npuvm.isa.verifier import Verifier
from npuvm.runtime.analysis.repeats import ColdLaunches
from npuvm.runtime.device.allocator import Allocator
from npuvm.runtime.device.cache import ProgramCache
from npuvm.runtime.device.host_stream import HostStream
from npuvm.runtime.device.launch_record import LaunchObserver, LaunchRecord, LaunchTaker
from npuvm.runtime.device.operations import Operation, OperationLog
from npuvm.runtime.device.run_timeline import RunTimeline, run_timeline
from npuvm.runtime.device.tensor import Tensor

__all__ = [
    "Device",
    "DeviceEngine",
    "DeviceProgram",
    "LaunchObserver",
    "LaunchRecord",
    "LaunchTaker",
    "capacity_limits",
]

DeviceEngine = EngineName | Literal["functional", "functional_first"]

_CACHED_PROGRAMS = 1024

_ENGINES = ("simpy", "compiled", "functional", "functional_first")
_HAZARDS = ("raise", "collect", "off")


@dataclass(frozen=True, slots=True)
class DeviceProgram:
    """A kernel or stack that is compiled and verified for a device. `compile_us` is measured host time of this request."""

    source: Kernel | Stack
    kernel: CompiledKernel
    compile_us: float
    cached: bool


class Device:
    """A chip with memory, ready to run kernels.

    `timing_only` simulates time without tensor data. `hazards` is that of `npuvm.hw.simulator.simulate`. Launches are
    appended to `launches`; the caller may clear the list. Every program passes the static verifier before its first
    launch: `verifier` knows those that have, `verify_us` is the host time this has taken. `observers` are told of each launch.
    Launches and transfers are logged in `operations`, which the caller may clear too; `timeline` says when each happens.

    `engine` is that of `simulate`; None takes the compiled one where numba is installed, only time is simulated, and nothing
    is traced or checked. "functional" runs programs on data without time (`npuvm.hw.functional`): `launches` stays empty.
    "functional_first" does that, and then simulates the time of each launch with the scalar loads and indices that it had:
    the same data and cycles as "simpy" on data, in less time, without looking for hazards.

    With `cold_l2` every launch finds L2 empty instead of as the one before left it; then, without data, a launch that is the
    same as one before is not simulated again (`analysis.repeats`). `indices` says which rows kernels pick by index where
    only time is simulated. Launches go to `taker` where there is one, in place of being verified and simulated here.
    """

    def __init__(
        self,
        chip: NpuConfig | str,
        overrides: Sequence[str] = (),
        *,
        timing_only: bool = False,
        hazards: HazardMode | None = None,
        cycle_limit: int | None = None,
        cold_l2: bool = False,
        engine: DeviceEngine | None = None,
        observers: Sequence[LaunchObserver] = (),
        indices: IndexDistribution | None = None,
        taker: LaunchTaker | None = None,
    ) -> None:
        self.chip = load_chip(chip, overrides) if isinstance(chip, str) else chip
        self.isa: Isa = load_isa(self.chip.isa.base, self.chip.isa.extensions)
        for name, given, allowed in (("engine", engine, _ENGINES), ("hazards", hazards, _HAZARDS)):
            if given is not None and given not in allowed:
                raise DeviceError(f"{name} {given!r}; allowed: {', '.join(map(repr, allowed))}, None")
        self.timing_only = timing_only
        self.launches: list[LaunchRecord] = []
        self.log = OperationLog(self.chip)
        self.stream = HostStream(float(self.chip.host.launch_us), float(self.chip.host.start_latency_us))
        self.programs: ProgramCache[tuple[Kernel | Stack, CompiledKernel]] = ProgramCache(_CACHED_PROGRAMS)
        if engine in ("functional", "functional_first") and (timing_only or hazards not in (None, "off")):
            raise DeviceError(f"engine {engine!r} needs data and looks for no hazards; allowed: 'simpy'")
        if taker is not None and not timing_only:
            raise DeviceError("launches with data run on their device; allowed with a taker: timing_only=True")
        self._taker = taker
        self._hazards = hazards
        self._cycle_limit = cycle_limit
        self._observers = tuple(observers)
        self.verify_us = 0.0
        self.verifier = Verifier(self.isa, capacity_limits(self.chip))
        self._l2 = l2_state(self.chip)
        self._cold_l2 = cold_l2
        self._engine = engine
        self._indices = indices
        self._discarded: list[tuple[int, int]] = []
        self._repeats = ColdLaunches(self.chip) if cold_l2 and timing_only else None
        self._allocator = Allocator(self.chip.capacity_bytes("gm"))
        self._live: dict[int, Tensor] = {}
        self._memory = None if timing_only else GlobalMemory(self.chip.capacity_bytes("gm"))

    # Memory.

    @property
    def memory_in_use_bytes(self) -> int:
        """Bytes of all live tensors, in units of allocation."""
        return self._allocator.in_use_bytes

    def empty(self, shape: Sequence[int], dtype: str) -> Tensor:
        """Memory for a tensor; its contents are what was there before."""
        if dtype not in self.isa.dtypes:
            raise DeviceError(f"no data type {dtype!r}; there are: {', '.join(self.isa.dtypes)}")
        if any(size < 0 for size in shape):
            raise DeviceError(f"shape {list(shape)}: sizes must not be negative")
        nbytes = prod(shape) * self.isa.dtypes[dtype].itemsize
        tensor = Tensor(self, self._allocator.allocate(nbytes), tuple(shape), dtype)
        self._live[tensor.address] = tensor
        return tensor

    def tensor(self, array: npt.NDArray[Any], tag: str = "", *, resident: bool = False) -> Tensor:
        """A copy of a host array in device memory, dense and in row-major order whatever the strides of the array are.

        `tag` and `resident` are those of `Operation`.
        """
        given: object = array
        if not isinstance(given, np.ndarray):
            raise DeviceError(
                f"a tensor is made of a numpy array, not of a {type(given).__name__}; allowed: numpy.asarray(..)"
            )
        dtype = next((name for name, entry in self.isa.dtypes.items() if entry.numpy == array.dtype), None)
        if dtype is None:
            raise DeviceError(f"no data type for {array.dtype}; there are: {', '.join(self.isa.dtypes)}")
        tensor = self.empty(array.shape, dtype)
        self.write(tensor, array, tag, resident=resident)
        return tensor

    def write(self, tensor: Tensor, array: npt.NDArray[Any], tag: str = "", *, resident: bool = False) -> None:
        """Copy a host array, of any strides, over a tensor of the same shape and type; its lines leave L2.

        In simulated time the host does not wait for it. `tag` and `resident` are those of `Operation`.
        """
        if array.shape != tensor.shape or array.dtype != self.isa.dtypes[tensor.dtype].numpy:
            raise DeviceError(f"array {array.dtype}{list(array.shape)} for tensor {tensor.dtype}{list(tensor.shape)}")
        self._check_live(tensor)
        self._discard(tensor)
        self.transfer(tensor, "to_device", tag, resident=resident)
        if self._memory is not None:
            self._memory.write(tensor.address, array)

    def read(self, tensor: Tensor, tag: str = "", *, wait: bool = True) -> npt.NDArray[Any]:
        """A host copy of a tensor. In simulated time the host waits for it, unless `wait` is False."""
        if self._memory is None:
            raise DeviceError("a device that simulates time only holds no data; allowed: transfer(tensor, 'to_host')")
        self._check_live(tensor)
        self.transfer(tensor, "to_host", tag, wait=wait)
        raw = self._memory.read(tensor.address, tensor.nbytes)
        return raw.view(self.isa.dtypes[tensor.dtype].numpy).reshape(tensor.shape)

    def transfer(
        self, tensor: Tensor, direction: Direction, tag: str = "", *, resident: bool = False, wait: bool = False
    ) -> None:
        """A copy between host and device in simulated time, of which no data moves and L2 knows nothing.

        `tag` and `resident` are those of `Operation`. `wait`: the host waits for its stream.
        """
        if not self.times:
            return
        self.log.transfer(direction, tensor.address, tensor.nbytes, tag, resident)
        if wait:
            self.log.wait()

    def transfer_us(self, direction: Direction, nbytes: int) -> float:
        """Simulated microseconds of a transfer that is alone; 0 where no time is simulated."""
        return float(self.log.link.transfer_us(direction, nbytes)) if self.times else 0.0

    def part(self, whole: Tensor, offset_bytes: int, shape: Sequence[int], dtype: str) -> Tensor:
        """A tensor in the memory of another one, which it lives as long as. DeviceError when it reaches beyond it."""
        made = Tensor(self, whole.address + offset_bytes, tuple(shape), dtype, whole.whole or whole)
        if offset_bytes < 0 or offset_bytes + made.nbytes > whole.nbytes:
            raise DeviceError(
                f"{made.nbytes} bytes from {offset_bytes} on do not lie in the {whole.nbytes} of the tensor"
            )
        self._check_live(made)
        return made

    def free(self, tensor: Tensor) -> None:
        """Give back a tensor's memory; DeviceError when it was freed before, or is a part of another one's."""
        if tensor.whole is not None:
            raise DeviceError(f"tensor {tensor.dtype}{list(tensor.shape)} is a part of another one; free that")
        self._check_live(tensor)
        del self._live[tensor.address]
        self._allocator.free(tensor.address)
        self._discard(tensor)

    def _discard(self, tensor: Tensor) -> None:
        """Drop a tensor's lines from L2, and note it for the record of the next launch."""
        self._l2.discard(tensor.address, tensor.nbytes)
        self._discarded.append((tensor.address, tensor.nbytes))

    # Simulated time.

    @property
    def times(self) -> bool:
        """Whether time is simulated, which the functional engine does not."""
        return self._engine != "functional"

    @property
    def operations(self) -> list[Operation]:
        """Launches and transfers in the order in which the host asked for them."""
        return self.log.operations

    def on_stream(self, name: str) -> AbstractContextManager[None]:
        """What is asked for inside is on the stream of this name; "" is that of everything else."""
        return self.log.on_stream(name)

    def synchronise(self) -> None:
        """The host waits, in simulated time, for all streams."""
        self.log.wait(all_streams=True)

    def timeline(self) -> RunTimeline:
        """When the operations happen, transfers included; the times of `launches` and of `stream` are without them."""
        return run_timeline(self.chip, self.operations)

    # Running.

    @property
    def engine_name(self) -> str:
        """The engine that simulates launches of which no trace is wanted, as `RunResult.engine` names it."""
        return "simpy" if self._engine_for(trace=False) == "simpy" else backend_of().label

    def run(
        self, kernel: Kernel | Stack, inputs: Mapping[str, Tensor], pins: Pins | None = None, tag: str = ""
    ) -> dict[str, Tensor]:
        """Compile a kernel or stack for the shapes of its inputs, or take it from the cache, and launch it.

        Returns its outputs by name, in the order of its stores. `pins` are for a kernel; a stack, whose kernels have their own,
        takes buffering.
        CompileError for inputs that do not fit the kernel, DeviceError and SimulationError when a launch traps.
        """
        self._check_inputs(kernel, inputs)
        program = self.compiled(kernel, {name: tensor.shape for name, tensor in inputs.items()}, pins)
        tensors = dict(inputs)
        needed = program.kernel.workspace_bytes
        workspace = self.empty((needed,), "int8") if needed else None
        for spec in program.kernel.tensors:
            if spec.kind == "workspace":
                address = spec.offset if workspace is None else workspace.address + spec.offset
                tensors[spec.name] = Tensor(self, address, spec.shape, spec.dtype)
            elif spec.kind != "param":
                tensors[spec.name] = self.empty(spec.shape, spec.dtype)
        self.execute(program, tensors, tag)
        if workspace is not None:
            workspace.free()
        return {name: tensors[name] for name in program.kernel.outputs}

    def compiled(
        self,
        kernel: Kernel | Stack,
        shapes: Mapping[str, Sequence[int]],
        pins: Pins | None = None,
        ready: CompiledKernel | None = None,
    ) -> DeviceProgram:
        """A kernel or stack for shapes of its parameters, verified; from the cache where it is there. See `run`.

        `ready` is what an earlier compilation gave, to be taken instead of compiling.
        """
        start, verified_us = time.perf_counter_ns(), self.verify_us
        graph = kernel.graph if isinstance(kernel, Kernel) else kernel
        key = (id(graph), tuple((name, tuple(shape)) for name, shape in shapes.items()), pins)

        def make() -> tuple[Kernel | Stack, CompiledKernel]:
            """The graph too, so that an id names one as long as it is in the cache."""
            made: CompiledKernel
            if ready is not None:
                made = ready
            elif isinstance(kernel, Stack):
                buffering = None if pins is None else pins.buffering
                if pins not in (None, Pins(buffering=buffering)):
                    raise DeviceError("a stack takes no pins but buffering; pin its kernels", kernel.name)
                made = compile_stack(kernel, shapes, self.chip, self.isa, buffering)
            else:
                made = compile_kernel(kernel, shapes, self.chip, self.isa, pins)
            for launch in made.launches:
                self._verify(launch.image)
            return kernel, made

        (_, program), cached = self.programs.get(key, make)
        spent_us = (time.perf_counter_ns() - start) / 1000 - (self.verify_us - verified_us)
        return DeviceProgram(kernel, program, spent_us, cached)

    def execute(self, program: DeviceProgram, tensors: Mapping[str, Tensor], tag: str = "") -> None:
        """Run the launches of a program on the tensors that they name. The tensors must be live; none is checked."""
        compile_us = program.compile_us
        read_only = {spec.name for spec in program.kernel.tensors if spec.kind == "param"}
        for launch in program.kernel.launches:
            arguments = [tensors[name] for name in launch.args]
            written = [name not in read_only for name in launch.args]
            self._launch(program.source, launch.image, arguments, tag, compile_us, program.cached, launch.kind, written)
            compile_us = 0.0

    def launch(self, image: Image, arguments: Sequence[Tensor], tag: str = "") -> RunResult:
        """Launch an image of raw instructions on tensors, in the order of its arguments; VerifyError when it is illegal."""
        for tensor in arguments:
            self._check_live(tensor)
        self._verify(image)
        result = self._launch(None, image, arguments, tag, 0.0, True)
        if result is None:
            raise DeviceError("a functional device has no time to report; allowed: run, or another engine", image.name)
        return result

    def _launch(
        self,
        kernel: Kernel | Stack | None,
        image: Image,
        arguments: Sequence[Tensor],
        tag: str,
        compile_us: float,
        cached: bool,
        kind: str = "",
        written: Sequence[bool] | None = None,
    ) -> RunResult | None:
        addresses = tuple([tensor.address for tensor in arguments])
        windows = tuple([(tensor.address, tensor.nbytes) for tensor in arguments])
        if self._engine == "functional":
            self._interpret(image, addresses, windows)
            self._discarded.clear()
            return None
        result = self._simulate(image, addresses, windows)
        us, name = float(self.chip.cycles_to_us(result.cycles)), image.name if kernel is None else kernel.name
        times = self.stream.launch(us)
        marks = written or [True] * len(windows)
        reads = tuple([each for each, mark in zip(windows, marks, strict=True) if not mark])
        self.log.launch(
            us, tag or name, reads, tuple([each for each, mark in zip(windows, marks, strict=True) if mark])
        )
        where = (addresses, windows, tuple(self._discarded), self._cold_l2)
        self._discarded.clear()
        ktype = "" if kernel is None else kernel.kind if isinstance(kernel, Stack) else kernel.graph.ktype
        record = LaunchRecord(
            self.chip, self.isa, name, image, tag, result, times, compile_us, cached, *where, self._indices, kind, ktype
        )
        self.launches.append(record)
        for observer in self._observers:
            observer.launched(record)
        return result

    def _simulate(self, image: Image, addresses: tuple[int, ...], windows: tuple[tuple[int, int], ...]) -> RunResult:
        if self._taker is not None:
            return self._taker.take(image, addresses, tuple(self._discarded))
        trace = any(observer.wants_trace(image) for observer in self._observers)
        known = None if self._repeats is None or trace else self._repeats.find(image, addresses)
        if known is not None:
            return known
        if self._cold_l2:
            self._l2 = l2_state(self.chip)
        first = self._engine == "functional_first"
        done = self._interpret(image, addresses, windows) if first else None
        result = simulate(
            self.chip,
            self.isa,
            image,
            memory=self._memory,
            addresses=addresses,
            windows=windows,
            data=not (self.timing_only or first),
            l2=self._l2,
            cycle_limit=self._cycle_limit,
            hazards=self._hazards,
            registers=None if done is None else done.scalar_loads,
            trace=trace,
            engine=self._engine_for(trace),
            indices=self._indices if done is None else done.indices,
        )
        if done is not None and any(done.indices):
            result = replace(result, indices=done.indices)
        if self._repeats is not None:
            self._repeats.keep(image, addresses, result)
        return result

    def _interpret(self, image: Image, addresses: tuple[int, ...], windows: tuple[tuple[int, int], ...]) -> Interpreted:
        """The launch on data alone."""
        assert self._memory is not None
        return interpret(self.chip, self.isa, image, memory=self._memory, addresses=addresses, windows=windows)

    def _engine_for(self, trace: bool) -> EngineName:
        if self._engine == "functional" or self._engine == "functional_first":
            return "simpy" if trace else timing_engine()
        if self._engine is not None:
            return self._engine
        alone = self.timing_only and not trace and self._hazards in (None, "off")
        return timing_engine() if alone else "simpy"

    def _verify(self, image: Image) -> None:
        if self._taker is not None:
            return
        start = time.perf_counter_ns()
        self.verifier.check(image)
        self.verify_us += (time.perf_counter_ns() - start) / 1000

    def _check_live(self, tensor: Tensor) -> None:
        """A freed tensor's bytes may be another one's by now."""
        whole = tensor.whole or tensor
        if tensor.device is not self or self._live.get(whole.address) is not whole:
            raise DeviceError(f"tensor {tensor.dtype}{list(tensor.shape)} was freed, or is on another device")

    def _check_inputs(self, kernel: Kernel | Stack, inputs: Mapping[str, Tensor]) -> None:
        params = kernel.graph.params if isinstance(kernel, Kernel) else kernel.params
        for param in params:
            tensor: object = inputs.get(param.name)
            if tensor is None:
                names = ", ".join(p.name for p in params)
                raise DeviceError(f"no tensor for parameter {param.name!r}; parameters: {names}", kernel.name)
            if not isinstance(tensor, Tensor):
                kind = type(tensor).__name__
                message = (
                    f"parameter {param.name!r} got a {kind}; allowed is a tensor of this device: device.tensor(array)"
                )
                raise DeviceError(message, kernel.name)
            if tensor.device is not self:
                raise DeviceError(f"the tensor for {param.name!r} is on another device", kernel.name)
            whole = tensor.whole or tensor
            if self._live.get(whole.address) is not whole:
                raise DeviceError(f"the tensor for {param.name!r} was freed", kernel.name)
            if tensor.dtype != param.type.dtype:
                raise DeviceError(f"parameter {param.name!r} is {param.type.dtype}, got {tensor.dtype}", kernel.name)
