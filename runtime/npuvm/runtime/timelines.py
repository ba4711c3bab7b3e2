"""Timelines of the launches of a device: one for each program, that of its first launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from npuvm.hw.timeline import chrome_trace
from npuvm.isa import Image

from .device import Device, LaunchRecord

__all__ = ["TimelineRecorder", "TimelineSink"]

TimelineSink: TypeAlias = Callable[[str, dict[str, Any]], None]
"""Takes a timeline: a name that is unique on the device, and the content of its file (`npuvm.hw.timeline`)."""


class TimelineRecorder:
    """To be called with every launch of `device`; hands the timelines of programs not seen before to `sink`.

    A later launch of the same program differs by what is in L2 only.
    """

    def __init__(self, sink: TimelineSink) -> None:
        self.device: Device | None = None
        self._sink = sink
        self._seen: dict[int, Image] = {}  # the images are kept, so that an id stays that of one

    def __call__(self, record: LaunchRecord) -> None:
        assert self.device is not None, "a launch before the recorder knows its device"
        if id(record.image) in self._seen:
            return
        self._seen[id(record.image)] = record.image
        name = f"{len(self._seen):03d}-{record.tag or record.kernel}"
        self._sink(name, chrome_trace(self.device.chip, self.device.isa, record.image, record.result))
