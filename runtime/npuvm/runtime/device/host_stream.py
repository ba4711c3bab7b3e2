"""When launches of one stream start on the device: host dispatch runs ahead, the device runs in order."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HostStream", "LaunchTimes"]


@dataclass(frozen=True, slots=True)
class LaunchTimes:
    """One launch on the simulated clock, in microseconds since the stream began.

    `issued_us`: the host has written the launch. `start_us`: the first core starts. `end_us`: the last core has ended.
    `host_bound`: the device was idle and waited for the host.
    """

    issued_us: float
    start_us: float
    end_us: float
    host_bound: bool


class HostStream:
    """Simulated time of a stream (docs/timing-model.md, host).

    The host spends `launch_us` per launch, one after another. A launch starts `start_latency_us` after the host has
    issued it, or when the launch before has ended, whichever is later. This is simulated host time: the time that the
    compiler really takes on this machine is reported apart.
    """

    def __init__(self, launch_us: float, start_latency_us: float) -> None:
        self._launch_us = launch_us
        self._start_latency_us = start_latency_us
        self._host_us = 0.0
        self._device_us = 0.0

    @property
    def end_us(self) -> float:
        """When the last launch so far has ended."""
        return self._device_us

    def launch(self, duration_us: float) -> LaunchTimes:
        """Append a launch that keeps the device busy for `duration_us`."""
        self._host_us += self._launch_us
        arrived = self._host_us + self._start_latency_us
        start = max(arrived, self._device_us)
        host_bound = arrived > self._device_us
        self._device_us = start + duration_us
        return LaunchTimes(self._host_us, start, self._device_us, host_bound)

    def synchronise(self) -> float:
        """The host waits for the device; later launches are issued after that. Returns the time in microseconds."""
        self._host_us = max(self._host_us, self._device_us)
        return self._host_us
