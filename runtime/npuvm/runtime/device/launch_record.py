"""Launches of a device as its observers see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from npuvm.hw.config import NpuConfig
from npuvm.hw.functional.indices import IndexDistribution, IndexSource
from npuvm.hw.results.stats import RunResult
from npuvm.isa import Image, Isa
from npuvm.runtime.device.host_stream import LaunchTimes

__all__ = ["LaunchObserver", "LaunchRecord", "LaunchTaker"]


@dataclass(frozen=True)
class LaunchRecord:
    """One launch: what ran, what it did in simulated time, and when on the stream.

    `tag` is the caller's. `compile_us` is measured host time, charged to the first launch of a kernel call; `cached` says
    that the program came from the cache. `addresses` and `windows` are those of `npuvm.hw.simulator.simulate`: with `chip`,
    `isa`, `image`, `result.scalar_loads` and `index_source` they are what it takes to simulate the launch again; for what it
    found in L2 also the launches before, `discarded`, the (address, bytes) that the host wrote or freed since the last one, and
    `cold_l2`. `kind` is what ran, vector, cube, mix or stack, and `ktype` the kind that the kernel states; both are empty for
    an image of raw instructions.
    """

    chip: NpuConfig
    isa: Isa

    kernel: str
    image: Image
    tag: str
    result: RunResult
    times: LaunchTimes
    compile_us: float
    cached: bool
    addresses: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]
    discarded: tuple[tuple[int, int], ...]
    cold_l2: bool
    indices: IndexDistribution | None = None
    kind: str = ""
    ktype: str = ""

    @property
    def index_source(self) -> IndexSource | None:
        """Which rows instructions have picked by index: those of the run with data, or the distribution that was declared."""
        return self.result.indices or self.indices


class LaunchObserver(Protocol):
    """Follows the launches of a device."""

    def wants_trace(self, image: Image) -> bool:
        """Whether the result of the launch of an image that is about to run should hold a trace."""

    def launched(self, record: LaunchRecord) -> None:
        """A launch has ended."""


class LaunchTaker(Protocol):
    """Takes the launches of a device, to verify and to simulate them when it likes, or not at all."""

    def take(self, image: Image, addresses: tuple[int, ...], discarded: tuple[tuple[int, int], ...]) -> RunResult:
        """What a launch did, as far as the taker says so; `discarded` is that of `LaunchRecord`."""
