"""Where data lies: global memory, and the on-chip buffers of one core."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.config.model import NpuConfig
from npuvm.hw.errors import DeviceError

__all__ = ["CoreState", "GlobalMemory", "Windows"]

Bytes: TypeAlias = NDArray[np.uint8]

UNDEFINED = 0xFF
"""Every byte of an on-chip buffer at launch: NaN in all float types, so that a read before any write shows."""

_FIRST_BYTES = 1 << 20


class GlobalMemory:
    """Device memory of `capacity_bytes`, addressed from 0; host memory is taken as far as it is used."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.bytes: Bytes = np.zeros(min(_FIRST_BYTES, capacity_bytes), dtype=np.uint8)

    def reserve(self, end: int) -> None:
        """Make bytes 0 to `end` (exclusive) exist; DeviceError past the capacity."""
        if end > self.capacity_bytes:
            raise DeviceError(f"address {end - 1:#x} is past the {self.capacity_bytes} bytes of global memory")
        have = len(self.bytes)
        if end > have:
            grown = np.zeros(min(max(end, 2 * have), self.capacity_bytes), dtype=np.uint8)
            grown[:have] = self.bytes
            self.bytes = grown

    def write(self, address: int, values: NDArray[Any]) -> None:
        """Copy an array to consecutive bytes from `address`."""
        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.reserve(address + len(raw))
        self.bytes[address : address + len(raw)] = raw

    def read(self, address: int, nbytes: int) -> Bytes:
        """A copy of `nbytes` bytes from `address`."""
        self.reserve(address + nbytes)
        return self.bytes[address : address + nbytes].copy()


class Windows:
    """The parts of global memory that a launch may touch, as (base, bytes); those that share bytes are one."""

    def __init__(self, windows: Sequence[tuple[int, int]]) -> None:
        spans: list[tuple[int, int]] = []
        for base, size in sorted(windows):
            if spans and base < spans[-1][1]:
                spans[-1] = spans[-1][0], max(spans[-1][1], base + size)
            else:
                spans.append((base, base + size))
        self._spans = spans
        self._bases = [base for base, _ in self._spans]

    @property
    def end(self) -> int:
        """First address past all windows."""
        return max((stop for _, stop in self._spans), default=0)

    def allows(self, low: int, high: int) -> bool:
        """Whether bytes low to high (exclusive) lie in one window."""
        at = bisect_right(self._bases, low) - 1
        return at >= 0 and high <= self._spans[at][1]

    def __str__(self) -> str:
        return ", ".join(f"{base:#x} to {stop:#x}" for base, stop in self._spans) or "none"


class CoreState:
    """The on-chip buffers of one core, made when first touched. `tiles` keeps views that were checked once."""

    def __init__(self, chip: NpuConfig) -> None:
        self._chip = chip
        self._buffers: dict[str, Bytes] = {}
        self.tiles: dict[tuple[Any, ...], Any] = {}

    def buffer(self, space: str) -> Bytes:
        """The bytes of a space of this core: ub, l1, l0a, l0b or l0c."""
        found = self._buffers.get(space)
        if found is None:
            size = self._chip.capacity_bytes(space)
            found = self._buffers[space] = np.full(size, UNDEFINED, dtype=np.uint8)
        return found
