"""Sizes of the attention kernel, where its exchange buffers lie, and which semaphores its cores signal each other with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Loop, Sem

__all__ = ["ARGUMENTS", "BLOCK", "TILE", "AttentionShape", "Round", "Signals", "Spot"]

BLOCK = 128
"""Queries of one block, which a group computes; also the keys of one product on the cube."""

TILE = 256
"""Keys between two exchanges of the cube core with the vector cores."""

AHEAD = 4
"""Tiles of scores that are under way before the first product with V."""

ARGUMENTS = ("q", "k", "v", "scores", "weights", "partial", "out")
"""Tensors of the launch. The middle three are exchange buffers: fp32 scores, fp16 weights, fp32 partial results."""


@dataclass(frozen=True, slots=True)
class Round:
    """Blocks from `first` on: group g of `groups` has those `first` + g, `first` + g + `groups`, ..., `waves` in all."""

    groups: int
    waves: int
    first: int


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """`queries` x `keys` with heads of `depth`, for `groups` groups of one cube core and two vector cores."""

    queries: int
    keys: int
    depth: int
    groups: int

    def __post_init__(self) -> None:
        tiles = self.keys // TILE
        if self.queries % BLOCK or self.keys % TILE or not (tiles in range(1, AHEAD + 1) or tiles % (2 * AHEAD) == 0):
            raise ValueError(
                f"{self.queries} queries and {self.keys} keys; allowed: queries a multiple of {BLOCK}, keys 1 to {AHEAD} "
                f"times {TILE} or a multiple of {2 * AHEAD * TILE}"
            )
        if self.depth != BLOCK:
            raise ValueError(f"heads of {self.depth}; allowed: {BLOCK}")

    @property
    def tiles(self) -> int:
        """Tiles of keys."""
        return self.keys // TILE

    @property
    def ahead(self) -> int:
        """Tiles of scores that are computed before the first partial result."""
        return min(self.tiles, AHEAD)

    @property
    def slots(self) -> int:
        """Slots of each exchange buffer of a group."""
        return min(self.tiles, 2 * AHEAD)

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Blocks that all groups have, then those that are left over."""
        waves, rest = divmod(self.queries // BLOCK, self.groups)
        rounds = (Round(self.groups, waves, 0), Round(rest, 1, waves * self.groups))
        return tuple(each for each in rounds if each.groups and each.waves)

    def ranges(self) -> list[list[tuple[int, int]]]:
        """Of every group, its part of each round."""
        return [
            [(group * each.waves, (group + 1) * each.waves) if group < each.groups else (0, 0) for each in self.rounds]
            for group in range(self.groups)
        ]

    def bytes_of(self, argument: str) -> int:
        """Bytes of a tensor of the launch."""
        exchange = self.groups * self.slots * BLOCK
        return {
            "q": self.queries * self.depth * 2,
            "k": self.keys * self.depth * 2,
            "v": self.keys * self.depth * 2,
            "scores": exchange * TILE * 4,
            "weights": exchange * TILE * 2,
            "partial": exchange * self.depth * 4,
            "out": self.queries * self.depth * 4,
        }[argument]


@dataclass(frozen=True, slots=True)
class Spot:
    """A tile or a slot: a fixed one plus what loops add, each loop so many with every iteration."""

    at: int = 0
    steps: Mapping[Loop, int] = field(default_factory=dict)

    def strides(self, nbytes: int) -> dict[Loop, int]:
        """Bytes that the loops move an address by."""
        return {loop: step * nbytes for loop, step in self.steps.items()}


@dataclass(frozen=True, slots=True)
class Signals:
    """Semaphores of a group: of each exchange buffer and vector core, slots filled (`ready`) and emptied (`free`)."""

    ready: Mapping[str, tuple[Sem, Sem]]
    free: Mapping[str, tuple[Sem, Sem]]

    @staticmethod
    def declare(b: InstrBuilder, slots: int) -> Signals:
        """Set up all of them; one core of a group does, before a barrier of the group."""
        names = ARGUMENTS[3:6]
        ready = {n: (b.semaphore(f"{n}0", 0, "group"), b.semaphore(f"{n}1", 0, "group")) for n in names}
        free = {
            n: (b.semaphore(f"{n}0.free", slots, "group"), b.semaphore(f"{n}1.free", slots, "group")) for n in names
        }
        return Signals(ready, free)
