"""Whatever words an image holds, the verifier ends in a report or in VerifyError, after a bounded number of steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.isa.strategies import images, insns
from tests.isa.verifier.programs import CAUSAL, ELEMENTWISE, ISA, PIPELINE, PRODUCT, SPLIT, UNIFIED

from npuvm.isa import Entry, Image, Reloc, assemble, decode_program, encode, verify
from npuvm.isa.verifier import RULES

BASES = [assemble(ISA, text) for text in (ELEMENTWISE, PRODUCT, CAUSAL, PIPELINE)]
STEPS = 5000


def check(image: Image) -> None:
    for limits in (UNIFIED, SPLIT):
        report = verify(ISA, image, limits, argument_bytes=[1 << 20] * image.n_args, collect=True, max_steps=STEPS)
        assert {finding.rule for finding in report.findings} <= set(RULES)
        assert report.steps <= STEPS + 1


@st.composite
def damaged(draw: Any) -> Image:
    """A legal program with an operand of some instructions changed, or with instructions put in, doubled or taken out."""
    image: Image = draw(st.sampled_from(BASES))
    program = [insn for _, insn in decode_program(ISA, image.words)]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(program) - 1))
        kind = draw(st.sampled_from(["operand", "operand", "operand", "insert", "drop", "double", "random"]))
        if kind == "operand":
            program[at] = draw(insns(ISA, ISA.instruction(program[at].op)))
        elif kind == "insert":
            program.insert(at, draw(insns(ISA)))
        elif kind == "random":
            program[at] = draw(insns(ISA))
        elif kind == "double":
            program.insert(at, program[at])
        elif len(program) > 1:
            del program[at]
    words = [word for insn in program for word in encode(ISA, insn)]
    return replace(image, words=np.array(words, dtype=np.uint64))


@settings(max_examples=150)
@given(damaged())
def test_damaged_programs(image: Image) -> None:
    check(image)


@settings(max_examples=50)
@given(images(ISA))
def test_any_image(image: Image) -> None:
    check(image)


@given(st.sampled_from(BASES), st.data())
@settings(max_examples=50)
def test_damaged_entries_and_relocations(image: Image, data: st.DataObject) -> None:
    bound = st.integers(0, 20) | st.sampled_from([1 << 40, (1 << 64) - 1])
    ranges = st.lists(st.tuples(bound, bound), max_size=2).map(tuple)
    entry = st.builds(Entry, st.sampled_from(["unified", "cube", "vector"]), st.integers(0, 60), ranges)
    reloc = st.builds(Reloc, st.integers(0, 99), st.integers(0, 3), st.integers(-64, 64))
    entries = tuple(data.draw(st.lists(entry, max_size=4)))
    relocs = tuple(data.draw(st.lists(reloc, max_size=4)))
    check(replace(image, entries=entries or image.entries, relocs=relocs))
