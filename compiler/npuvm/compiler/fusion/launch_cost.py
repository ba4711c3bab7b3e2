"""What several programs take one behind the other, each in a launch of its own or all in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuvm.hw.config import NpuConfig

__all__ = ["LaunchCost"]


@dataclass(frozen=True, slots=True)
class LaunchCost:
    """Cycles of the chip that the host takes for a launch, and that lie between two programs of one launch.

    A launch that is shorter than the host needs for the next one is as long as that; behind the last one nothing waits.
    """

    host: float
    between: float

    @staticmethod
    def of(chip: NpuConfig, *, linked: bool) -> LaunchCost:
        """Of a chip; `linked` programs are one launch, with a barrier of all cores between them."""
        if linked:
            return LaunchCost(0.0, float(chip.core.sync.launch_cycles))
        return LaunchCost(float(chip.us_to_cycles(chip.host.launch_us)), 0.0)

    def __call__(self, cycles: Sequence[float]) -> float:
        """Cycles from the begin of the first program to the end of the last."""
        first = sum([each if each > self.host else self.host for each in cycles[:-1]])
        return first + self.between * max(0, len(cycles) - 1) + (cycles[-1] if cycles else 0.0)

    def repeated(self, cycles: Sequence[float]) -> float:
        """Cycles from call to call where the host issues one behind the other: those of the programs, or of the host."""
        return max(self.host * len(cycles), sum(cycles) + self.between * max(0, len(cycles) - 1))

    def least(self, count: int) -> float:
        """What so many programs take at least, whatever they are."""
        return max(0, count - 1) * max(self.host, self.between)
