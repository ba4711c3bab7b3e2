"""Hazards of a run, collected over its launches."""

from __future__ import annotations

from npuvm.hw.hazards import MOST_REPORTED
from npuvm.isa import Image
from npuvm.runtime.device.device import LaunchRecord

__all__ = ["HazardLog"]


class HazardLog:
    """Observes a device whose hazards are collected: `lines` tells each pair of a kernel's instructions once."""

    def __init__(self) -> None:
        self._lines: dict[tuple[object, ...], str] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each hazard, in the order in which they were found."""
        return tuple(self._lines.values())

    def wants_trace(self, _image: Image) -> bool:
        """Hazards need no trace."""
        return False

    def launched(self, record: LaunchRecord) -> None:
        """Note the hazards of a launch."""
        for hazard in record.result.hazards:
            pair = (record.kernel, hazard.kind, hazard.space, hazard.earlier.pc, hazard.later.pc)
            self._lines.setdefault(pair, f"kernel {record.kernel}: {hazard}")
        if len(record.result.hazards) == MOST_REPORTED:
            text = f"{MOST_REPORTED} pairs of a launch are told, and there may be more"
            self._lines.setdefault((record.kernel,), f"kernel {record.kernel}: {text}")
