"""Tile registers of a vector segment, and the instructions of one tile on them, before any tile size is known."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "ALWAYS",
    "COLUMN",
    "FULL",
    "ONCE",
    "ROW",
    "Numbered",
    "Reg",
    "Shape",
    "Use",
    "VecInsn",
    "VecProgram",
    "When",
]

Shape = tuple[bool, bool]
"""Whether a tile has rows and cols: full (True, True), row (False, True), column (True, False), element (False, False)."""

FULL: Shape = (True, True)
ROW: Shape = (False, True)
COLUMN: Shape = (True, False)


@dataclass(frozen=True, slots=True)
class When:
    """When an instruction runs.

    always; at the first, the last, not the first, or not the last iteration of the loops over `dims`; or when one of them
    changed (with no dims: once on each core).
    """

    kind: str = "always"
    dims: tuple[int, ...] = ()


ALWAYS = When()
ONCE = When("changed")


@dataclass(slots=True, eq=False)
class Reg:
    """A tile register.

    `kind`: "in" is filled by loads, "out" is emptied by stores, "temp" lives within a tile, "keep" for the whole program.
    An "in" with `writes` is stored as it came, without the vector unit. `when` says in which tiles an "out" is written.
    """

    name: str
    kind: str
    shape: Shape
    dtype: str
    read: int | None = None
    writes: list[int] = field(default_factory=list)
    when: When = ALWAYS

    def __repr__(self) -> str:
        return f"{self.name}:{self.dtype}"


@dataclass(frozen=True, slots=True)
class Use:
    """A register as an operand: `plain` in its own shape, `spread` (every row the same), `column` ([rows, 1]), or `last_row`,
    that of a whole tile.
    """

    reg: Reg
    how: str = "plain"


@dataclass(frozen=True, slots=True)
class Numbered:
    """Operands of an instruction that numbers places: `start` is the size that the first one of the tile is, counted from 1,
    along `dim` of the space (None: there is only one); `step` is an operand and its bits.
    """

    start: str
    dim: int | None
    step: tuple[str, int]


@dataclass(frozen=True, slots=True)
class VecInsn:
    """A vector instruction over a tile of `shape`; `sources` by operand name.

    `imm` is the operand that holds a number, and its bits. `over` says which size counts: "tile" the size of this tile, "full"
    that of the largest, "total" this tile's where dims stay and the largest tile's where they are reduced.
    """

    op: str
    dtype: str
    shape: Shape
    dst: Use
    sources: tuple[tuple[str, Use], ...] = ()
    dtype2: str | None = None
    imm: tuple[str, int] | None = None
    when: When = ALWAYS
    over: str = "tile"
    text: str | None = None
    numbered: Numbered | None = None


@dataclass(frozen=True, slots=True)
class VecProgram:
    """The instructions of one tile, and all registers."""

    insns: tuple[VecInsn, ...]
    regs: tuple[Reg, ...]
