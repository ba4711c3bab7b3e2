"""A core's program as a tree: set-up applied, loops and grids nested, instructions decoded once for all cores that share them.

The sequencer's tables (sizes, descriptors, rings) change only outside loops, so the text of a program is a list of steps: a
block of instructions and loops under fixed tables, counts of semaphores to set, a barrier, the halt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.errors import SimulationError
from npuvm.isa.codec import decode_at
from npuvm.isa.control import CONTROL, ROLES, SCOPES, SET_UP, Scope
from npuvm.isa.errors import DecodeError
from npuvm.isa.image import Reloc
from npuvm.isa.model import Insn, Instruction, Isa

__all__ = [
    "BarrierStep",
    "Block",
    "DescDef",
    "Grid",
    "HaltStep",
    "Leaf",
    "Loop",
    "Node",
    "Program",
    "ProgramText",
    "RingDef",
    "Scalar",
    "SemaphoreStep",
    "SizeDef",
    "Step",
    "Tables",
    "WindowDef",
    "place",
]

PRODUCER, CONSUMER = ROLES.index("producer"), ROLES.index("consumer")
"""Values of a descriptor's `role`."""


@dataclass(frozen=True, slots=True)
class SizeDef:
    """An entry of the size table: a constant, full or tail by a loop, clamped affine in two counters, or a register."""

    kind: Literal["const", "tail", "affine", "reg"]
    full: int
    tail: int = 0
    loop_a: int = 0
    loop_b: int = 0
    base: int = 0
    step_a: int = 0
    step_b: int = 0
    reg: int = 0

    @property
    def varies(self) -> bool:
        """Whether the value depends on loop counters."""
        return self.kind == "tail" or (self.kind == "affine" and bool(self.step_a or self.step_b))


@dataclass(frozen=True, slots=True)
class WindowDef:
    """A window of a descriptor: the tile's row is row0 + row_step * counter of row_loop, columns likewise."""

    row0: int
    col0: int
    rows: int
    cols: int
    row_step: int
    col_step: int
    row_loop: int
    col_loop: int


@dataclass(frozen=True, slots=True)
class DescDef:
    """An address descriptor: base + strides x counters + register x reg_stride + ring slot, `pitch` bytes between rows.

    With `arg` the base counts from the address of that argument of the image.
    """

    space: str
    base: int
    pitch: int
    ring: int
    role: int
    reg: int
    reg_stride: int
    strides: tuple[tuple[int, int], ...] = ()
    window: WindowDef | None = None
    arg: int | None = None


@dataclass(frozen=True, slots=True)
class RingDef:
    """A ring of `slots` buffers and its two semaphores."""

    slot_bytes: int
    slots: int
    ready: int
    free: int


@dataclass(frozen=True)
class Tables:
    """The sequencer's tables at one point of the program."""

    sizes: Mapping[int, SizeDef]
    descs: Mapping[int, DescDef]
    rings: Mapping[int, RingDef]


@dataclass(frozen=True, slots=True)
class Leaf:
    """An instruction for a unit."""

    pc: int
    words: int
    insn: Insn
    instruction: Instruction


@dataclass(frozen=True, slots=True)
class Scalar:
    """An instruction that the sequencer itself executes: registers, scalar loads, nop."""

    pc: int
    words: int
    insn: Insn
    instruction: Instruction


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """`loop` ... `endloop`; `trip` indexes the size table."""

    pc: int
    words: int
    loop: int
    trip: int
    body: tuple[Node, ...]
    has_scalars: bool
    insn: Insn


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """`grid` ... `endgrid` over loops 0 to len(trips) - 1; `trips` index the size table."""

    pc: int
    words: int
    phase: int
    trips: tuple[int, ...]
    body: tuple[Node, ...]
    has_scalars: bool
    insn: Insn


Node: TypeAlias = Leaf | Scalar | Loop | Grid


@dataclass(frozen=True, eq=False)
class Block:
    """Instructions and loops under fixed tables. `lead_words` are set-up words decoded since the step before."""

    lead_words: int
    tables: Tables
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class SemaphoreStep:
    """A `sem` or a `ring` instruction: counts to set, rings whose running counts begin at 0 again."""

    lead_words: int
    pc: int
    values: tuple[tuple[int, int], ...]
    rings: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BarrierStep:
    """`barrier`."""

    lead_words: int
    pc: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class HaltStep:
    """`halt`."""

    lead_words: int
    pc: int


Step: TypeAlias = Block | SemaphoreStep | BarrierStep | HaltStep


@dataclass(frozen=True, eq=False)
class Program:
    """What a core that starts at word `pc` executes; the last step is a `HaltStep`."""

    pc: int
    steps: tuple[Step, ...]


def place(node: Leaf | Scalar | Loop | Grid) -> str:
    """Where a node stands, for errors: "word 17 (vadd)"."""
    return f"word {node.pc} ({node.insn.op})"


@dataclass
class ProgramText:
    """The words of an image; `program` gives the tree from an entry, once for all cores that start there.

    Descriptors that `relocs` name stay relative to the image's arguments, so that the tree serves every launch.
    """

    isa: Isa
    words: NDArray[np.uint64]
    relocs: Sequence[Reloc] = ()
    _plain: list[int] = field(init=False, repr=False)
    _relocs: dict[int, Reloc] = field(init=False, repr=False)
    _programs: dict[int, Program] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._plain = self.words.tolist()
        self._relocs = {reloc.word: reloc for reloc in self.relocs}

    def program(self, pc: int) -> Program:
        """The program that starts at word `pc`; SimulationError naming the word when it is not well formed."""
        found = self._programs.get(pc)
        if found is None:
            found = self._programs[pc] = _Parser(self.isa, self._plain, self._relocs, pc).parse()
        return found


class _Parser:
    """Reads instructions from a start word to the halt, applying set-up to the tables on the way."""

    def __init__(self, isa: Isa, words: Sequence[int], relocs: Mapping[int, Reloc], pc: int) -> None:
        self._isa = isa
        self._relocs = relocs
        self._words = words
        self._start = pc
        self._pc = pc
        self._spaces = {space.code: name for name, space in isa.spaces.items()}
        self._base_word = isa.instruction("desc").operand("base").bits.word
        self._sizes: dict[int, SizeDef] = {}
        self._descs: dict[int, DescDef] = {}
        self._rings: dict[int, RingDef] = {}
        self._steps: list[Step] = []
        self._nodes: list[Node] = []
        self._lead = 0
        self._block_lead = 0

    def parse(self) -> Program:
        while True:
            pc, words, insn, instruction = self._next()
            name = insn.op
            if name in SET_UP:
                self._end_block()
                self._plain_sequencer(pc, insn)
                self._lead += words
                self._set_up(pc, insn)
            elif name in ("barrier", "halt"):
                self._end_block()
                self._plain_sequencer(pc, insn)
                lead, self._lead = self._lead + words, 0
                if name == "halt":
                    self._steps.append(HaltStep(lead, pc))
                    return Program(self._start, tuple(self._steps))
                self._steps.append(BarrierStep(lead, pc, SCOPES[insn.args["scope"]]))
            else:
                self._begin_block()
                self._nodes.append(self._node(pc, words, insn, instruction, 0))

    def _next(self) -> tuple[int, int, Insn, Instruction]:
        pc = self._pc
        if not 0 <= pc < len(self._words):
            self._fail(pc, None, f"the program has {len(self._words)} words and no halt before its end")
        try:
            insn, words = decode_at(self._isa, self._words, pc)
        except DecodeError as exc:
            raise SimulationError(exc.message, exc.where) from None
        self._pc += words
        return pc, words, insn, self._isa.instruction(insn.op)

    def _begin_block(self) -> None:
        if not self._nodes:
            self._block_lead, self._lead = self._lead, 0

    def _end_block(self) -> None:
        if self._nodes:
            tables = Tables(dict(self._sizes), dict(self._descs), dict(self._rings))
            self._steps.append(Block(self._block_lead, tables, tuple(self._nodes)))
            self._nodes = []

    def _set_counts(self, pc: int, values: Mapping[int, int], rings: tuple[int, ...] = ()) -> None:
        self._steps.append(SemaphoreStep(self._lead, pc, tuple(values.items()), rings))
        self._lead = 0

    def _node(self, pc: int, words: int, insn: Insn, instruction: Instruction, open_loops: int) -> Node:
        if insn.op == "loop":
            return self._loop(pc, words, insn, open_loops)
        if insn.op == "grid":
            return self._grid(pc, words, insn, open_loops)
        if insn.op in CONTROL:
            self._fail(pc, insn, "has no matching loop or grid" if insn.op.startswith("end") else "inside a loop")
        if insn.op in SET_UP:
            self._fail(pc, insn, "set-up is allowed outside loops and grids only")
        if instruction.unit == "seq":
            if insn.wait or insn.set or insn.order:
                self._fail(pc, insn, "the sequencer neither waits nor sets; use usync on a unit")
            return Scalar(pc, words, insn, instruction)
        return Leaf(pc, words, insn, instruction)

    def _loop(self, pc: int, words: int, insn: Insn, open_loops: int) -> Loop:
        self._plain_sequencer(pc, insn)
        loop = insn.args["loop"]
        if open_loops >> loop & 1:
            self._fail(pc, insn, f"loop {loop} is already open; nested loops have different numbers")
        body = self._body(pc, insn, "endloop", open_loops | 1 << loop)
        return Loop(pc, words, loop, insn.args["trip"], body, _has_scalars(body), insn)

    def _grid(self, pc: int, words: int, insn: Insn, open_loops: int) -> Grid:
        self._plain_sequencer(pc, insn)
        if open_loops:
            self._fail(pc, insn, "a grid stands outside all loops and grids")
        count = insn.args["loops"]
        trips = tuple(insn.args[f"t{i}"] for i in range(count))
        body = self._body(pc, insn, "endgrid", (1 << count) - 1)
        return Grid(pc, words, insn.args["phase"], trips, body, _has_scalars(body), insn)

    def _body(self, start: int, opening: Insn, end: str, open_loops: int) -> tuple[Node, ...]:
        nodes: list[Node] = []
        while True:
            if self._pc >= len(self._words):
                self._fail(start, opening, f"has no matching {end}")
            pc, words, insn, instruction = self._next()
            if insn.op == end:
                self._plain_sequencer(pc, insn)
                return tuple(nodes)
            nodes.append(self._node(pc, words, insn, instruction, open_loops))

    def _plain_sequencer(self, pc: int, insn: Insn) -> None:
        if insn.pred is not None or insn.wait or insn.set or insn.order:
            self._fail(pc, insn, "takes no predicate, no semaphores and no order bit")

    def _set_up(self, pc: int, insn: Insn) -> None:
        a = insn.args
        if insn.op == "szc":
            self._sizes[a["size"]] = SizeDef("const", a["full"])
        elif insn.op == "szt":
            self._sizes[a["size"]] = SizeDef("tail", a["full"], a["tail"], a["loop"])
        elif insn.op == "sza":
            steps = {name: a[name] for name in ("loop_a", "loop_b", "base", "step_a", "step_b")}
            self._sizes[a["size"]] = SizeDef("affine", a["full"], **steps)
        elif insn.op == "szr":
            self._sizes[a["size"]] = SizeDef("reg", a["full"], reg=a["reg"])
        elif insn.op == "desc":
            self._descs[a["desc"]] = self._desc(pc, a)
        elif insn.op == "dstr":
            old = self._descriptor(pc, insn)
            self._descs[a["desc"]] = replace(old, strides=(*old.strides, (a["loop"], a["stride"])))
        elif insn.op == "dwin":
            self._window(pc, insn)
        elif insn.op == "ring":
            ring = RingDef(a["slot_bytes"], a["slots"], a["ready"], a["free"])
            self._rings[a["ring"]] = ring
            self._set_counts(pc, {ring.ready: 0, ring.free: ring.slots}, (a["ring"],))
        else:
            self._set_counts(pc, {a["sem"]: a["value"]})

    def _desc(self, pc: int, a: Mapping[str, int]) -> DescDef:
        space, reloc = self._spaces[a["space"]], self._relocs.get(pc + self._base_word)
        base, arg = (a["base"], None) if reloc is None else (reloc.addend, reloc.arg)
        return DescDef(space, base, a["pitch"], a["ring"], a["role"], a["reg"], a["reg_stride"], arg=arg)

    def _window(self, pc: int, insn: Insn) -> None:
        a = insn.args
        old = self._descriptor(pc, insn)
        if old.space != "gm":
            self._fail(pc, insn, f"descriptor d{a['desc']} is in {old.space}; windows are for global memory")
        window = WindowDef(**{name: value for name, value in a.items() if name != "desc"})
        self._descs[a["desc"]] = replace(old, window=window)

    def _descriptor(self, pc: int, insn: Insn) -> DescDef:
        found = self._descs.get(insn.args["desc"])
        if found is None:
            self._fail(pc, insn, f"descriptor d{insn.args['desc']} is not defined")
        return found

    def _fail(self, pc: int, insn: Insn | None, message: str) -> NoReturn:
        raise SimulationError(message, f"word {pc}" if insn is None else f"word {pc} ({insn.op})")


def _has_scalars(body: tuple[Node, ...]) -> bool:
    return any(isinstance(n, Scalar) or (isinstance(n, (Loop, Grid)) and n.has_scalars) for n in body)
