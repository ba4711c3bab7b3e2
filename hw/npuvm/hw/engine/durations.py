"""Replaces what units take by given durations, so that a sequencer can be compared with another implementation of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.expansion.stream import Regions, Stream

__all__ = ["Durations", "with_durations"]

Durations: TypeAlias = Callable[[int, Stream], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Core and stream -> occupancy, at least 1, and latency of each of its instructions, in cycles."""


def with_durations(regions: Regions, core: int, durations: Durations) -> Regions:
    """The regions of a core with these durations; transfers take them too and ask nothing of the memory system."""
    value: int | None = None
    while True:
        try:
            region = regions.send(value) if value is not None else next(regions)
        except StopIteration:
            return
        if isinstance(region, Stream):
            occupancy, latency = durations(core, region)
            none = np.zeros_like(region.gm_rows)
            region = replace(region, occupancy=occupancy, latency=latency, gm_rows=none, bank=none)
        value = yield region
