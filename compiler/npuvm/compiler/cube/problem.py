"""What the choice of a product's tile depends on: its sort, and what changes from shape to shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from npuvm.compiler.cube.spec import Side
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins, most_slots, pin_error
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa
from npuvm.isa.records import quick_record

__all__ = ["RINGS", "CubeTile", "ProductSizes", "Tail", "TileProblem", "cycles_per_mac"]

RINGS = {"l1.a": 2, "l1.b": 2, "l1.bias": 2, "l0a": 2, "l0b": 2, "l0c": 2, "ub.c": 2}
"""Rings and how many slots they have at most when none are pinned; `l0c` falls back to 1 where 2 do not fit."""


@dataclass(frozen=True, slots=True)
class TileProblem:
    """What the choice depends on besides the sizes: the chip, types, layouts and pins."""

    isa: Isa
    chip: NpuConfig
    dtype: str
    out_item: int
    bias_item: int
    a: Side
    b: Side
    via_ub: bool
    pins: Pins

    @property
    def item(self) -> int:
        """Bytes of an element of the two operands."""
        return self.isa.dtypes[self.dtype].itemsize

    @property
    def acc_item(self) -> int:
        """Bytes of an accumulator in L0C. Raises CompileError for a dtype that the cube does not take."""
        acc = self.isa.dtypes[self.dtype].acc
        if acc is None:
            raise CompileError(f"{self.dtype} has no accumulator in {self.isa.name}")
        return self.isa.dtypes[acc].itemsize

    def depth(self, ring: str) -> int:
        """Slots of a ring: pinned, or the default under the pinned buffering."""
        if ring in ("l1.a", "l1.b") and self.pins.l1_depth is not None:
            given = self.pins.ring_depth.get(ring)
            if given not in (None, self.pins.l1_depth):
                pin_error(f"ring_depth.{ring}", given, f"{self.pins.l1_depth}, which pin l1_depth gives")
            return self.pins.l1_depth
        found = self.pins.ring_depth.get(ring)
        return most_slots(self.pins.buffering, RINGS[ring]) if found is None else found


class ProductSizes(NamedTuple):
    """What changes from shape to shape: m, n, k, the number of matrices, and bytes between rows in memory of both operands."""

    m: int
    n: int
    k: int
    batch: int
    a_pitch: int
    b_pitch: int


@quick_record
@dataclass(frozen=True, slots=True)
class CubeTile:
    """The chosen tile (m, n, k) at L1 and at L0, slots of the accumulator ring, and the estimated cycles."""

    l1: tuple[int, int, int]
    l0: tuple[int, int, int]
    l0c_depth: int
    cycles: int


class Tail(NamedTuple):
    """A product in two parts: what tiles of `main` compute, and behind it rows or columns that have tiles of their own.

    `main` is a tile for the first `rows` x `cols` of the result, `rest` one for `rest_rows` x `rest_cols` behind these, no
    larger and with the same k. `cycles` are estimated for both.
    """

    main: CubeTile
    rows: int
    cols: int
    rest: CubeTile
    rest_rows: int
    rest_cols: int
    cycles: int


def cycles_per_mac(problem: TileProblem) -> float:
    """Cycles that a core's cube takes for each multiplication and addition of a product, where all of its block is used."""
    cube = problem.chip.core.cube
    return float(cube.cycles_per_block[problem.dtype]) / (cube.m * cube.n * (cube.k_bytes // problem.item))
