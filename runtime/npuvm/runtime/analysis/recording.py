"""Launches of a scenario, recorded once so that they can be explained, and simulated again on other chips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import DeviceError
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import EngineName, l2_state, simulate, timing_engine
from npuvm.isa import Image
from npuvm.runtime.device.device import LaunchRecord
from npuvm.runtime.device.host_stream import HostStream
from npuvm.runtime.scenarios.report import Progress, unwatched
from npuvm.runtime.scenarios.run import run_scenario
from npuvm.runtime.scenarios.schema import Scenario

__all__ = ["ALL_LAUNCHES", "LaunchRecorder", "Replay", "by_kernel", "chip_of", "record_scenario", "replay"]

ALL_LAUNCHES = "all launches"
"""Name under which all launches of a run stand beside its kernels."""


@dataclass
class LaunchRecorder:
    """Observes a device and keeps the record of every launch, in order; with `traced` the first of an image has a trace."""

    traced: bool = False
    records: list[LaunchRecord] = field(default_factory=list)

    def wants_trace(self, image: Image) -> bool:
        """Whether the image has not been launched before."""
        return self.traced and all(record.image is not image for record in self.records)

    def launched(self, record: LaunchRecord) -> None:
        """Keep a launch."""
        self.records.append(record)


@dataclass(frozen=True)
class Replay:
    """Recorded launches on a chip: what each did, and when the last ended with the host's dispatch between them."""

    chip: NpuConfig
    results: tuple[RunResult, ...]
    stream_us: float

    @property
    def cycles(self) -> int:
        """Cycles of all launches."""
        return sum(result.cycles for result in self.results)


def record_scenario(
    scenario: Scenario,
    chip: str | None = None,
    overrides: Sequence[str] = (),
    *,
    data: bool = False,
    cold_l2: bool = False,
    traced: bool = False,
    progress: Progress = unwatched,
) -> tuple[LaunchRecord, ...]:
    """Run a scenario and return its launches. `data` moves tensor data too, which programs that load sizes need.

    `traced` keeps a trace of the first launch of each image.
    The other arguments, and the errors, are those of `run_scenario`.
    """
    recorder = LaunchRecorder(traced)
    run_scenario(
        scenario,
        chip,
        overrides,
        timing_only=not data,
        cold_l2=cold_l2,
        progress=progress,
        observers=[recorder],
    )
    return tuple(recorder.records)


def chip_of(records: Sequence[LaunchRecord]) -> NpuConfig:
    """The chip of launches of one device; DeviceError when there is none."""
    if not records:
        raise DeviceError("nothing was launched, so there is nothing to look at")
    return records[0].chip


def by_kernel(records: Sequence[LaunchRecord]) -> dict[str, list[int]]:
    """Positions of the launches of each kernel, by tag or else by name, in the order of first launches."""
    groups: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        groups.setdefault(record.tag or record.kernel, []).append(position)
    return groups


def replay(records: Sequence[LaunchRecord], chip: NpuConfig, engine: EngineName | None = None) -> Replay:
    """Simulate recorded launches again on a chip of the same instruction set and topology, time only.

    Images, addresses, the values of scalar loads and indices are those of the record; L2 begins empty and goes through the
    same launches and the same writes of the host. So on the recorded chip the cycles are the recorded ones.
    `engine` is that of `simulate`; None takes `timing_engine`.
    """
    l2 = l2_state(chip)
    stream = HostStream(float(chip.host.launch_us), float(chip.host.start_latency_us))
    results = []
    for record in records:
        if record.cold_l2:
            l2 = l2_state(chip)
        for address, nbytes in record.discarded:
            l2.discard(address, nbytes)
        result = simulate(
            chip,
            record.isa,
            record.image,
            addresses=record.addresses,
            windows=record.windows,
            data=False,
            l2=l2,
            registers=record.result.scalar_loads,
            engine=engine or timing_engine(),
            indices=record.index_source,
        )
        stream.launch(float(chip.cycles_to_us(result.cycles)))
        results.append(result)
    return Replay(chip, tuple(results), stream.end_us)
