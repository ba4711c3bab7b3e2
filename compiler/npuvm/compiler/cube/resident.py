"""The same chip with all operands at hand: what is left of a product's time there is the work of moves and the cube.

What the level of L0 takes is measured on it, and formulas are held against that on it too.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

from npuvm.hw.config import NpuConfig

__all__ = ["resident_chip"]

_RATE = 1 << 16
"""The most that configs of chips allow."""

_BANDWIDTH = 10**6
_CLOCK = Fraction(1, 100)
"""Bandwidths are by the second and latencies by the cycle, so that a slow clock makes memory fast."""

_AT_ONCE: dict[str, dict[str, Any]] = {
    "load": {
        "startup_cycles": 0,
        "row_cycles": 0,
        "l1_startup_cycles": 0,
        "l1_row_cycles": 0,
        "ub_bytes_per_cycle": _RATE,
        "l1_bytes_per_cycle": _RATE,
        "chunk_bytes": _RATE,
        "min_burst_bytes": 1,
    },
    "store": {
        "startup_cycles": 0,
        "row_cycles": 0,
        "bytes_per_cycle": _RATE,
        "chunk_bytes": _RATE,
        "min_burst_bytes": 1,
    },
    "fixpipe": {
        "startup_cycles": 0,
        "latency_cycles": 0,
        "gm_bytes_per_cycle": _RATE,
        "ub_bytes_per_cycle": _RATE,
    },
}
"""Numbers of the units of a core between main memory and L1."""

_NO_WAY: dict[str, dict[str, Any]] = {
    "l2": {"latency_cycles": 0, "bandwidth_gbps": _BANDWIDTH, "access_bytes": 1, "same_line_cycles": 0},
    "hbm": {"latency_cycles": 0, "bandwidth_gbps": _BANDWIDTH, "row_miss_cycles": 0, "same_line_cycles": 0},
}
"""Numbers of the memory."""


@lru_cache(maxsize=16)
def resident_chip(chip: NpuConfig) -> NpuConfig:
    """The chip with loads and results that take next to nothing."""
    fields = chip.model_dump()
    for part, given in ((fields["core"], _AT_ONCE), (fields["memory"], _NO_WAY)):
        for name, numbers in given.items():
            # What a chip does not have it does not get.
            part[name].update({key: value for key, value in numbers.items() if part[name].get(key) not in (None, 0)})
    return NpuConfig.model_validate({**fields, "clock_ghz": _CLOCK})
