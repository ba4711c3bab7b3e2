"""A device as scenarios use it: tensors that live as long as a scope, and launches that come back with their totals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy.typing as npt

from npuvm.compiler import Kernel, Pins
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.hw.simulator import HazardMode
from npuvm.runtime.device.device import Device, DeviceEngine, LaunchObserver
from npuvm.runtime.device.run_timeline import RunCalls
from npuvm.runtime.device.tensor import Tensor
from npuvm.runtime.scenarios.report import Totals
from npuvm.runtime.scenarios.schema import PinFields
from npuvm.runtime.scenarios.totals import totals_of

__all__ = ["LaunchSession"]

Array: TypeAlias = npt.NDArray[Any]


class LaunchSession:
    """A device of its own for one run of a scenario. `chip` is a name or a file, `overrides` are laid over it.

    The options are those of `Device`. Where only time is simulated, rows that kernels pick by index are drawn uniformly.
    """

    def __init__(
        self,
        chip: str,
        overrides: Sequence[str],
        timing_only: bool,
        *,
        hazards: HazardMode | None = None,
        cold_l2: bool = False,
        engine: DeviceEngine | None = None,
        observers: Sequence[LaunchObserver] = (),
    ) -> None:
        self.device = Device(
            chip,
            overrides,
            timing_only=timing_only,
            hazards=hazards,
            cold_l2=cold_l2,
            engine=engine,
            observers=observers,
            indices=IndexDistribution("uniform"),
        )
        self.cold_l2 = cold_l2
        self._scopes: list[list[Tensor]] = [[]]

    @property
    def timing_only(self) -> bool:
        """Whether time is simulated without data."""
        return self.device.timing_only

    @property
    def chip_name(self) -> str:
        """Name of the chip."""
        return self.device.chip.name

    @property
    def isa_name(self) -> str:
        """Instruction set, extensions and the first digits of the hash of both."""
        reference = self.device.chip.isa
        return f"{'+'.join([reference.base, *reference.extensions])} {self.device.isa.hash[:12]}"

    @property
    def engine_name(self) -> str:
        """The engine that simulates its launches."""
        return self.device.engine_name

    @property
    def stream_us(self) -> float:
        """Simulated microseconds from the first launch to the end of the last, the host's dispatch included."""
        return self.device.stream.end_us

    @property
    def calls(self) -> RunCalls:
        """What the host has asked of the device so far."""
        return RunCalls(self.device.chip, tuple(self.device.operations))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Tensors made inside are freed at its end."""
        self._scopes.append([])
        try:
            yield
        finally:
            for tensor in self._scopes.pop():
                tensor.free()

    def tensor(self, array: Array, *, resident: bool = False) -> Tensor:
        """A copy of a host array on the device; `resident`: it stays for later runs, as weights do."""
        return self._keep(self.device.tensor(array, resident=resident))

    def empty(self, shape: Sequence[int], dtype: str) -> Tensor:
        """Memory for a tensor."""
        return self._keep(self.device.empty(shape, dtype))

    def array(self, tensor: Tensor) -> Array | None:
        """A host copy of a tensor; None when only time is simulated, and the time of the copy is."""
        if self.timing_only:
            self.device.transfer(tensor, "to_host", wait=True)
            return None
        return tensor.numpy()

    def launch(
        self, kernel: Kernel, inputs: Mapping[str, Tensor], pins: PinFields, tag: str = ""
    ) -> tuple[Tensor, Totals]:
        """Run a kernel of one output; the totals are those of all launches it took."""
        before = len(self.device.launches)
        given = pins.model_dump(exclude_unset=True)
        outputs = self.device.run(kernel, inputs, Pins(**given) if given else None, tag)
        (output,) = (self._keep(tensor) for tensor in outputs.values())
        records = self.device.launches[before:]
        binding = kernel.bind({name: tensor.shape for name, tensor in inputs.items()})
        compile_us = sum(record.compile_us for record in records)
        results = [record.result for record in records]
        return output, totals_of(self.device.chip, kernel.graph, binding, results, compile_us)

    def _keep(self, tensor: Tensor) -> Tensor:
        self._scopes[-1].append(tensor)
        return tensor
