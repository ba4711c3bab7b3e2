"""How cores walk the blocks of a relay: a grid over runs of blocks, and inside it a loop over the blocks of a run.

A run goes along the rows where a matrix has several whole blocks of them, and along the last batch dim for what is left of
the rows, or all of them. So there are two grids. In a run the parts of a relay work on neighbouring blocks at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.group_signals import HALF
from npuvm.compiler.emit.handles import Loop
from npuvm.compiler.emit.walk import Axis, GridWalk

__all__ = ["GROUP", "PART", "Part", "Place", "Run", "in_slot", "run_grids", "walk_run"]

GROUP = "group"
"""The dim of a grid that walks the core groups: each core stays at its own."""

PART = "part"
"""The dim of the loop over parts of a vector core's rows of a block."""


@dataclass(frozen=True, slots=True)
class Run:
    """Blocks in a row: at most `most`, `tail` in the last run along dim `dim`, of which there are `runs`.

    `rows` are those of a block. The first one begins at block `origin` of the rows.
    """

    dim: str
    runs: int
    most: int
    tail: int
    rows: int
    origin: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the code of a part stands: `walk` and `loops` give the block, `half` the loop that tells the vector cores apart."""

    walk: GridWalk
    loops: tuple[Loop, ...]
    half: Loop | None

    def inside(self, axis: Axis, loop: Loop) -> Place:
        """The place within a further loop."""
        return Place(GridWalk((*self.walk.axes, axis), self.walk.origin), (*self.loops, loop), self.half)


Part = Callable[[Place, Run], None]
"""Writes the code of a part of a relay for one block."""


def in_slot(walk: GridWalk) -> GridWalk:
    """The walk as what is in a slot sees it: its blocks of rows are those of the groups."""
    kept = {"n", HALF, PART}
    axes = tuple(
        replace(each, dim="m" if each.dim == GROUP else each.dim if each.dim in kept else "none") for each in walk.axes
    )
    return GridWalk(axes, {dim: at for dim, at in walk.origin.items() if dim in kept})


def run_grids(batch: Sequence[int], groups: int, cores: int, rows: Run, rest: Run) -> list[tuple[Run, GridWalk]]:
    """The grids of both sorts of runs, for `cores` vector cores that are not in one core with the cube."""
    own = [Axis(GROUP, groups), *([Axis(HALF, cores)] if cores > 1 else [])]
    dims = [Axis(f"b{at}", size) for at, size in enumerate(batch)]
    along = [Axis(rest.dim, rest.runs, rest.most)]
    return [
        (rows, GridWalk((*own, *dims, Axis("m", rows.runs, rows.most)), {})),
        (rest, GridWalk((*own, *dims[:-1], *along), {"m": rest.origin})),
    ]


def walk_run(b: InstrBuilder, run: Run, walk: GridWalk, early: Sequence[Part], late: Sequence[Part]) -> None:
    """The code of a grid: the parts `early`, and one block behind them the parts `late`."""
    with b.grid([axis.trip for axis in walk.axes]) as loops:
        half = next((loop for loop, axis in zip(loops, walk.axes, strict=True) if axis.dim == HALF), None)
        at = Place(walk, loops, half)
        blocks = b.size_tail(loops[-1], run.most, run.tail)
        if late:
            for part in early:
                part(at, run)
        with b.loop(blocks) as loop:
            here = at.inside(Axis(run.dim, run.most), loop)
            if not late:
                for part in early:
                    part(here, run)
                return
            origin = {**walk.origin, run.dim: walk.origin.get(run.dim, 0) + 1}
            ahead = replace(here, walk=GridWalk(here.walk.axes, origin))
            with b.loop(b.size_tail(loop, 1, 0)):
                for part in early:
                    part(ahead, run)
            for part in late:
                part(here, run)
