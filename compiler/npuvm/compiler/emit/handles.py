"""Handles that the instruction builder gives out: loops, sizes, descriptors, semaphores, buffers.

A handle prints as the assembler writes it (`l0`, `s3`, `d7`, `m2`), so that raw assembly text can name it in an f-string.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from npuvm.isa import Pred

__all__ = [
    "Arg", "Buffer", "Desc", "Loop", "Sem", "Size", "Window",
    "changed", "changes", "first", "last", "not_first", "not_last",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop counter. `grid` loops are walked by the odometer; the others are opened by `loop`."""

    id: int
    grid: bool = False

    def __str__(self) -> str:
        return f"l{self.id}"


@dataclass(frozen=True, slots=True)
class Size:
    """An entry of the size table of program phase `phase`; `full` is its largest value."""

    id: int
    phase: int
    full: int

    def __str__(self) -> str:
        return f"s{self.id}"


@dataclass(frozen=True, slots=True)
class Sem:
    """A counted semaphore."""

    id: int
    name: str

    def __str__(self) -> str:
        return f"m{self.id}"


@dataclass(frozen=True, slots=True)
class Desc:
    """An address descriptor of program phase `phase`."""

    id: int
    phase: int

    def __str__(self) -> str:
        return f"d{self.id}"


@dataclass(frozen=True, slots=True)
class Arg:
    """A global-memory argument of the kernel, by its place in the list of addresses a launch gives."""

    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """On-chip memory: `slots` slots of `slot_bytes` each; a ring when it has semaphores, else a plain buffer.

    `address` is pinned when not None. `overlap` allows it to share bytes with other buffers. `ready` is set by the
    `producer` unit and waited for by the `consumer` unit, `free` the other way round.
    """

    name: str
    space: str
    slot_bytes: int
    slots: int
    phase: int
    address: int | None
    align: int
    overlap: bool
    ring: int | None = None
    ready: Sem | None = None
    free: Sem | None = None
    producer: str = ""
    consumer: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return self.slot_bytes * self.slots


@dataclass(frozen=True, slots=True)
class Window:
    """Extents of a global-memory tensor, in elements, and where a tile lies in it.

    The tile's origin is (row0 + row_step * row_loop, col0 + col_step * col_loop). What lies outside [0, rows) x [0, cols) is
    read as the pad value and not written.
    """

    rows: int
    cols: int
    row0: int = 0
    col0: int = 0
    row_loop: Loop | None = None
    row_step: int = 0
    col_loop: Loop | None = None
    col_step: int = 0

    def args(self) -> Mapping[str, int]:
        """Operands of the `dwin` instruction."""
        return {
            "rows": self.rows,
            "cols": self.cols,
            "row0": self.row0,
            "col0": self.col0,
            "row_step": self.row_step,
            "col_step": self.col_step,
            "row_loop": self.row_loop.id if self.row_loop else 0,
            "col_loop": self.col_loop.id if self.col_loop else 0,
        }


def _mask(loops: tuple[Loop, ...]) -> int:
    result = 0
    for loop in loops:
        result |= 1 << loop.id
    return result


def first(*loops: Loop) -> Pred:
    """On when all the loops are at their first iteration."""
    return Pred("first", _mask(loops))


def last(*loops: Loop) -> Pred:
    """On when all the loops are at their last iteration."""
    return Pred("last", _mask(loops))


def not_first(*loops: Loop) -> Pred:
    """On unless all the loops are at their first iteration."""
    return Pred("not_first", _mask(loops))


def not_last(*loops: Loop) -> Pred:
    """On unless all the loops are at their last iteration."""
    return Pred("not_last", _mask(loops))


def changed(*loops: Loop) -> Pred:
    """On for a core's first tile of a grid, and when one of the grid loops differs from the tile before."""
    return Pred("changed", _mask(loops))


def changes(*loops: Loop) -> Pred:
    """On for a core's last tile of a grid, and when one of the grid loops differs in the tile after."""
    return Pred("changes", _mask(loops))
