"""Launches that are the same as one before, so that their time is known without simulating them again."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import TypeAlias

from npuvm.hw.config import NpuConfig
from npuvm.hw.results.stats import RunResult
from npuvm.isa import Image

__all__ = ["ColdLaunches", "address_period"]

_Key: TypeAlias = tuple[int, tuple[int, ...]]


def address_period(chip: NpuConfig) -> int | None:
    """Bytes by which all addresses of a launch may move without a change of its time; None when only 0 may.

    After that distance slices of L2, channels and banks of HBM come in the same order again. Hashed addresses never do.
    """
    l2, hbm = chip.memory.l2, chip.memory.hbm
    if chip.memory.address_hash:
        return None
    rows = hbm.row_bytes * hbm.channels * hbm.banks
    return lcm(l2.line_bytes * l2.slices, hbm.interleave_bytes * hbm.channels, rows or 1)


class ColdLaunches:
    """Results of launches that began with an empty L2, time only.

    Two are the same when they run the same image on addresses that are equal but for a common distance that maps alike
    (`address_period`): nothing else enters their time.
    """

    def __init__(self, chip: NpuConfig) -> None:
        self._period = address_period(chip)
        # The images are kept, so that an id stays that of one.
        self._results: dict[_Key, tuple[Image, RunResult]] = {}

    def find(self, image: Image, addresses: Sequence[int]) -> RunResult | None:
        """The result of the same launch before, None when there was none."""
        found = self._results.get(self._key(image, addresses))
        return None if found is None else found[1]

    def keep(self, image: Image, addresses: Sequence[int], result: RunResult) -> None:
        """Note the result of a launch."""
        self._results[self._key(image, addresses)] = (image, result)

    def _key(self, image: Image, addresses: Sequence[int]) -> _Key:
        moved = 0
        if self._period is not None and addresses:
            lowest = min(addresses)
            moved = lowest - lowest % self._period
        return id(image), tuple(address - moved for address in addresses)
