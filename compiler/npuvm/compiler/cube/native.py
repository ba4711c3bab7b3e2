"""The calls of machine code that choose a product's tile (`npuvm.compiler.native.product_kernel` and `met_kernel`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.cube.candidates import Asked, Costed, Interval
from npuvm.compiler.cube.costs import GRID
from npuvm.compiler.cube.problem import ProductSizes
from npuvm.compiler.native.loading import Native

__all__ = ["NativeChoice", "NativeMet"]

Floats = npt.NDArray[np.float64]

_SURE = 1 - 1e-6
"""Bounds are lowered by more than what sums of floats in another order differ by."""


class NativeChoice(NamedTuple):
    """Choices on `cores` cores; `per_core` is one over these, or less by what a quotient may be off.

    Products of up to `one_round` rows have none that are new behind the first round, and of up to `one_round_wide` no columns.
    `memory` are the numbers of `MainMemory`; `room` is written to, a number for each candidate.
    """

    native: Native
    cores: int
    per_core: float
    one_round: int
    one_round_wide: int
    memory: Floats
    room: Floats

    def tile(
        self,
        lines: Floats,
        interval: Interval,
        sizes: ProductSizes,
        end: int,
        bounds: tuple[int, int],
        l0_k: int,
        ended: float,
    ) -> tuple[int, float]:
        """The best of the first `end` candidates with steps over k at L0 of `l0_k`, 0 for any, and its estimate."""
        m, n, k, batch, _, _ = sizes
        served, far = bounds
        found: tuple[int, float] = self.native.choose_product_tile(
            lines,
            interval.sides,
            interval.whole,
            l0_k,
            m,
            n,
            k,
            batch,
            end,
            served,
            far,
            m * batch > self.one_round,
            n * batch > self.one_round_wide,
            self.cores,
            self.per_core,
            self.memory,
            ended,
            # Costs behind the last interval of k may fall below 0.
            _SURE if k <= GRID[-1] else 0.0,
            self.room,
        )
        return found

    def part(
        self, lines: Floats, interval: Interval, sizes: ProductSizes, end: int, served: int, asked: Asked
    ) -> Costed | None:
        """The best of the first `end` candidates of those asked for."""
        found = np.empty(6)
        best = self.native.choose_product_part(
            lines,
            interval.sides,
            interval.whole,
            asked.l0_k,
            asked.most_n,
            asked.by.value,  # other types than those of the kernel are told apart anew in each call
            asked.limit,
            *sizes[:3],
            end,
            served,
            sizes.m > self.one_round,
            sizes.n > self.one_round_wide,
            self.cores,
            self.per_core,
            self.memory,
            found,
        )
        return None if best < 0 else Costed(interval.tiles[best], *found.tolist())


class NativeMet(NamedTuple):
    """Choices on `cores` cores where rows may meet in parts of memory; `numbers` are those of `Shared`."""

    native: Native
    cores: int
    numbers: Floats

    def tile(
        self, lines: Floats, interval: Interval, sizes: ProductSizes, end: int, far: int, l0_k: int
    ) -> tuple[int, float, float]:
        """As `NativeChoice.tile`, and the estimate where L2 has what later tiles read."""
        native, sides, whole = self.native, interval.sides, interval.whole
        found: tuple[int, float, float]
        if self.cores == 1:
            found = native.choose_met_tile_of_one(lines, sides, whole, l0_k, *sizes, end, far, self.numbers)
        else:
            found = native.choose_met_tile(lines, sides, whole, l0_k, *sizes, end, far, self.cores, self.numbers)
        return found
