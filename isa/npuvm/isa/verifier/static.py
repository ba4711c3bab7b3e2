"""Rules that hold for an instruction wherever the loops are: definitions, units, spaces, alignment, bounds, predicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import TypeAlias

from npuvm.isa.image import Reloc
from npuvm.isa.model import DType, Insn, Isa, OperandSpec
from npuvm.isa.verifier.program import Block, Leaf, Loop, Node, SetUp, Step
from npuvm.isa.verifier.reach import Dim, Reach, largest, reach_of
from npuvm.isa.verifier.report import CapacityLimits, Findings
from npuvm.isa.verifier.tables import DescDef, RegSize, RingDef, SizeDef, Tables, register_intervals, size_loops

__all__ = ["Setting", "StaticChecks", "Tabled"]


_Nest: TypeAlias = tuple[tuple[int, SizeDef], ...]


@dataclass(frozen=True, slots=True)
class Tabled:
    """A step of a program with the tables that hold for it."""

    step: Step
    tables: Tables


@dataclass(frozen=True)
class Setting:
    """What the checks of one program know about its surroundings.

    `relocs` maps words to relocations; `argument_bytes` gives the size of each argument, None when unknown; `absolute`
    lets global-memory descriptors do without a relocation. `semaphores` are those of group and launch scope that some core
    of the launch defines.
    """

    isa: Isa
    limits: CapacityLimits
    core_types: tuple[str, ...]
    relocs: Mapping[int, Reloc]
    argument_bytes: Sequence[int] | None
    absolute: bool
    semaphores: frozenset[int]
    findings: Findings


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where a leaf stands: the loops around it, and which of them a grid walks."""

    nest: _Nest = ()
    grid: frozenset[int] = frozenset()

    @property
    def loops(self) -> frozenset[int]:
        return frozenset(loop for loop, _ in self.nest)


@dataclass(frozen=True, slots=True)
class _SlotUse:
    """What one operand reaches within a ring's slot."""

    leaf: Leaf
    operand: str
    space: str
    reach: Reach


class StaticChecks:
    """Checks one program; `run` returns its steps with their tables for the checks that follow."""

    def __init__(self, setting: Setting) -> None:
        self._at = setting
        self._isa = setting.isa
        self._findings = setting.findings
        self._base_word = setting.isa.instruction("desc").operand("base").bits.word
        self._defined = set(setting.semaphores)
        self._written: set[int] = set()
        self._reaches: dict[tuple[DescDef, tuple[Dim, Dim], int, _Nest], Reach | None] = {}

    def run(self, steps: Sequence[Step]) -> tuple[Tabled, ...]:
        tables = Tables({}, {}, {}, register_intervals(steps))
        result = []
        for step in steps:
            if isinstance(step, SetUp):
                self._set_up(step, tables)
                tables = tables.apply(self._isa, step)
            elif isinstance(step, Block):
                slots: dict[int, list[_SlotUse]] = {}
                self._nodes(step.nodes, tables, _Scope(), slots)
                for ring, uses in slots.items():
                    self._slots(ring, tables.rings[ring], uses)
            result.append(Tabled(step, tables))
        return tuple(result)

    # Set-up.

    def _set_up(self, step: SetUp, tables: Tables) -> None:
        a, op = step.insn.args, step.insn.op
        if op in ("dstr", "dwin"):
            desc = tables.descs.get(a["desc"])
            if desc is None:
                self._findings.fatal("undefined", f"descriptor d{a['desc']} is not defined before", step.pc, step.insn)
            if op == "dwin" and desc.space != "gm":
                message = f"descriptor d{a['desc']} is in {desc.space}; windows are for gm"
                self._findings.add("space", message, step.pc, step.insn)
        elif op == "desc":
            self._relocated(step)
        elif op == "ring":
            if a["ready"] == a["free"]:
                message = f"m{a['ready']} is both ready and free; they are two semaphores"
                self._findings.add("ring", message, step.pc, step.insn)
            self._defined |= {a["ready"], a["free"]}
        elif op == "sem":
            self._defined.add(a["sem"])

    def _relocated(self, step: SetUp) -> None:
        is_global = step.insn.args["space"] == self._isa.spaces["gm"].code
        word = step.pc + self._base_word
        if is_global and word not in self._at.relocs and not self._at.absolute:
            message = "a global-memory descriptor has no relocation of its base (absolute addresses must be allowed)"
            self._findings.add("relocation", message, step.pc, step.insn)
        if not is_global and word in self._at.relocs:
            message = "a relocation patches the base of an on-chip descriptor; allowed: gm"
            self._findings.add("relocation", message, step.pc, step.insn)

    def _register(self, register: int, pc: int, insn: Insn) -> None:
        if register not in self._written:
            self._findings.add("undefined", f"register r{register} is not written before", pc, insn)

    # Trees.

    def _nodes(self, nodes: Sequence[Node], tables: Tables, scope: _Scope, slots: dict[int, list[_SlotUse]]) -> None:
        for node in nodes:
            if isinstance(node, Leaf):
                self._leaf(node, tables, scope, slots)
            elif isinstance(node, Loop):
                trip = self._size(node.trip, tables, scope, node.pc, node.insn)
                self._nodes(node.body, tables, _Scope((*scope.nest, (node.loop, trip)), scope.grid), slots)
            else:
                inner = _Scope()
                for loop, index in enumerate(node.trips):
                    trip = self._size(index, tables, inner, node.pc, node.insn)
                    inner = _Scope((*inner.nest, (loop, trip)), frozenset(range(len(node.trips))))
                self._nodes(node.body, tables, inner, slots)

    def _size(self, index: int, tables: Tables, scope: _Scope, pc: int, insn: Insn) -> SizeDef:
        size = tables.sizes.get(index)
        if size is None:
            self._findings.fatal("undefined", f"size s{index} is not defined before", pc, insn)
        self._open(size_loops(size), f"size s{index}", scope, pc, insn)
        if isinstance(size, RegSize):
            self._register(size.reg, pc, insn)
        return size

    def _open(self, loops: Sequence[int], what: str, scope: _Scope, pc: int, insn: Insn) -> None:
        for loop in loops:
            if loop not in scope.loops:
                known = ", ".join(f"l{i}" for i in sorted(scope.loops)) or "none"
                message = f"{what} follows loop l{loop}, which is not open; open are: {known}"
                self._findings.fatal("undefined", message, pc, insn)

    # Leaves.

    def _leaf(self, leaf: Leaf, tables: Tables, scope: _Scope, slots: dict[int, list[_SlotUse]]) -> None:
        self._predicate(leaf, scope)
        self._semaphores(leaf)
        self._unit(leaf)
        args = leaf.insn.args
        for operand in leaf.spec.operands:
            if operand.kind.name == "reg" and operand.name != "rd":
                self._register(args[operand.name], leaf.pc, leaf.insn)
        if "rd" in args:
            self._written.add(args["rd"])
        for operand in leaf.spec.sizes:
            self._size(args[operand.name], tables, scope, leaf.pc, leaf.insn)
        for operand in leaf.spec.regions:
            self._region(leaf, operand, tables, scope, slots)

    def _predicate(self, leaf: Leaf, scope: _Scope) -> None:
        pred = leaf.insn.pred
        if pred is None:
            return
        grid_only = pred.kind in ("changed", "changes")
        allowed = scope.grid if grid_only else scope.loops
        named = {loop for loop in range(self._isa.limits["loops"]) if pred.mask >> loop & 1}
        if not named <= allowed or (grid_only and not scope.grid):
            what = "loops of an open grid" if grid_only else "open loops"
            known = ", ".join(f"l{i}" for i in sorted(allowed)) or "none"
            self._findings.add("predicate", f"{pred.kind} takes {what}; there are: {known}", leaf.pc, leaf.insn)

    def _semaphores(self, leaf: Leaf) -> None:
        for kind, numbers in (("waits for", leaf.insn.wait), ("sets", leaf.insn.set)):
            if len(set(numbers)) != len(numbers):
                self._findings.add("owner", f"{kind} m{numbers[0]} twice; use a usync", leaf.pc, leaf.insn)
            for number in numbers:
                if number not in self._defined:
                    message = f"semaphore m{number} is not defined before, by ring or sem"
                    self._findings.fatal("undefined", message, leaf.pc, leaf.insn)

    def _unit(self, leaf: Leaf) -> None:
        for core_type in self._at.core_types:
            units = self._at.limits.units[core_type]
            if leaf.unit != "seq" and leaf.unit not in units:
                message = f"a {core_type} core has no {leaf.unit} unit; it has: {', '.join(sorted(units))}"
                self._findings.add("unit", message, leaf.pc, leaf.insn)

    def _region(
        self, leaf: Leaf, operand: OperandSpec, tables: Tables, scope: _Scope, slots: dict[int, list[_SlotUse]]
    ) -> None:
        index = leaf.insn.args[operand.name]
        name = f"{operand.name}=d{index}"
        desc = tables.descs.get(index)
        if desc is None:
            self._findings.fatal("undefined", f"descriptor d{index} is not defined before", leaf.pc, leaf.insn)
        ring = tables.rings.get(desc.ring) if desc.role != "none" else None
        if desc.role != "none" and ring is None:
            self._findings.fatal("undefined", f"{name}: ring g{desc.ring} is not defined before", leaf.pc, leaf.insn)
        if desc.space not in operand.spaces:
            message = f"{name} is in {desc.space}; allowed: {', '.join(operand.spaces)}"
            self._findings.fatal("space", message, leaf.pc, leaf.insn)
        if leaf.unit == "seq" and desc.role != "none":
            self._findings.add(
                "ring", f"{name} is in a ring; a scalar load takes a plain descriptor", leaf.pc, leaf.insn
            )
        self._open([loop for loop, _ in desc.strides], name, scope, leaf.pc, leaf.insn)
        if desc.window is not None:
            moved = [loop for loop, step in (desc.window.row, desc.window.col) if step]
            self._open(moved, f"{name}: its window", scope, leaf.pc, leaf.insn)
        if desc.reg_stride:
            self._register(desc.reg, leaf.pc, leaf.insn)
        dtype = leaf.spec.region_dtype(self._isa, operand, leaf.insn.dtype, leaf.insn.dtype2)
        rows, cols = (self._dim(leaf, dim, tables) for dim in operand.shape)
        if leaf.spec.picks_rows and desc.space == "gm":
            # Indices may name any row of the table.
            desc, rows = replace(desc, pitch=leaf.insn.args["stride"]), leaf.insn.args["count"]
            if desc.window is not None:
                message = f"{name} has a window; rows by index take a table without one"
                self._findings.add("space", message, leaf.pc, leaf.insn)
        most_rows, most_cols = largest(tables, rows), largest(tables, cols)
        self._alignment(leaf, name, desc, ring, dtype, (most_rows, most_cols))
        touched = most_cols if desc.window is None else min(most_cols, desc.window.cols)
        self._pitch(leaf, name, desc, operand, most_rows, touched * dtype.itemsize)
        reach = None
        if desc.space != "gm" or ring is not None or self._at.argument_bytes is not None:
            reach = self._reach(tables, desc, (rows, cols), dtype.itemsize, scope.nest)
        if reach is not None:
            self._bounds(leaf, name, desc, ring, reach)
            if ring is not None:
                slots.setdefault(desc.ring, []).append(_SlotUse(leaf, name, desc.space, reach))

    def _reach(self, tables: Tables, desc: DescDef, shape: tuple[Dim, Dim], itemsize: int, nest: _Nest) -> Reach | None:
        """What `reach_of` says; many operands of a block have the same tiles."""
        key = desc, shape, itemsize, nest
        if key not in self._reaches:
            self._reaches[key] = reach_of(tables, desc, shape, itemsize, nest)
        return self._reaches[key]

    def _dim(self, leaf: Leaf, dim: str | int, tables: Tables) -> Dim:
        constant = leaf.spec.constant(leaf.insn, dim)
        return constant if constant is not None else tables.sizes[leaf.insn.args[str(dim)]]

    def _alignment(
        self, leaf: Leaf, name: str, desc: DescDef, ring: RingDef | None, dtype: DType, most: tuple[int, int]
    ) -> None:
        step = self._isa.spaces[desc.space].align_bytes or dtype.itemsize
        base = desc.base
        if desc.space == "gm" and (reloc := self._at.relocs.get(desc.pc + self._base_word)) is not None:
            base = reloc.addend
        parts = [("its base", base), *((f"its stride over l{loop}", stride) for loop, stride in desc.strides)]
        if desc.reg_stride:
            parts.append(("its register stride", desc.reg_stride))
        if ring is not None:
            parts.append((f"slot_bytes of g{desc.ring}", ring.slot_bytes))
        for what, value in parts:
            if value % step:
                message = f"{name}: {what} is {value}; allowed in {desc.space}: multiples of {step} bytes"
                self._findings.add("alignment", message, leaf.pc, leaf.insn)
        pitch_step = dtype.itemsize if most[1] <= 1 else step
        if most[0] > 1 and desc.pitch % pitch_step:
            message = f"{name}: its pitch is {desc.pitch}; allowed in {desc.space}: multiples of {pitch_step} bytes"
            self._findings.add("alignment", message, leaf.pc, leaf.insn)

    def _pitch(self, leaf: Leaf, name: str, desc: DescDef, operand: OperandSpec, rows: int, row_bytes: int) -> None:
        if operand.role == "read" or rows <= 1 or desc.pitch >= row_bytes:
            return
        message = f"{name}: rows of {row_bytes} bytes are written {desc.pitch} apart; allowed: {row_bytes} or more"
        self._findings.add("pitch", message, leaf.pc, leaf.insn)

    def _bounds(self, leaf: Leaf, name: str, desc: DescDef, ring: RingDef | None, reach: Reach) -> None:
        slots = (ring.slots - 1) * ring.slot_bytes if ring is not None else 0
        low, high = reach.low, reach.high + slots
        if desc.space != "gm":
            for core_type in self._at.core_types:
                size = self._at.limits.space_bytes[core_type].get(desc.space, 0)
                if not size:
                    message = f"{name}: a {core_type} core has no {desc.space}"
                    self._findings.add("unit", message, leaf.pc, leaf.insn)
                elif low < 0 or high > size:
                    message = f"{name} reaches bytes {low} to {high} of {desc.space}; allowed: 0 to {size}"
                    self._findings.add("bounds", message, leaf.pc, leaf.insn)
            return
        reloc = self._at.relocs.get(desc.pc + self._base_word)
        if reloc is None or self._at.argument_bytes is None:
            return
        low, high = low - desc.base + reloc.addend, high - desc.base + reloc.addend
        size = self._at.argument_bytes[reloc.arg]
        if low < 0 or high > size:
            message = f"{name} reaches bytes {low} to {high} of argument {reloc.arg}; allowed: 0 to {size}"
            self._findings.add("bounds", message, leaf.pc, leaf.insn)

    # Rings.

    def _slots(self, number: int, ring: RingDef, uses: Sequence[_SlotUse]) -> None:
        """No two uses of different slots share a byte; several buffers may stand in one ring."""
        for one, other in combinations_with_replacement(uses, 2):
            if one.space == other.space and _meets_another_slot(ring, one.reach, other.reach):
                message = (
                    f"{other.operand} reaches into another slot of ring g{number} than {one.operand} of word {one.leaf.pc}; "
                    f"allowed: {ring.slot_bytes} bytes a slot"
                )
                self._findings.add("slot", message, other.leaf.pc, other.leaf.insn)


def _meets_another_slot(ring: RingDef, one: Reach, other: Reach) -> bool:
    """Whether `other` in some slot overlaps `one` in a different slot."""
    # Byte offsets of `other`'s slot from that of `one` at which they overlap, exclusive on both ends.
    low, high = one.low - other.high, one.high - other.low
    if ring.slot_bytes == 0:
        return ring.slots > 1 and low < 0 < high
    first = max(low // ring.slot_bytes + 1, 1 - ring.slots)
    last = min(-(-high // ring.slot_bytes) - 1, ring.slots - 1)
    return first <= last and (first, last) != (0, 0)
