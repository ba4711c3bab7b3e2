"""What a point of a design space is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["MEASURES", "Measure"]


@dataclass(frozen=True)
class Measure:
    """A figure of a point: its unit, whether less or more is better, and whether each workload has one of its own."""

    name: str
    unit: str
    goal: Literal["minimise", "maximise"]
    per_workload: bool
    meaning: str

    @property
    def sign(self) -> int:
        """1 where less is better, -1 where more is."""
        return 1 if self.goal == "minimise" else -1


_ALL = (
    Measure("latency_us", "us", "minimise", True, "simulated time of a run, the host's dispatch included"),
    Measure("throughput_per_s", "1/s", "maximise", True, "runs in a second, one after another"),
    Measure("energy_uj", "uJ", "minimise", True, "estimated energy of a run"),
    Measure("power_w", "W", "minimise", True, "estimated energy of a run over its time on the device"),
    Measure("area_mm2", "mm2", "minimise", False, "estimated area of the chip, its extensions' units included"),
    Measure("decoder_gates", "gates", "minimise", False, "gates of the instruction decoder, as yosys maps it"),
)

MEASURES: Mapping[str, Measure] = MappingProxyType({measure.name: measure for measure in _ALL})
