"""Timelines of the launches of a device: one for each program, that of its first launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from npuvm.hw.results.timeline import chrome_trace
from npuvm.isa import Image
from npuvm.runtime.device.device import LaunchRecord

__all__ = ["TimelineRecorder", "TimelineSink"]

TimelineSink: TypeAlias = Callable[[str, dict[str, Any]], None]
"""Takes a timeline: a name that is unique on the device, and the content of its file (`npuvm.hw.results.timeline`)."""


class TimelineRecorder:
    """Observes a device and hands the timelines of programs not seen before to `sink`.

    A later launch of the same program differs by what is in L2 only.
    """

    def __init__(self, sink: TimelineSink) -> None:
        self.sink = sink
        self._seen: dict[int, Image] = {}  # the images are kept, so that an id stays that of one

    def wants_trace(self, image: Image) -> bool:
        """A launch of a program that was not launched before is traced."""
        return id(image) not in self._seen

    def launched(self, record: LaunchRecord) -> None:
        """Write the timeline of a program's first launch."""
        if id(record.image) in self._seen:
            return
        self._seen[id(record.image)] = record.image
        name = f"{len(self._seen):03d}-{record.tag or record.kernel}"
        self.sink(name, chrome_trace(record.chip, record.isa, record.image, record.result))
