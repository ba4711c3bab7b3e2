"""The proof of order and balance for all images of a form whose ranges and trip counts look the same to a program.

The cores are walked and run as for one image (`npuvm.isa.verifier.walk`, `sync`), but with trip counts cut down to 3, the
tiles of a class of ranges, and operands in place of bytes. Accesses that nothing orders are no conflict here: they are what the
proof asks of an image, that such operands touch no byte in common.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from npuvm.isa.model import Isa, OperandSpec
from npuvm.isa.verifier.classes import class_tiles
from npuvm.isa.verifier.hazards import Clock
from npuvm.isa.verifier.program import Grid, Leaf, Loop
from npuvm.isa.verifier.report import Abandon, Findings
from npuvm.isa.verifier.sites import Site
from npuvm.isa.verifier.static import Tabled
from npuvm.isa.verifier.sync import run_domain
from npuvm.isa.verifier.tables import Point, Tables, Tail
from npuvm.isa.verifier.walk import Act, Walk

__all__ = ["Apart", "CoreForm", "Proof", "prove"]

Apart: TypeAlias = tuple[int, int, bool]
"""Two formulas whose reaches must not meet, in smaller order; with True in the same slot, else in every slot."""


@dataclass(frozen=True, slots=True)
class CoreForm:
    """One core: its group, its program, its sites and the number of formulas before theirs; by place in the text, the class of
    its range of each grid, and of each loop the trip count and that of the last iteration of the loop that it follows.

    Of the numbers in the program none is looked at that may differ between images of a form.
    """

    group: int
    program: Sequence[Tabled]
    sites: Mapping[tuple[int, str], Site]
    offset: int
    classes: Mapping[int, int]
    trips: Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Proof:
    """What holds for all images with the same forms of cores if only the pairs of `apart` touch no byte in common.

    `steps` were walked; `counters` is the most that the visited tiles of a grid have, in all.
    """

    apart: frozenset[Apart]
    steps: int
    counters: int


def prove(isa: Isa, cores: Sequence[CoreForm], alone: bool, max_steps: int) -> Proof | None:
    """The proof for the cores of a domain, in the sense of `run_domain`; None when it takes an image's numbers."""
    findings = Findings(isa, "", collect=True)
    memories = [_Memory(core.offset) for core in cores]
    fresh = iter(memories)
    walks = [_Walk(isa, core) for core in cores]
    steps = 0
    with contextlib.suppress(Abandon):
        items = [walk.items() for walk in walks]
        groups = [core.group for core in cores]
        steps = run_domain(isa, items, groups, alone, max_steps, findings, lambda: next(fresh))
    if findings.found:
        return None
    apart = frozenset[Apart]().union(*(memory.apart for memory in memories))
    if any(one == other for one, other, _ in apart):
        return None
    return Proof(apart, steps, max(walk.counters for walk in walks))


@dataclass(frozen=True, slots=True)
class _Use:
    """An access of an operand, to a slot of its ring where it has one."""

    site: Site
    slot: int
    reads: bool
    writes: bool


@dataclass(frozen=True, slots=True)
class _Seen:
    """An operand of an instruction: its site where it is on chip; ring, role and name where it has a ring; the ring's slots."""

    site: Site | None
    slot: tuple[int, str, str] | None
    slots: int
    reads: bool
    writes: bool


@dataclass(frozen=True, slots=True)
class _UsingAct(Act):
    """An instruction with its accesses on chip; it has no regions, since no address is known."""

    uses: tuple[_Use, ...] = ()


class _Walk(Walk):
    """The walk of a core of which only the form is known."""

    def __init__(self, isa: Isa, core: CoreForm) -> None:
        super().__init__(isa, core.program, (), 0)
        self._sites = core.sites
        self._classes = core.classes
        self._trips = core.trips
        self._seen: dict[int, list[_Seen]] = {}
        self.counters = 0

    def _trip(self, node: Loop, tables: Tables, point: Point) -> int:
        full, tail = self._trips[node.pc]
        size = tables.sizes[node.trip]
        if isinstance(size, Tail):
            counter, trip = point[size.loop]
            return tail if counter == trip - 1 else full
        return full

    def _grid_tiles(self, node: Grid, tables: Tables) -> list[dict[int, tuple[int, int]]]:
        tiles = class_tiles(self._classes[node.pc], len(node.trips))
        self.counters = max(self.counters, len(tiles) * len(node.trips))
        return list(tiles)

    def _act(self, leaf: Leaf, tables: Tables, point: Point) -> Act:
        operands = self._seen.get(leaf.pc)
        if operands is None:
            operands = self._seen[leaf.pc] = [self._operand(leaf, each, tables) for each in leaf.spec.regions]
        uses: list[_Use] = []
        slots: list[tuple[int, str, str]] = []
        for each in operands:
            slot = 0
            if each.slot is not None:
                slots.append(each.slot)
                slot = self._counts[each.slot[0], each.slot[1]] % each.slots
            if each.site is not None:
                uses.append(_Use(each.site, slot, each.reads, each.writes))
        self._count(leaf, tables)
        return _UsingAct(leaf, (), tuple(slots), tuple(uses))

    def _operand(self, leaf: Leaf, operand: OperandSpec, tables: Tables) -> _Seen:
        desc = tables.descs[leaf.insn.args[operand.name]]
        ring = tables.rings[desc.ring].slots if desc.role != "none" else 1
        return _Seen(
            None if desc.space == "gm" else self._sites[leaf.pc, operand.name],
            None if desc.role == "none" else (desc.ring, desc.role, operand.name),
            ring,
            operand.role != "write",
            operand.role != "read",
        )


_Accesses: TypeAlias = dict[tuple[int, int, int], tuple[_Use, int, int]]
"""By unit, site and slot: the latest access, its unit and its place in the order of the unit."""


@dataclass
class _Memory:
    """The latest accesses of each unit to each operand since the last barrier, and which pairs nothing has ordered."""

    offset: int
    apart: set[Apart] = field(default_factory=set)
    _read: dict[str, _Accesses] = field(default_factory=dict)
    _written: dict[str, _Accesses] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget: everything so far has completed."""
        self._read.clear()
        self._written.clear()

    def access(self, act: Act, unit: int, sequence: int, clock: Clock) -> Iterator[str]:
        """Record what an instruction touches. Nothing is wrong: what is not ordered has to be apart."""
        assert isinstance(act, _UsingAct)
        for use in act.uses:
            reads = use.reads
            for earlier, other, its in self._written.get(use.site.space, _NONE).values():
                if clock[other] < its and (reads or other != unit):
                    self._part(earlier, use)
            if use.writes:
                for earlier, other, its in self._read.get(use.site.space, _NONE).values():
                    if clock[other] < its and other != unit:
                        self._part(earlier, use)
        for use in act.uses:
            known = self._written if use.writes else self._read
            known.setdefault(use.site.space, {})[unit, use.site.number, use.slot] = use, unit, sequence
        return iter(())

    def _part(self, one: _Use, other: _Use) -> None:
        same_ring = one.site.ring >= 0 and (one.site.ring, one.site.block) == (other.site.ring, other.site.block)
        if same_ring and one.slot != other.slot:
            return  # the rule that operands stay clear of other slots is checked for every image
        low, high = one.site.formula + self.offset, other.site.formula + self.offset
        self.apart.add((low, high, same_ring) if low < high else (high, low, same_ring))


_NONE: _Accesses = {}
