"""Device memory: a first-fit allocator over the address range of global memory."""

from __future__ import annotations

import bisect

from npuvm.hw.errors import DeviceError, OutOfMemoryError

__all__ = ["ALIGNMENT_BYTES", "Allocator"]

ALIGNMENT_BYTES = 512
"""Every allocation starts on a multiple of this, so that no two tensors share a line of the second-level cache."""


class Allocator:
    """Hands out byte ranges of `capacity_bytes` from address `base`; freed ranges merge with their neighbours."""

    def __init__(self, capacity_bytes: int, base: int = ALIGNMENT_BYTES) -> None:
        self.capacity_bytes = capacity_bytes
        self.in_use_bytes = 0
        self.peak_bytes = 0
        self._free: list[tuple[int, int]] = [(base, capacity_bytes)]
        self._used: dict[int, int] = {}

    def allocate(self, nbytes: int) -> int:
        """Address of `nbytes` bytes (at least one alignment unit); OutOfMemoryError when no free range is long enough."""
        wanted = max(ALIGNMENT_BYTES, -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
        for index, (start, stop) in enumerate(self._free):
            if stop - start >= wanted:
                self._free[index : index + 1] = [(start + wanted, stop)] if stop - start > wanted else []
                self._used[start] = wanted
                self.in_use_bytes += wanted
                self.peak_bytes = max(self.peak_bytes, self.in_use_bytes)
                return start
        longest = max((stop - start for start, stop in self._free), default=0)
        raise OutOfMemoryError(
            f"out of device memory: {nbytes} bytes wanted, the longest free range has {longest} of {self.capacity_bytes}"
        )

    def free(self, address: int) -> None:
        """Give back what `allocate` returned; DeviceError when it is not in use (freed twice, or never allocated)."""
        nbytes = self._used.pop(address, None)
        if nbytes is None:
            raise DeviceError(f"address {address:#x} is not allocated: freed twice, or never handed out")
        self.in_use_bytes -= nbytes
        start, stop = address, address + nbytes
        index = bisect.bisect_left(self._free, (start, stop))
        if index < len(self._free) and self._free[index][0] == stop:
            stop = self._free.pop(index)[1]
        if index > 0 and self._free[index - 1][1] == start:
            start = self._free.pop(index - 1)[0]
            index -= 1
        self._free.insert(index, (start, stop))
