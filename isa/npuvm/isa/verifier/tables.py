"""The sequencer's tables as set-up leaves them, and the values that sizes and addresses take at a point of the loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from npuvm.isa.model import Insn, Isa
from npuvm.isa.verifier.program import Block, Grid, Leaf, Loop, Node, SetUp, Step

__all__ = [
    "Affine",
    "Const",
    "DescDef",
    "Interval",
    "Point",
    "RegSize",
    "RingDef",
    "SizeDef",
    "Tables",
    "Tail",
    "WindowDef",
    "register_intervals",
    "size_loops",
    "size_value",
]

Point: TypeAlias = Mapping[int, tuple[int, int]]
"""Counter and trip count of each open loop."""

Interval: TypeAlias = tuple[int, int]
"""Smallest and largest value, inclusive."""

_WORD: Interval = (-(1 << 63), (1 << 63) - 1)
_LOADED: Interval = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, slots=True)
class Const:
    """A size that is always `full`."""

    full: int


@dataclass(frozen=True, slots=True)
class Tail:
    """`tail` on the last iteration of a loop, `full` before."""

    full: int
    tail: int
    loop: int


@dataclass(frozen=True, slots=True)
class Affine:
    """min(full, base + step * counter of each (loop, step)), not below 0."""

    full: int
    base: int
    steps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class RegSize:
    """The value of a register, within 0 and `full`."""

    full: int
    reg: int


SizeDef: TypeAlias = Const | Tail | Affine | RegSize


@dataclass(frozen=True, slots=True)
class WindowDef:
    """A window in elements: the tile's origin is row0 + row_step * counter, columns likewise."""

    row0: int
    col0: int
    rows: int
    cols: int
    row: tuple[int, int]
    col: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DescDef:
    """An address descriptor and where it was defined. `role` is none, producer or consumer."""

    pc: int
    space: str
    base: int
    pitch: int
    role: str
    ring: int
    reg: int
    reg_stride: int
    strides: tuple[tuple[int, int], ...] = ()
    window: WindowDef | None = None


@dataclass(frozen=True, slots=True)
class RingDef:
    """A ring and the semaphores that guard it."""

    slot_bytes: int
    slots: int
    ready: int
    free: int


@dataclass(frozen=True)
class Tables:
    """All tables at one point of a program's text."""

    sizes: Mapping[int, SizeDef]
    descs: Mapping[int, DescDef]
    rings: Mapping[int, RingDef]
    registers: Mapping[int, Interval]

    def apply(self, isa: Isa, step: SetUp) -> Tables:
        """The tables after a set-up instruction; `dstr` and `dwin` need their descriptor to be defined."""
        a, op = step.insn.args, step.insn.op
        if op in ("szc", "szt", "sza", "szr"):
            return replace(self, sizes={**self.sizes, a["size"]: _size(step.insn)})
        if op == "ring":
            ring = RingDef(a["slot_bytes"], a["slots"], a["ready"], a["free"])
            return replace(self, rings={**self.rings, a["ring"]: ring})
        if op in ("desc", "dstr", "dwin"):
            return replace(self, descs={**self.descs, a["desc"]: self._desc(isa, step)})
        return self

    def _desc(self, isa: Isa, step: SetUp) -> DescDef:
        a = step.insn.args
        if step.insn.op == "desc":
            operands = isa.instruction("desc")
            space = _enum_name(operands.operand("space").values, a["space"])
            role = _enum_name(operands.operand("role").values, a["role"])
            return DescDef(step.pc, space, a["base"], a["pitch"], role, a["ring"], a["reg"], a["reg_stride"])
        old = self.descs[a["desc"]]
        if step.insn.op == "dstr":
            return replace(old, strides=(*old.strides, (a["loop"], a["stride"])))
        row, col = (a["row_loop"], a["row_step"]), (a["col_loop"], a["col_step"])
        return replace(old, window=WindowDef(a["row0"], a["col0"], a["rows"], a["cols"], row, col))

    def register_interval(self, register: int) -> Interval:
        """The values a register can hold."""
        return self.registers.get(register, _WORD)

    def register_size(self, size: RegSize) -> Interval:
        """The values a register-driven size can have."""
        low, high = self.register_interval(size.reg)
        return max(0, min(size.full, low)), max(0, min(size.full, high))


def _enum_name(values: Mapping[str, int], code: int) -> str:
    return next(name for name, value in values.items() if value == code)


def _size(insn: Insn) -> SizeDef:
    a = insn.args
    if insn.op == "szc":
        return Const(a["full"])
    if insn.op == "szt":
        return Tail(a["full"], a["tail"], a["loop"])
    if insn.op == "sza":
        steps = ((a["loop_a"], a["step_a"]), (a["loop_b"], a["step_b"]))
        return Affine(a["full"], a["base"], tuple((loop, step) for loop, step in steps if step))
    return RegSize(a["full"], a["reg"])


def size_loops(size: SizeDef) -> tuple[int, ...]:
    """Loops whose counters a size depends on."""
    if isinstance(size, Tail):
        return (size.loop,)
    if isinstance(size, Affine):
        return tuple(loop for loop, _ in size.steps)
    return ()


def size_value(size: SizeDef, point: Point, register: int) -> int:
    """Value of a size at a point; `register` stands for a register-driven size."""
    if isinstance(size, Const):
        return size.full
    if isinstance(size, Tail):
        counter, trip = point[size.loop]
        return size.tail if counter == trip - 1 else size.full
    if isinstance(size, Affine):
        total = size.base + sum(step * point[loop][0] for loop, step in size.steps)
        return max(0, min(size.full, total))
    return register


def register_intervals(steps: Iterable[Step]) -> dict[int, Interval]:
    """What each register can hold anywhere in a program, from all that is written to it, in any order.

    A register whose interval still grows after as many rounds as there are writes depends on itself, and may hold anything.
    """
    writes = [leaf.insn for step in steps if isinstance(step, Block) for leaf in _scalars(step.nodes)]
    known: dict[int, Interval] = {}
    rounds = 0
    while True:
        before = dict(known)
        for insn in writes:
            value = _written(insn, known)
            old = known.get(insn.args["rd"], value)
            known[insn.args["rd"]] = (min(old[0], value[0]), max(old[1], value[1]))
        if known == before:
            return known
        rounds += 1
        if rounds > len(writes):
            known = {register: i if i == before.get(register) else _WORD for register, i in known.items()}


def _scalars(nodes: Iterable[Node]) -> Iterable[Leaf]:
    for node in nodes:
        if isinstance(node, (Loop, Grid)):
            yield from _scalars(node.body)
        elif "rd" in node.insn.args:
            yield node


def _written(insn: Insn, known: Mapping[int, Interval]) -> Interval:
    if insn.op == "li":
        return insn.args["imm"], insn.args["imm"]
    if insn.op == "lds":
        return _LOADED
    a, b = (known.get(insn.args[name], (0, 0)) for name in ("ra", "rb"))
    if insn.op == "smin":
        return min(a[0], b[0]), min(a[1], b[1])
    if insn.op == "slt":
        return 0, 1
    if insn.op == "scdiv":
        return (min(a[0], 0), max(a[1], 0)) if b[0] > 0 else _WORD
    rule = {"sadd": _sums, "ssub": _differences, "smul": _products}.get(insn.op)
    if rule is None:
        return _WORD
    low, high = min(rule(a, b)), max(rule(a, b))
    return (low, high) if _WORD[0] <= low and high <= _WORD[1] else _WORD


def _sums(a: Interval, b: Interval) -> tuple[int, ...]:
    return a[0] + b[0], a[1] + b[1]


def _differences(a: Interval, b: Interval) -> tuple[int, ...]:
    return a[0] - b[1], a[1] - b[0]


def _products(a: Interval, b: Interval) -> tuple[int, ...]:
    return tuple(x * y for x in a for y in b)
