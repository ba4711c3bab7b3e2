"""The timing contract as pure functions: what each unit charges for an instruction. docs/timing-model.md gives the formulas.

Every function works on int64 arrays (or integers) element by element and is exact: rates that are no whole numbers are
rationals, and the only rounding is the `ceil` of the formula. Memory transfers are not priced here, they are events of
the memory system; a DMA instruction is charged its issue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.config.vector_class import class_of
from npuvm.hw.errors import SimulationError

if TYPE_CHECKING:
    from npuvm.hw.config.model import NpuConfig, VectorConfig
    from npuvm.isa.model import Instruction, Isa

__all__ = [
    "SequencerCosts",
    "VectorCost",
    "ceil_div",
    "cube_blocks",
    "cube_occupancy",
    "rate_of",
    "transfer_occupancy",
    "vector_cost",
    "vector_occupancy",
    "vector_repeats",
]

Ints: TypeAlias = NDArray[np.int64]


def ceil_div(value: Any, by: Any) -> Any:
    """value / by rounded up, exact."""
    return -(-value // by)


@dataclass(frozen=True, slots=True)
class VectorCost:
    """Cost of one vector instruction: (repeats * repeat_num + rows * row_num) / den cycles after the startup."""

    startup: int
    repeat_num: int
    row_num: int
    den: int
    latency: int

    @staticmethod
    def of(startup: int, per_repeat: Fraction, per_row: Fraction, latency: int) -> VectorCost:
        """The same with rational slopes brought to one denominator."""
        den = lcm(per_repeat.denominator, per_row.denominator)
        return VectorCost(startup, int(per_repeat * den), int(per_row * den), den, latency)


def vector_cost(vector: VectorConfig, isa: Isa, instruction: Instruction) -> VectorCost:
    """Cost of a vector instruction by its timing class.

    Without a class it is made of the primitives of its semantics: their slopes add up, startup and latency are the largest.
    ConfigError when the chip does not price a class.
    """
    found = class_of(vector, isa, instruction)
    return VectorCost.of(found.startup_cycles, found.cycles_per_repeat, found.row_cycles, found.latency_cycles)


def vector_repeats(rows: Ints, cols: Ints, itemsize: Any, repeat_bytes: int, dense: Any) -> Ints:
    """Repeats of a tile of rows x cols elements of `itemsize` bytes.

    A row takes whole repeats of `repeat_bytes`; where `dense` holds, the tile is one run of bytes and only its end is cut.
    """
    row_bytes = cols * itemsize
    by_row = rows * ceil_div(row_bytes, repeat_bytes)
    repeats: Ints = np.where(dense, ceil_div(rows * row_bytes, repeat_bytes), by_row)
    return repeats


def vector_occupancy(repeats: Ints, rows: Ints, startup: Any, repeat_num: Any, row_num: Any, den: Any) -> Ints:
    """startup + ceil(repeats * cycles_per_repeat + rows * row_cycles); the startup alone for an empty tile.

    The arguments after `rows` are those of `VectorCost`, one for all or one for each instruction.
    """
    work = repeats * repeat_num + np.where(repeats > 0, rows, 0) * row_num
    occupancy: Ints = startup + ceil_div(work, den)
    return occupancy


def cube_blocks(m: Ints, n: Ints, k: Ints, itemsize: Any, block: tuple[int, int, int]) -> Ints:
    """Blocks of an m x k by k x n product; `block` is (m, n, k_bytes) of the cube."""
    blocks: Ints = ceil_div(m, block[0]) * ceil_div(n, block[1]) * ceil_div(k * itemsize, block[2])
    return blocks


def cube_occupancy(blocks: Ints, startup: Any, cycles_per_block: Any) -> Ints:
    """startup + blocks * cycles_per_block."""
    occupancy: Ints = startup + blocks * cycles_per_block
    return occupancy


def transfer_occupancy(rows: Ints, cols: Ints, itemsize: Any, rate: Any, row_cycles: Any, startup: Any) -> Ints:
    """startup + ceil(bytes / rate) + rows * row_cycles of an on-chip transfer; the startup alone for an empty tile."""
    size = rows * cols * itemsize
    occupancy: Ints = startup + ceil_div(size, rate) + np.where(size > 0, rows, 0) * row_cycles
    return occupancy


@dataclass(frozen=True, slots=True)
class SequencerCosts:
    """Cycles of the sequencer; see docs/timing-model.md, "Sequencer"."""

    word: int
    dispatch: int
    branch: int
    scalar: int
    start: int

    @staticmethod
    def of(chip: NpuConfig) -> SequencerCosts:
        """From the chip's `core.sequencer`."""
        s = chip.core.sequencer
        return SequencerCosts(
            s.decode_cycles_per_word, s.dispatch_cycles, s.loop_cycles, s.scalar_cycles, s.start_cycles
        )


def rate_of(rates: Mapping[str, int], space: str, label: str) -> int:
    """Bytes per cycle of a path into `space`; SimulationError when the chip has no such path (rate 0)."""
    rate = rates.get(space, 0)
    if rate == 0:
        paths = ", ".join(name for name, value in rates.items() if value) or "none"
        raise SimulationError(f"{label}: the chip has no path to {space}; it has one to {paths}")
    return rate
