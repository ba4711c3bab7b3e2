"""What a launch did, kept for the hazard checker: the regions that each core dispatched, and when its instructions ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from npuvm.hw.expansion.stream import Region, Regions

if TYPE_CHECKING:
    from npuvm.hw.engine.clock import Clock

__all__ = ["CoreRecord", "Times"]


@dataclass(slots=True)
class Times:
    """Starts and completions of one unit's instructions, in its order."""

    name: str
    starts: list[int] = field(default_factory=list)
    completions: list[int] = field(default_factory=list)


class CoreRecord:
    """One core of a launch. `steps` are its regions with the cycle in which the sequencer was done with each.

    `units` gives the times of a unit by its code. `steps` may end early, when the launch did.
    """

    def __init__(self, core: int, group: int, units: Mapping[int, str]) -> None:
        self.core = core
        self.group = group
        self.units = {code: Times(name) for code, name in units.items()}
        self.steps: list[tuple[Region, int]] = []

    def follow(self, regions: Regions, clock: Clock) -> Regions:
        """The same regions, noted on their way to the sequencer."""
        value: int | None = None
        while True:
            try:
                region = regions.send(value) if value is not None else next(regions)
            except StopIteration:
                return
            self.steps.append((region, clock.now))
            value = yield region
            self.steps[-1] = (region, clock.now)
