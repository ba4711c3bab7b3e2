"""The operands of a program with the places of the values that their addresses and extents are made of.

What `npuvm.isa.verifier.static` calculates for one image with numbers, this follows with places (`npuvm.isa.verifier.values`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from npuvm.isa.control import ROLES
from npuvm.isa.model import Insn, Instruction, Isa, OperandSpec
from npuvm.isa.verifier.program import Block, Grid, Leaf, Loop, Node, SetUp, Step
from npuvm.isa.verifier.values import Values

__all__ = ["Extent", "Formula", "GridSite", "NoTemplateError", "ProgramSites", "Ring", "Signal", "Site"]


class NoTemplateError(Exception):
    """A program has something that is verified with numbers only."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A size: the larger of the values at two places bounds it. `kind` is the set-up instruction's name; an szt has the value
    at `tail` in the last iteration of `loop`.
    """

    kind: str
    full: int
    tail: int
    loop: int = -1


_Around: TypeAlias = tuple[tuple[tuple[int, ...], Extent | int], ...]


@dataclass(frozen=True, slots=True)
class Ring:
    """A ring: its number, the place of its slots' bytes, how many there are."""

    number: int
    slot: int
    slots: int


@dataclass(frozen=True, slots=True)
class Formula:
    """All that bounds what an operand reaches, by places. `aligned` is the base that has to be aligned, a relocation's addend
    in global memory; `strides` are loops with a stride and the loop's trip count; `window` holds the columns that are
    touched at most. `most` is the size of the smallest buffer of its space, None in global memory.
    """

    base: int
    aligned: int
    pitch: int
    rows: Extent
    cols: Extent
    itemsize: int
    step: int
    strides: tuple[tuple[int, int, Extent], ...]
    window: int | None
    ring: Ring | None
    writes: bool
    most: int | None

    @property
    def reaches(self) -> bool:
        """Whether it matters what exactly it reaches: on chip, and in the slots of a ring."""
        return self.most is not None or self.ring is not None

    def followed(self, size: Extent) -> tuple[int, int, Extent] | None:
        """The stride over the loop in whose last iteration a size is its tail, None when there is none or more than one."""
        over = [each for each in self.strides if each[0] == size.loop]
        return over[0] if len(over) == 1 else None


@dataclass(frozen=True, slots=True)
class Site:
    """An operand of an instruction, in a block between set-up instructions; `formula` is an index."""

    number: int
    block: int
    space: str
    ring: int
    formula: int


@dataclass(frozen=True, slots=True)
class GridSite:
    """A grid: its phase and its trip counts. `seen` has a bit for each loop whose first or last iteration makes a difference to
    what is walked.
    """

    pc: int
    phase: int
    trips: tuple[Extent, ...]
    seen: int


@dataclass(frozen=True, slots=True)
class Signal:
    """An instruction that sets or waits for semaphores of more than one core, and the loops around it: their numbers, with the
    trip count of one loop or the phase of a grid.
    """

    insn: Insn
    around: _Around


@dataclass(frozen=True, slots=True)
class _Desc:
    insn: Insn
    pc: int
    strides: tuple[tuple[int, int], ...] = ()
    window: int | None = None


@dataclass
class ProgramSites:
    """What the program of some cores has: sites of its operands by instruction and name, its formulas without repeats, grids,
    trip counts by loop, operands of each ring by block, and flags, places of values that must be zero or not as they are here;
    of semaphores that several cores share, the instructions that use them and the counts they are given.
    """

    isa: Isa
    values: Values
    relocs: Mapping[int, int]
    space_bytes: Mapping[str, int]
    sites: dict[tuple[int, str], Site] = field(default_factory=dict)
    formulas: dict[Formula, int] = field(default_factory=dict)
    grids: list[GridSite] = field(default_factory=list)
    trips: dict[int, Extent] = field(default_factory=dict)
    rings: dict[tuple[int, int], list[Site]] = field(default_factory=dict)
    flags: dict[int, bool] = field(default_factory=dict)
    signals: list[Signal] = field(default_factory=list)
    given: list[tuple[int, int]] = field(default_factory=list)

    def add(self, steps: Sequence[Step]) -> None:
        """Take in a program whose static checks have passed; NoTemplateError when it cannot be followed."""
        walk = _Steps(self)
        for block, step in enumerate(steps):
            if isinstance(step, SetUp):
                walk.set_up(step)
            elif isinstance(step, Block):
                walk.nodes(step.nodes, {}, (), block)

    def flag(self, pc: int, insn: Insn, *names: str) -> None:
        """Whether these operands are zero is a matter of form: loops that sizes and windows follow hang on it."""
        for name in names:
            self.flags[self.values.number(pc, name)] = insn.args[name] != 0


class _Steps:
    """The tables of the sequencer at one point of the text."""

    def __init__(self, into: ProgramSites) -> None:
        self._into = into
        self._values = into.values
        self._sizes: dict[int, Extent] = {}
        self._descs: dict[int, _Desc] = {}
        self._rings: dict[int, Ring] = {}
        self._spaces = {space.code: space for space in into.isa.spaces.values()}
        self._base_word = into.isa.instruction("desc").operand("base").bits.word

    def set_up(self, step: SetUp) -> None:
        pc, insn, number = step.pc, step.insn, self._values.number
        a, op = insn.args, insn.op
        if op == "ring":
            self._rings[a["ring"]] = Ring(a["ring"], number(pc, "slot_bytes"), a["slots"])
            self._into.given.append((a["free"], a["slots"]))
        elif op == "sem":
            self._into.given.append((a["sem"], a["value"]))
        elif op in ("szc", "sza", "szt"):
            full = number(pc, "full")
            tail = (number(pc, "tail"), a["loop"]) if op == "szt" else (full, -1)
            self._sizes[a["size"]] = Extent(op, full, *tail)
            if op == "sza":
                self._into.flag(pc, insn, "step_a", "step_b")
        elif op == "szr":
            raise NoTemplateError("a size in a register")
        elif op == "desc":
            if a["reg_stride"]:
                raise NoTemplateError("an address that follows a register")
            self._descs[a["desc"]] = _Desc(insn, pc)
        elif op == "dstr":
            old = self._descs[a["desc"]]
            self._descs[a["desc"]] = replace(old, strides=(*old.strides, (a["loop"], number(pc, "stride"))))
        elif op == "dwin":
            self._into.flag(pc, insn, "row_step", "col_step")
            self._descs[a["desc"]] = replace(self._descs[a["desc"]], window=number(pc, "cols"))

    def nodes(self, nodes: Sequence[Node], nest: Mapping[int, Extent], around: _Around, block: int) -> None:
        for node in nodes:
            if isinstance(node, Leaf):
                if any(self._into.isa.semaphore_scope(n) != "core" for n in (*node.insn.wait, *node.insn.set)):
                    self._into.signals.append(Signal(node.insn, around))
                for operand in node.spec.regions:
                    self._operand(node, operand, nest, block)
            elif isinstance(node, Loop):
                trip = self._trip(node.trip, ("szc", "szt"))
                self._into.trips[node.pc] = trip
                self.nodes(node.body, {**nest, node.loop: trip}, (*around, ((node.loop,), trip)), block)
            else:
                self._grid(node, block)

    def _grid(self, node: Grid, block: int) -> None:
        trips = tuple(self._trip(index, ("szc",)) for index in node.trips)
        if len(trips) == self._into.isa.limits["loops"]:
            raise NoTemplateError("a grid over all loops")
        self._into.grids.append(GridSite(node.pc, node.phase, trips, self._seen(node.body)))
        around: _Around = ((tuple(range(len(trips))), node.phase),)
        self.nodes(node.body, dict(enumerate(trips)), around, block)

    def _seen(self, nodes: Sequence[Node]) -> int:
        seen = 0
        for node in nodes:
            if isinstance(node, Leaf):
                pred = node.insn.pred
                seen |= pred.mask if pred is not None and pred.kind not in ("changed", "changes") else 0
            else:
                seen |= self._seen(node.body)
                if isinstance(node, Loop) and (trip := self._sizes[node.trip]).kind == "szt":
                    seen |= 1 << trip.loop
        return seen

    def _trip(self, index: int, allowed: tuple[str, ...]) -> Extent:
        if self._sizes[index].kind not in allowed:
            raise NoTemplateError("a trip count that follows counters")
        return self._sizes[index]

    def _operand(self, leaf: Leaf, operand: OperandSpec, nest: Mapping[int, Extent], block: int) -> None:
        args = leaf.insn.args
        desc = self._descs[args[operand.name]]
        a = desc.insn.args
        space = self._spaces[a["space"]]
        ring = self._rings[a["ring"]] if ROLES[a["role"]] != "none" else None
        dtype = leaf.spec.region_dtype(self._into.isa, operand, leaf.insn.dtype, leaf.insn.dtype2)
        rows, cols = (self._extent(leaf.spec, leaf.insn, dim) for dim in operand.shape)
        base = aligned = self._values.number(desc.pc, "base")
        pitch = self._values.number(desc.pc, "pitch")
        if space.name == "gm":
            reloc = self._into.relocs.get(desc.pc + self._base_word)
            aligned = base if reloc is None else self._values.addend(reloc)
            if leaf.spec.picks_rows:
                pitch, rows = self._values.constant(args["stride"]), self._constant(args["count"])
                if ring is not None:
                    raise NoTemplateError("rows by index in a ring")
        formula = Formula(
            base,
            aligned,
            pitch,
            rows,
            cols,
            dtype.itemsize,
            space.align_bytes or dtype.itemsize,
            tuple((loop, stride, nest[loop]) for loop, stride in desc.strides),
            desc.window,
            ring,
            operand.role != "read",
            None if space.name == "gm" else self._into.space_bytes.get(space.name, 0),
        )
        index = self._into.formulas.setdefault(formula, len(self._into.formulas))
        sites = self._into.sites
        site = Site(len(sites), block, space.name, -1 if ring is None else ring.number, index)
        sites[leaf.pc, operand.name] = site
        if ring is not None:
            self._into.rings.setdefault((block, ring.number), []).append(site)

    def _extent(self, spec: Instruction, insn: Insn, dim: str | int) -> Extent:
        constant = spec.constant(insn, dim)
        return self._sizes[insn.args[str(dim)]] if constant is None else self._constant(constant)

    def _constant(self, value: int) -> Extent:
        place = self._values.constant(value)
        return Extent("szc", place, place)
