from __future__ import annotations

import re

import numpy as np
import pytest

from npuvm.hw.config import load_chip
from npuvm.hw.errors import SimulationError, TrapError
from npuvm.hw.expansion.expand import Expansions
from npuvm.hw.expansion.program import (
    BarrierStep,
    Block,
    Grid,
    HaltStep,
    Leaf,
    Loop,
    ProgramText,
    Scalar,
    SemaphoreStep,
)
from npuvm.isa import Insn, Pred, encode_program, load_isa

ISA = load_isa()
CHIP = load_chip("edge")


def insn(op: str, dtype: str | None = None, pred: Pred | None = None, **args: int) -> Insn:
    return Insn(op, dtype, args=args, pred=pred)


SIZE = insn("szc", size=0, full=2)
DESC = insn("desc", desc=0, space=1, base=0, pitch=64)
COPY = insn("vmov", "fp16", dst=0, a=0, rows=0, cols=0)
LOOP, END = insn("loop", loop=0, trip=0), insn("endloop")
GRID, ENDGRID = insn("grid", loops=1, phase=0, t0=0), insn("endgrid")
HALT = insn("halt")
OVER_LOOP_0 = insn("szt", size=1, loop=0, full=2, tail=1)


def run(insns: list[Insn], ranges: list[tuple[int, int]] | None = None) -> None:
    for _ in Expansions(ISA, encode_program(ISA, insns), CHIP).core(0, ranges or []):
        pass


def test_the_tree_of_a_program() -> None:
    ring = insn("ring", ring=0, slot_bytes=64, slots=3, ready=1, free=2)
    insns = [
        SIZE,
        ring,
        insn("sem", sem=9, value=4),
        DESC,
        GRID,
        COPY,
        LOOP_1 := insn("loop", loop=1, trip=0),
        insn("li", rd=1, imm=3),
        END,
        ENDGRID,
        COPY,
        insn("barrier", scope=2),
        SIZE,
        COPY,
        HALT,
    ]
    assert LOOP_1 in insns
    program = ProgramText(ISA, encode_program(ISA, insns)).program(0)
    rings, sems, first, barrier, second, halt = program.steps
    assert isinstance(rings, SemaphoreStep)
    assert (rings.values, rings.rings, rings.lead_words) == (((1, 0), (2, 3)), (0,), 2 + 2)
    assert isinstance(sems, SemaphoreStep)
    assert (sems.values, sems.rings, sems.lead_words) == (((9, 4),), (), 1)
    assert isinstance(first, Block)
    assert first.lead_words == 3
    grid, copy = first.nodes
    assert isinstance(grid, Grid)
    assert isinstance(copy, Leaf)
    assert grid.has_scalars
    assert isinstance(grid.body[1], Loop)
    assert isinstance(grid.body[1].body[0], Scalar)
    assert isinstance(barrier, BarrierStep)
    assert (barrier.scope, barrier.lead_words) == ("launch", 1)
    assert isinstance(second, Block)
    assert second.lead_words == 2
    assert isinstance(halt, HaltStep)


def test_tables_are_those_at_the_place_of_the_block() -> None:
    insns = [SIZE, DESC, insn("dstr", desc=0, loop=1, stride=-4), COPY, insn("szc", size=0, full=9), DESC, COPY, HALT]
    first, second, _ = ProgramText(ISA, encode_program(ISA, insns)).program(0).steps
    assert isinstance(first, Block)
    assert isinstance(second, Block)
    assert (first.tables.sizes[0].full, first.tables.descs[0].strides) == (2, ((1, -4),))
    assert (second.tables.sizes[0].full, second.tables.descs[0].strides) == (9, ())


def test_programs_are_parsed_once_per_entry() -> None:
    text = ProgramText(ISA, encode_program(ISA, [SIZE, DESC, COPY, HALT]))
    assert text.program(0) is text.program(0)


@pytest.mark.parametrize(
    ("insns", "message"),
    [
        ([SIZE], "word 2: the program has 2 words and no halt before its end"),
        ([SIZE, LOOP, HALT], "word 3 (halt): inside a loop"),
        ([SIZE, LOOP], "word 2 (loop): has no matching endloop"),
        ([SIZE, GRID, END], "word 4 (endloop): has no matching loop or grid"),
        ([ENDGRID, HALT], "word 0 (endgrid): has no matching loop or grid"),
        ([SIZE, LOOP, LOOP, END, END, HALT], "word 3 (loop): loop 0 is already open"),
        ([SIZE, GRID, LOOP, END, ENDGRID, HALT], "word 4 (loop): loop 0 is already open"),
        ([SIZE, LOOP, GRID, ENDGRID, END, HALT], "word 3 (grid): a grid stands outside all loops"),
        ([SIZE, LOOP, SIZE, END, HALT], "word 3 (szc): set-up is allowed outside loops"),
        ([SIZE, LOOP, insn("barrier", scope=0), END, HALT], "word 3 (barrier): inside a loop"),
        ([insn("dstr", desc=3, loop=0, stride=4), HALT], "word 0 (dstr): descriptor d3 is not defined"),
        ([DESC, insn("dwin", desc=0, rows=1, cols=1), HALT], "word 3 (dwin): descriptor d0 is in ub; windows are for"),
        ([insn("szc", size=0, full=1, pred=Pred("first", 1)), HALT], "word 0 (szc): takes no predicate"),
        ([Insn("li", args={"rd": 0, "imm": 0}, set=(3,)), HALT], "word 0 (li): the sequencer neither waits nor sets"),
    ],
)
def test_malformed_programs_name_the_word(insns: list[Insn], message: str) -> None:
    with pytest.raises(SimulationError, match=re.escape(message)):
        ProgramText(ISA, encode_program(ISA, insns)).program(0)


def test_words_that_are_no_instruction() -> None:
    with pytest.raises(SimulationError, match="word 0: opcode 0x00 is not allocated"):
        ProgramText(ISA, np.zeros(2, dtype=np.uint64)).program(0)


@pytest.mark.parametrize(
    ("insns", "message"),
    [
        ([SIZE, COPY, HALT], "word 2 (vmov): descriptor d0 is not defined"),
        ([DESC, COPY, HALT], "word 3 (vmov): size s0 is not defined"),
        ([DESC, LOOP, END, HALT], "word 3 (loop): size s0 is not defined"),
        ([insn("desc", desc=0, space=2, base=0), SIZE, COPY, HALT], "operand dst: descriptor d0 is in l1; allowed: ub"),
        (
            [insn("desc", desc=0, space=1, base=0, role=1, ring=5), SIZE, COPY, HALT],
            "uses ring g5, which is not defined",
        ),
        (
            [OVER_LOOP_0, DESC, insn("vmov", "fp16", dst=0, a=0, rows=1, cols=1), HALT],
            "size s1 depends on loop 0, which is not open here",
        ),
        (
            [SIZE, DESC, insn("vmov", "fp16", Pred("last", 4), dst=0, a=0, rows=0, cols=0), HALT],
            "predicate last depends on loop 2, which is not open here",
        ),
        (
            [SIZE, DESC, insn("li", rd=0, imm=1, pred=Pred("first", 1)), HALT],
            "word 5 (li): predicate first depends on loop 0, which is not open here",
        ),
        ([insn("lds", "int32", rd=0, src=4), HALT], "word 0 (lds): descriptor d4 is not defined"),
        ([DESC, insn("lds", "int32", rd=0, src=0), HALT], "word 3 (lds): descriptor d0 must be plain global memory"),
        (
            [insn("desc", desc=0, space=0, base=0), insn("lds", "int32", rd=0, src=0), HALT],
            "word 3 (lds): no value was given",
        ),
        ([SIZE, GRID, ENDGRID, HALT], "word 2 (grid): phase 0 has no tile range"),
    ],
)
def test_programs_that_cannot_run_name_the_instruction(insns: list[Insn], message: str) -> None:
    with pytest.raises(SimulationError, match=re.escape(message)):
        run(insns)


def test_a_division_by_zero_traps() -> None:
    with pytest.raises(TrapError, match=re.escape("word 0 (scdiv): trap divide_by_zero")) as caught:
        run([insn("scdiv", rd=0, ra=1, rb=2), HALT])
    assert caught.value.trap == "divide_by_zero"


@pytest.mark.parametrize("tiles", [(0, 3), (2, 1), (-1, 1)])
def test_tiles_must_lie_in_the_grid(tiles: tuple[int, int]) -> None:
    with pytest.raises(SimulationError, match=r"word 5 \(grid\): the core's tiles .* are not within the grid's 2"):
        run([SIZE, DESC, GRID, COPY, ENDGRID, HALT], [tiles])
