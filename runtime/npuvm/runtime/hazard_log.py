"""Hazards of a run, collected over its launches."""

from __future__ import annotations

from npuvm.isa import Image

from .device import LaunchRecord

__all__ = ["HazardLog"]


class HazardLog:
    """Observes a device whose hazards are collected: `lines` tells each hazard of a program once, with its kernel."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each hazard, in the order in which they were found."""
        return tuple(self._lines)

    def wants_trace(self, _image: Image) -> bool:
        """Hazards need no trace."""
        return False

    def launched(self, record: LaunchRecord) -> None:
        """Note the hazards of a launch."""
        for hazard in record.result.hazards:
            self._lines[f"kernel {record.kernel}: {hazard}"] = None
