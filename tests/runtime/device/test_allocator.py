from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.hw.errors import DeviceError, OutOfMemoryError
from npuvm.runtime.device.allocator import ALIGNMENT_BYTES, Allocator

CAPACITY = 64 * ALIGNMENT_BYTES


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6 * ALIGNMENT_BYTES)), max_size=60))
def test_ranges_never_overlap_and_all_memory_comes_back(steps: list[tuple[bool, int]]) -> None:
    allocator = Allocator(CAPACITY)
    live: dict[int, int] = {}
    for release, nbytes in steps:
        if release and live:
            address = sorted(live)[nbytes % len(live)]
            allocator.free(address)
            del live[address]
            continue
        try:
            address = allocator.allocate(nbytes)
        except DeviceError:
            continue
        assert address % ALIGNMENT_BYTES == 0
        assert address + nbytes <= CAPACITY
        assert all(address + nbytes <= a or a + n <= address for a, n in live.items() if n and nbytes)
        live[address] = nbytes
    for address in live:
        allocator.free(address)
    assert allocator.in_use_bytes == 0
    assert allocator.allocate(CAPACITY - ALIGNMENT_BYTES) == ALIGNMENT_BYTES


def test_exhaustion_says_what_was_wanted_and_what_is_left() -> None:
    allocator = Allocator(CAPACITY)
    with pytest.raises(OutOfMemoryError, match=f"{2 * CAPACITY} bytes wanted, the longest free range has"):
        allocator.allocate(2 * CAPACITY)


def test_double_free_is_refused() -> None:
    allocator = Allocator(CAPACITY)
    address = allocator.allocate(1)
    allocator.free(address)
    with pytest.raises(DeviceError, match="freed twice"):
        allocator.free(address)
