"""Signals between the cube core and the vector cores of a group, which all run one program for their type."""

from __future__ import annotations

from collections.abc import Sequence

from npuvm.compiler.emit.builder import InstrBuilder
from npuvm.compiler.emit.handles import Loop, Sem, first, last
from npuvm.isa import Pred

__all__ = ["HALF", "MOST_VECTOR_CORES", "signal_group"]

HALF = "half"
"""The dim of a grid that walks the vector cores of a group: each core stays at its own."""

MOST_VECTOR_CORES = 2
"""Vector cores of a group that can be told apart: by the first and the last iteration of the loop over them."""


def signal_group(
    b: InstrBuilder, unit: str, half: Loop | None, wait: Sequence[Sem] = (), give: Sequence[Sem] = ()
) -> None:
    """Wait for and set semaphores of which every vector core has one, by its place in the group.

    `half` is the loop over the vector cores in a program of theirs: each takes its own. None takes all, in that of a core they
    signal to, or where there is one.
    """
    if half is None:
        b.sync(unit, wait=wait, set=give)
        return
    predicates: tuple[Pred, ...] = (first(half), last(half))
    for at, pred in enumerate(predicates):
        b.sync(unit, wait=wait[at : at + 1], set=give[at : at + 1], pred=pred)
