"""A core's program as a tree of steps, and the structural rules: nesting, set-up outside loops, reached halt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from npuvm.isa.control import SCOPES, SET_UP
from npuvm.isa.model import Insn, Instruction, Isa
from npuvm.isa.verifier.report import Findings

__all__ = ["Barrier", "Block", "Grid", "Leaf", "Loop", "Node", "SetUp", "Step", "parse"]


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """An instruction of a unit, or a scalar one of the sequencer."""

    pc: int
    insn: Insn
    spec: Instruction
    unit: str


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """`loop` ... `endloop`."""

    pc: int
    insn: Insn
    loop: int
    trip: int
    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """`grid` ... `endgrid`; `trips` are size indices of loops 0 to len(trips) - 1."""

    pc: int
    insn: Insn
    phase: int
    trips: tuple[int, ...]
    body: tuple[Node, ...]


Node: TypeAlias = Leaf | Loop | Grid


@dataclass(frozen=True, slots=True, eq=False)
class SetUp:
    """A set-up instruction at phase level."""

    pc: int
    insn: Insn


@dataclass(frozen=True, slots=True, eq=False)
class Barrier:
    """`barrier` of a scope."""

    pc: int
    insn: Insn
    scope: str


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Instructions, loops and grids between two set-up instructions or barriers."""

    nodes: tuple[Node, ...]


Step: TypeAlias = SetUp | Barrier | Block


def parse(isa: Isa, insns: Mapping[int, tuple[Insn, int]], start: int, findings: Findings) -> tuple[Step, ...]:
    """The steps of the program that starts at word `start`; `insns` maps word indices to instructions and lengths.

    Structural faults are fatal: what follows them has no meaning.
    """
    return _Parser(isa, insns, start, findings).steps()


class _Parser:
    def __init__(self, isa: Isa, insns: Mapping[int, tuple[Insn, int]], start: int, findings: Findings) -> None:
        self._isa = isa
        self._insns = insns
        self._next = start
        self._findings = findings
        self._units = {code: name for name, code in isa.units.items()}

    def _take(self) -> tuple[int, Insn]:
        pc = self._next
        if pc not in self._insns:
            self._findings.fatal("structure", "the program runs past its last word; end it with halt", pc)
        insn, length = self._insns[pc]
        self._next = pc + length
        return pc, insn

    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps())

    def _steps(self) -> Iterator[Step]:
        nodes: list[Node] = []
        while True:
            pc, insn = self._take()
            if insn.op not in SET_UP and insn.op not in ("barrier", "halt"):
                nodes.append(self._node(pc, insn, ()))
                continue
            self._bare(pc, insn)
            if nodes:
                yield Block(tuple(nodes))
                nodes = []
            if insn.op == "halt":
                return
            yield Barrier(pc, insn, SCOPES[insn.args["scope"]]) if insn.op == "barrier" else SetUp(pc, insn)

    def _node(self, pc: int, insn: Insn, open_loops: tuple[int, ...]) -> Node:
        if insn.op == "loop":
            return self._loop(pc, insn, open_loops)
        if insn.op == "grid":
            return self._grid(pc, insn, open_loops)
        if insn.op in ("endloop", "endgrid"):
            self._findings.fatal("structure", f"{insn.op} without an open {insn.op[3:]}", pc, insn)
        if insn.op in SET_UP:
            self._findings.fatal("structure", "set-up inside a loop or grid; it is allowed outside of both", pc, insn)
        if insn.op in ("barrier", "halt"):
            self._findings.fatal("structure", f"{insn.op} inside a loop or grid; close it first", pc, insn)
        spec = self._isa.instruction(insn.op)
        unit = self._units[insn.args["unit"]] if spec.unit == "any" else spec.unit
        if unit == "seq" and (insn.wait or insn.set or insn.order):
            message = "the sequencer neither waits nor sets, and runs in order; use usync on a unit"
            self._findings.add("sequencer", message, pc, insn)
        return Leaf(pc, insn, spec, unit)

    def _bare(self, pc: int, insn: Insn) -> None:
        if insn.wait or insn.set or insn.order or insn.pred:
            self._findings.add("sequencer", f"{insn.op} takes no predicate, wait, set or order", pc, insn)

    def _loop(self, pc: int, insn: Insn, open_loops: tuple[int, ...]) -> Loop:
        self._bare(pc, insn)
        loop = insn.args["loop"]
        if loop in open_loops:
            taken = ", ".join(f"l{i}" for i in open_loops)
            self._findings.fatal("structure", f"loop l{loop} is open already; take one not among {taken}", pc, insn)
        return Loop(pc, insn, loop, insn.args["trip"], self._body(pc, insn, "endloop", (*open_loops, loop)))

    def _grid(self, pc: int, insn: Insn, open_loops: tuple[int, ...]) -> Grid:
        self._bare(pc, insn)
        if open_loops:
            self._findings.fatal("structure", "a grid inside a loop or grid; it is allowed outside of both", pc, insn)
        count = insn.args["loops"]
        trips = tuple(insn.args[f"t{i}"] for i in range(count))
        return Grid(pc, insn, insn.args["phase"], trips, self._body(pc, insn, "endgrid", tuple(range(count))))

    def _body(self, start: int, opening: Insn, end: str, open_loops: tuple[int, ...]) -> tuple[Node, ...]:
        nodes: list[Node] = []
        while True:
            if self._next not in self._insns:
                self._findings.fatal("structure", f"has no matching {end}", start, opening)
            pc, insn = self._take()
            if insn.op == end:
                self._bare(pc, insn)
                return tuple(nodes)
            if insn.op in ("endloop", "endgrid"):
                self._findings.fatal("structure", f"{insn.op} where {end} must come first", pc, insn)
            nodes.append(self._node(pc, insn, open_loops))
