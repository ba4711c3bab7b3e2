"""What a transfer between host and chip takes (docs/timing-model.md, host)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

from npuvm.hw.config import NpuConfig

__all__ = ["Direction", "HostLink"]

Direction: TypeAlias = Literal["to_device", "to_host"]

_BYTES_PER_US = 1000
"""Of one GB/s."""


@dataclass(frozen=True, slots=True)
class HostLink:
    """The way between the memories of host and chip; rates are exact, in bytes a microsecond.

    `shared`: there is one memory, in which a transfer is a copy that wants all of its rate. Otherwise each direction serves one
    transfer at a time, beside the other direction.
    """

    to_device: Fraction
    to_host: Fraction
    latency_us: Fraction
    shared: bool = False

    @staticmethod
    def of(chip: NpuConfig) -> HostLink:
        """The link of a chip; without one, copies that read and write the memory, each at half its rate."""
        memory = chip.memory.hbm.bandwidth_gbps * _BYTES_PER_US
        link = chip.host.link
        if link is None:
            return HostLink(memory / 2, memory / 2, Fraction(0), shared=True)
        to_device, to_host = link.to_device_gbps * _BYTES_PER_US, link.to_host_gbps * _BYTES_PER_US
        return HostLink(min(to_device, memory), min(to_host, memory), link.latency_us)

    def occupied_us(self, direction: Direction, nbytes: int) -> Fraction:
        """How long the bytes of a transfer occupy their direction."""
        return nbytes / (self.to_device if direction == "to_device" else self.to_host)

    def transfer_us(self, direction: Direction, nbytes: int) -> Fraction:
        """From the call of a transfer to its last byte, when nothing else is on the link; 0 for no bytes."""
        if not nbytes:
            return Fraction(0)
        return self.latency_us + self.occupied_us(direction, nbytes)
