"""Decoded dynamic instructions of one core: what the expansion hands to a timing engine.

A core's program is handed over as a sequence of regions: a `Stream` of instructions to dispatch in order, or one of the small
records that make the sequencer do something itself. A stream is a table of static *sites* (one per instruction of the
program text that the stream may dispatch) and parallel int64 columns, one row per dispatched instruction. The columns are
numpy arrays; `Stream.rows` gives them as Python lists, which an event-driven engine indexes faster.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from npuvm.isa import Insn, Instruction
    from npuvm.isa.control import Scope

__all__ = [
    "MAX_OPERANDS",
    "MAX_SIZES",
    "Barrier",
    "Columns",
    "Dma",
    "Halt",
    "Indexed",
    "OperandSite",
    "Picked",
    "Region",
    "Regions",
    "ScalarLoad",
    "SetSemaphores",
    "Site",
    "Stream",
    "Window",
]

MAX_OPERANDS = 4
"""Most descriptor operands of one instruction; the width of `Stream.addr`."""

MAX_SIZES = 3
"""Most size operands of one instruction; the width of `Stream.size`."""

Column: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Window:
    """Extents of a global-memory tensor in elements; what lies outside reads as pad and is not written."""

    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class OperandSite:
    """The static part of one descriptor operand of a site.

    `shape` gives (rows, cols) as indices into the size columns of the stream, -n for the constant n; an `image` has numbers of
    the instruction. `pitch` is in bytes between rows, 0 for the same row again and again.
    """

    name: str
    desc: int
    space: str
    reads: bool
    writes: bool
    dtype: str
    itemsize: int
    pitch: int
    shape: tuple[int, int]
    window: Window | None = None
    image: bool = False


@dataclass(frozen=True, slots=True)
class Indexed:
    """Rows of a table in global memory by index: the operand with the indices, bytes between rows, and how many there are."""

    operand: int
    stride: int
    count: int


@dataclass(frozen=True, slots=True)
class Dma:
    """How a site talks to global memory: which way, with which operand, and how the tile lies there.

    With `indexed` the tile's rows lie where its indices say, and `pitch` means nothing.
    """

    write: bool
    atomic: bool
    operand: int
    pitch: int
    streaming: bool
    indexed: Indexed | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One instruction of the program text, with everything about it that does not change while a stream runs.

    `unit` is the code of the unit in the ISA; `waits` and `sets` are semaphore ids in the order of the head word. `sync_only`
    marks an instruction that only carries waits and sets (`usync`): it occupies nothing and touches nothing. `dma` is set
    when the instruction moves data to or from global memory. `operands` and `sizes` are in the order of the instruction's
    operands in the ISA, and index the columns of `Stream.addr` and `Stream.size`.
    """

    index: int
    pc: int
    unit: int
    unit_name: str
    insn: Insn
    instruction: Instruction | None
    waits: tuple[int, ...]
    sets: tuple[int, ...]
    order: bool
    sync_only: bool
    operands: tuple[OperandSite, ...]
    sizes: tuple[str, ...]
    dma: Dma | None

    @property
    def label(self) -> str:
        """Name and place for messages: "vadd at word 17"."""
        return f"{self.insn.op} at word {self.pc}"


class Columns(NamedTuple):
    """The columns an event-driven engine reads for every instruction, as lists; see `Stream` for their meaning."""

    site: list[int]
    gap: list[int]
    occupancy: list[int]
    latency: list[int]
    gm_addr: list[int]
    gm_rows: list[int]
    gm_row_bytes: list[int]


@dataclass(frozen=True)
class Picked:
    """Index vectors of a stream's instructions, where only time is simulated: row r has `index[first[r] : first[r + 1]]`."""

    first: Column
    index: Column

    def of(self, row: int) -> Column:
        """The indices of one instruction; none for one that has no index vector or moves nothing."""
        return self.index[int(self.first[row]) : int(self.first[row + 1])]


@dataclass(frozen=True)
class Stream:
    """Instructions that one core dispatches in order, n rows; no control flow is left in them.

    Columns, all int64 with first dimension n:

    * `site`: index into `sites`.
    * `gap`: cycles the sequencer spends between the dispatch of the row before and the dispatch of this row: decoding of this
      instruction and of switched-off ones before it, loop overhead, dispatch.
    * `addr` (n, 4): byte address of each descriptor operand in its space (ring slot, strides, registers applied); for a
      windowed operand the address of the tile's first element, even where that lies outside the window.
    * `size` (n, 3): value of each size operand.
    * `origin` (n, 2): row and column of the tile in the window of the windowed operand; 0 without a window.
    * `occupancy`: cycles the unit is taken; for DMA only the issue, the transfer is the memory system's.
    * `latency`: cycles from the end of the occupancy to completion; for DMA what is added after the last byte.
    * `gm_addr`, `gm_rows`, `gm_row_bytes`: the bytes a DMA really moves: address of the first byte inside the window, number of
      row segments (`Site.dma.pitch` bytes apart) and bytes of each. A tile that lies densely on both sides is one segment.
      Zero rows when nothing is to be moved, and for instructions that are no DMA.
    * `bank`: how many cycles of `occupancy` a vector instruction loses to bank conflicts in UB; 0 for all others.

    Of an instruction with indices `gm_addr` is the address of row 0 of its table. `picked` are the indices without data.
    """

    sites: tuple[Site, ...]
    site: Column
    gap: Column
    addr: Column
    size: Column
    origin: Column
    occupancy: Column
    latency: Column
    gm_addr: Column
    gm_rows: Column
    gm_row_bytes: Column
    bank: Column
    picked: Picked | None = None

    def __len__(self) -> int:
        return len(self.site)

    @cached_property
    def rows(self) -> Columns:
        """The timing columns as Python lists, made once."""
        return Columns(
            self.site.tolist(),
            self.gap.tolist(),
            self.occupancy.tolist(),
            self.latency.tolist(),
            self.gm_addr.tolist(),
            self.gm_rows.tolist(),
            self.gm_row_bytes.tolist(),
        )

    @cached_property
    def addr_rows(self) -> list[list[int]]:
        """`addr` as a list of rows, made once; data and hazard checks read it."""
        result: list[list[int]] = self.addr.tolist()
        return result

    @cached_property
    def size_rows(self) -> list[list[int]]:
        """`size` as a list of rows, made once."""
        result: list[list[int]] = self.size.tolist()
        return result

    @cached_property
    def origin_rows(self) -> list[list[int]]:
        """`origin` as a list of rows, made once."""
        result: list[list[int]] = self.origin.tolist()
        return result


@dataclass(frozen=True, slots=True)
class SetSemaphores:
    """The sequencer sets semaphore counts (`sem` and `ring` instructions); `gap` cycles are spent before they take effect."""

    gap: int
    values: tuple[tuple[int, int], ...]
    pc: int


@dataclass(frozen=True, slots=True)
class Barrier:
    """Drain this core's units, then meet the other cores of the scope; `gap` cycles are spent before the drain begins."""

    gap: int
    scope: Scope
    pc: int


@dataclass(frozen=True, slots=True)
class ScalarLoad:
    """The sequencer reads one int32 of global memory at `addr` and stops until the value is sent into the generator."""

    gap: int
    addr: int
    itemsize: int
    pc: int
    register: int


@dataclass(frozen=True, slots=True)
class Halt:
    """End of the core's program; `gap` cycles are spent before the final drain begins."""

    gap: int
    pc: int


Region: TypeAlias = Stream | SetSemaphores | Barrier | ScalarLoad | Halt

Regions: TypeAlias = Generator[Region, int | None, None]
"""What an expander gives an engine: iterate, and send the loaded value back after a `ScalarLoad`, None after anything else."""
