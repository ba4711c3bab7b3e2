"""What is known of a point of a space once it was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["Evaluation", "EvaluationState", "HostCost", "RunRecord"]

EvaluationState: TypeAlias = Literal["done", "pruned", "over_budget", "failed"]
"""done: every workload was simulated. pruned: its lower bounds are already beaten by a point of the front, and the rest was not
simulated. over_budget: a budget is exceeded, be it by a lower bound. failed: a workload cannot run, `error` says why."""


@dataclass(frozen=True)
class RunRecord:
    """One run of a workload on the chip of a point.

    `latency_us` counts the host's dispatch, `cycles` do not; `interval_us` is the time from the end of a run to that of the
    next one, when the host does not wait between them. `seconds` are those on the device. `energy_uj` is by component of
    `EnergyReport`; `busy` the cycles of each unit summed over cores; `stalls` cycles by "unit: cause"; `bytes` by level.
    `host_operators` ran on the host: their time is in none of these.
    """

    workload: str
    sizes: Mapping[str, int]
    weight: float
    latency_us: float
    interval_us: float
    cycles: int
    seconds: float
    launches: int
    energy_uj: Mapping[str, float]
    busy: Mapping[str, int]
    stalls: Mapping[str, int]
    bytes: Mapping[str, int]
    host_operators: int = 0


@dataclass(frozen=True)
class HostCost:
    """What looking at a point cost this host; `runs` of its workloads by how they were had.

    Keys of `runs`: "simulated", "shared" (of a point that cannot differ), "skipped" (pruned, over budget, or after a failure).
    """

    cpu_seconds: float = 0.0
    runs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """A point's measures, by name and, of one workload, by "measure of workload".

    Measures named in `bounds` are lower limits (of throughput: upper ones) and not figures. `code` is the `code_name` of
    npuvm that made it, empty where that is not known.
    """

    state: EvaluationState
    measures: Mapping[str, float]
    bounds: tuple[str, ...] = ()
    error: str | None = None
    runs: tuple[RunRecord, ...] = ()
    area_mm2: Mapping[str, float] = field(default_factory=dict)
    host: HostCost = HostCost()
    code: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Evaluation:
        """What `to_json` gave."""
        return Evaluation(
            data["state"],
            data["measures"],
            tuple(data["bounds"]),
            data["error"],
            tuple(RunRecord(**run) for run in data["runs"]),
            data["area_mm2"],
            HostCost(**data["host"]),
            data.get("code", ""),  # older studies have none
        )
