"""What a run did on a chip, in counts: all that its measures are made of, whatever a technology says of their price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from npuvm.explore.evaluation.record import RunRecord
from npuvm.hw.config import NpuConfig
from npuvm.hw.energy import EnergyReport, Technology, Work, estimate_energy
from npuvm.hw.results.stats import RunResult
from npuvm.hw.results.sums import sum_by_key
from npuvm.runtime.device.host_stream import HostStream

__all__ = ["Counts", "counts_of", "energy_of", "interval_us", "latency_us", "record_of"]

_PJ_PER_UJ = 1e6
_US_PER_S = 1_000_000


@dataclass(frozen=True)
class Counts:
    """A run: `cycles` of each launch in order; `groups` are numbers of launches, between two of which the host waits.

    The others are sums over launches, see `RunRecord`.
    """

    cycles: tuple[int, ...]
    groups: tuple[int, ...]
    bytes: Mapping[str, int]
    work: Work
    instructions: int
    busy: Mapping[str, int]
    stalls: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Counts:
        """What `to_json` gave."""
        return Counts(
            tuple(data["cycles"]),
            tuple(data["groups"]),
            data["bytes"],
            Work(**data["work"]),
            data["instructions"],
            data["busy"],
            data["stalls"],
        )


def counts_of(results: Sequence[RunResult], groups: Sequence[int]) -> Counts:
    """The counts of a run's launches."""
    return Counts(
        tuple(result.cycles for result in results),
        tuple(groups),
        sum_by_key(result.bytes for result in results),
        Work.sum(result.work for result in results),
        sum(result.instructions for result in results),
        sum_by_key(busy for result in results for busy in _busy(result)),
        sum_by_key(stalls for result in results for stalls in _stalls(result)),
    )


def _busy(result: RunResult) -> Iterator[dict[str, int]]:
    for core in result.cores:
        yield {name: unit.busy for name, unit in core.units.items()}


def _stalls(result: RunResult) -> Iterator[dict[str, int]]:
    for core in result.cores:
        yield {f"{name}: {cause}": cycles for name, unit in core.units.items() for cause, cycles in unit.stalls.items()}


def latency_us(counts: Counts, chip: NpuConfig) -> float:
    """From the first launch that the host writes to the end of the last one."""
    stream = _stream(chip)
    _send(stream, counts, chip)
    return stream.end_us


def interval_us(counts: Counts, chip: NpuConfig) -> float:
    """From the end of a run to that of the next one, when the host sends one after another without waiting for the last.

    The first of a stream is left out, because nothing was in front of it.
    """
    stream = _stream(chip)
    for _ in range(2):
        _send(stream, counts, chip)
    before = stream.end_us
    _send(stream, counts, chip)
    return stream.end_us - before


def _stream(chip: NpuConfig) -> HostStream:
    return HostStream(float(chip.host.launch_us), float(chip.host.start_latency_us))


def _send(stream: HostStream, counts: Counts, chip: NpuConfig) -> None:
    first = 0
    for number, size in enumerate(counts.groups):
        if number:
            stream.synchronise()
        for cycles in counts.cycles[first : first + size]:
            stream.launch(float(chip.cycles_to_us(cycles)))
        first += size


def energy_of(counts: Counts, chip: NpuConfig, technology: Technology) -> EnergyReport:
    """Estimated energy of a run; ConfigError when the technology does not price what it did."""
    cycles = sum(counts.cycles)
    whole = RunResult(
        cycles=cycles,
        seconds=chip.cycles_to_us(cycles) / _US_PER_S,
        cores=(),
        bytes=counts.bytes,
        work=counts.work,
        requests=0,
        instructions=counts.instructions,
        by_unit={},
        by_op={},
        bounds={},
        hazards=(),
        scalar_loads=(),
        trace=(),
    )
    return estimate_energy(whole, chip, technology)


def record_of(
    workload: str, sizes: Mapping[str, int], weight: float, counts: Counts, chip: NpuConfig, technology: Technology
) -> RunRecord:
    """The record of a run; ConfigError when the technology does not price what it did."""
    energy = energy_of(counts, chip, technology)
    return RunRecord(
        workload,
        dict(sizes),
        weight,
        latency_us(counts, chip),
        interval_us(counts, chip),
        sum(counts.cycles),
        energy.seconds,
        len(counts.cycles),
        {name: amount.value / _PJ_PER_UJ for name, amount in energy.components.items()},
        dict(counts.busy),
        dict(counts.stalls),
        dict(counts.bytes),
    )
