"""How often the cores of a launch signal each other over all iterations, within bounds that hold whatever the walk leaves out.

The walk visits a few iterations of every loop. When the loops on the two sides of a semaphore have different trip counts, it
may balance where the program does not; what is counted here tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from npuvm.isa.model import Isa, Pred
from npuvm.isa.verifier.program import Block, Leaf, Loop, Node
from npuvm.isa.verifier.static import Tabled
from npuvm.isa.verifier.tables import Affine, Const, Interval, SizeDef, Tables, Tail

__all__ = ["Around", "CoreText", "Shortage", "executions", "shortages"]

Around: TypeAlias = tuple[tuple[tuple[int, ...], Interval], ...]
"""Loops around an instruction, each nest of a grid as one, with bounds of their iterations in all."""


@dataclass(frozen=True, slots=True)
class CoreText:
    """One core: its group, its program, its tiles by phase."""

    group: int
    program: Sequence[Tabled]
    ranges: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Shortage:
    """A semaphore of which more is waited for than is ever signalled: at least `waits`, at most `signals`."""

    number: int
    waits: int
    signals: int
    waiter: Leaf


@dataclass(slots=True)
class _Count:
    signals: int = 0
    waits: int = 0
    waiter: Leaf | None = None


def shortages(isa: Isa, cores: Iterable[CoreText]) -> Iterator[Shortage]:
    """Semaphores of group and launch scope that must run out. Counts that they are given beforehand are signals as well."""
    counts: dict[tuple[int, int], _Count] = {}

    def count_of(core: CoreText, number: int) -> _Count | None:
        scope = isa.semaphore_scope(number)
        key = (core.group if scope == "group" else -1, number)
        return None if scope == "core" else counts.setdefault(key, _Count())

    for core in cores:
        for number, value in _given(core):
            if (count := count_of(core, number)) is not None:
                count.signals += value
        for leaf, around in _leaves(core):
            low, high = executions(leaf.insn.pred, around)
            for number in leaf.insn.set:
                if (count := count_of(core, number)) is not None:
                    count.signals += high
            for number in leaf.insn.wait:
                if (count := count_of(core, number)) is not None:
                    count.waits += low
                    count.waiter = leaf
    for (_, number), count in counts.items():
        if count.waiter is not None and count.waits > count.signals:
            yield Shortage(number, count.waits, count.signals, count.waiter)


def _given(core: CoreText) -> Iterator[tuple[int, int]]:
    for each in core.program:
        insn = None if isinstance(each.step, Block) else each.step.insn
        if insn is not None and insn.op == "sem":
            yield insn.args["sem"], insn.args["value"]
        elif insn is not None and insn.op == "ring":
            yield insn.args["free"], insn.args["slots"]


def _leaves(core: CoreText) -> Iterator[tuple[Leaf, Around]]:
    for each in core.program:
        if isinstance(each.step, Block):
            yield from _inside(each.step.nodes, each.tables, core.ranges, ())


def _inside(
    nodes: Sequence[Node], tables: Tables, ranges: Sequence[tuple[int, int]], around: Around
) -> Iterator[tuple[Leaf, Around]]:
    for node in nodes:
        if isinstance(node, Leaf):
            yield node, around
        elif isinstance(node, Loop):
            trips = _trips(tables, tables.sizes[node.trip])
            yield from _inside(node.body, tables, ranges, (*around, ((node.loop,), trips)))
        else:
            start, stop = ranges[node.phase]
            loops = tuple(range(len(node.trips)))
            yield from _inside(node.body, tables, ranges, (*around, (loops, (stop - start, stop - start))))


def _trips(tables: Tables, size: SizeDef) -> Interval:
    if isinstance(size, Const):
        return size.full, size.full
    if isinstance(size, Tail):
        return min(size.full, size.tail), max(size.full, size.tail)
    if isinstance(size, Affine):
        return 0, size.full
    return tables.register_size(size)


def executions(pred: Pred | None, around: Around) -> Interval:
    """Bounds of how often an instruction is switched on."""
    low = high = low_once = high_once = 1
    for loops, (least, most) in around:
        named = pred is not None and any(pred.mask >> loop & 1 for loop in loops)
        low, high = low * least, high * most
        if named and len(loops) == 1:
            least, most = min(least, 1), min(most, 1)
        elif named:
            least = 0
        low_once, high_once = low_once * least, high_once * most
    if pred is None:
        return low, high
    if pred.kind in ("first", "last"):
        return low_once, high_once
    if pred.kind in ("not_first", "not_last"):
        return max(0, low - high_once), high - low_once
    return min(low, 1), high
