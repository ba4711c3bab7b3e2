"""Arbitrary and almost right input: never a crash, always a class, an image, or an error that says what and where."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from tests.fuzz import targets
from tests.fuzz.budget import fuzz
from tests.fuzz.guarded import Launchable, launches, the_isa
from tests.isa.strategies import images, insns
from tests.isa.verifier.programs import CAUSAL, ELEMENTWISE, PIPELINE, PRODUCT, SPLIT, UNIFIED

from npuvm.isa import Image, Instruction, assemble, decode_program, disassemble, encode

ISA = the_isa()
TEXTS = (ELEMENTWISE, PRODUCT, CAUSAL, PIPELINE)
PROGRAMS = [assemble(ISA, text) for text in TEXTS]
WORD = st.integers(0, (1 << 64) - 1)
SCRAPS = """| wait set order if first(l0) changed( ) , . -> = @arg0 @arg0+64 @ + - # : " \\ .word .entry .args .isa .image
.reloc 0x 0b1 -1 1e9 inf nan m62 m63 l8 s64 d256 g0 r15 unified cube vector 0:5 9999999999999999999999"""
PIECES = st.sampled_from(
    [
        *ISA.instructions,
        *ISA.dtypes,
        *sorted({operand.name for each in ISA.instructions.values() for operand in each.operands}),
        *SCRAPS.split(),
        *"\t\r\x0b\u2003é",
    ]
)


@st.composite
def heads(draw: Any) -> list[int]:
    """An allocated opcode, most often with its length, the other bits at random."""
    chosen: Instruction = draw(st.sampled_from(list(ISA.instructions.values())))
    length = draw(st.sampled_from([chosen.words] * 7 + [0, 7]))
    operands = draw(st.lists(WORD, min_size=chosen.words, max_size=chosen.words + 1))
    return [draw(WORD) & ~0x7FF | chosen.opcode | length << 8, *operands]


@st.composite
def almost_legal(draw: Any) -> list[int]:
    """Legal instructions with up to three bits changed."""
    words = [word for insn in draw(st.lists(insns(ISA), min_size=1, max_size=4)) for word in encode(ISA, insn)]
    for _ in range(draw(st.integers(0, 3))):
        words[draw(st.integers(0, len(words) - 1))] ^= 1 << draw(st.integers(0, 63))
    return words


@st.composite
def damaged_text(draw: Any) -> str:
    """The text of a program with pieces put in, replaced or taken out."""
    text: str = draw(st.sampled_from([*TEXTS, *(disassemble(ISA, program) for program in PROGRAMS)]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.sampled_from([0, 0, 1, 2, 8, 40]))
        text = text[:at] + draw(PIECES | st.text(max_size=3) | st.just("\n")) + text[at + cut :]
    return text


@st.composite
def damaged_bytes(draw: Any) -> bytes:
    """A serialised image with bytes changed, cut or put in, most often with the checksum that belongs to it."""
    image: Image = draw(st.sampled_from(PROGRAMS) | images(ISA))
    body = bytearray(image.to_bytes()[:-4])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        cut = draw(st.sampled_from([0, 1, 1, 1, 4, 8]))
        body[at : at + cut] = draw(st.binary(min_size=min(cut, 1), max_size=8))
    right = draw(st.sampled_from([True] * 7 + [False]))
    return bytes(body) + struct.pack("<I", zlib.crc32(body) ^ (not right))


@st.composite
def damaged_programs(draw: Any, bases: tuple[Image, ...]) -> Image:
    """A program with operands of some instructions changed, instructions put in, doubled or taken out, or bits flipped."""
    image: Image = draw(st.sampled_from(bases))
    program = [insn for _, insn in decode_program(ISA, image.words)]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(program) - 1))
        kind = draw(
            st.sampled_from(["operand", "operand", "operand", "value", "value", "insert", "drop", "double", "swap"])
        )
        if kind == "operand":
            program[at] = draw(insns(ISA, ISA.instruction(program[at].op)))
        elif kind == "value" and program[at].args:
            name = draw(st.sampled_from(sorted(program[at].args)))
            spec = ISA.instruction(program[at].op).operand(name)
            near = max(spec.low, min(spec.high, program[at].args[name] + draw(st.integers(-2, 2))))
            if not spec.values or near in spec.values.values():
                program[at] = replace(program[at], args={**program[at].args, name: near})
        elif kind == "insert":
            program.insert(at, draw(insns(ISA)))
        elif kind == "double":
            program.insert(at, program[at])
        elif kind == "swap":
            other = draw(st.integers(0, len(program) - 1))
            program[at], program[other] = program[other], program[at]
        elif len(program) > 1:
            del program[at]
    words = [word for insn in program for word in encode(ISA, insn)]
    for _ in range(draw(st.integers(0, 2))):
        words[draw(st.integers(0, len(words) - 1))] ^= 1 << draw(st.integers(0, 63))
    return replace(image, words=np.array(words, dtype=np.uint64))


@st.composite
def damaged_launches(draw: Any) -> tuple[Launchable, Image]:
    """A compiled image, damaged."""
    launch: Launchable = draw(st.sampled_from(list(launches().values())))
    return launch, draw(damaged_programs((launch.image,)))


WORDS = st.lists(WORD, min_size=1, max_size=8) | heads() | almost_legal()


def test_decoder() -> None:
    assert fuzz("decoder", WORDS, targets.decoded, 300, 0.15).outcomes["legal"]


def test_disassembler() -> None:
    assert fuzz("disassembler", WORDS, targets.disassembled, 150, 0.1).outcomes["no instruction"]


def test_assembler() -> None:
    texts = st.text(max_size=60) | damaged_text() | st.lists(PIECES, max_size=12).map(" ".join)
    assert fuzz("assembler", texts, targets.assembled, 150, 0.15).outcomes["refused"]


def test_loader() -> None:
    assert fuzz("loader", st.binary(max_size=200) | damaged_bytes(), targets.loaded, 200, 0.15).outcomes["refused"]


@pytest.mark.parametrize("limits", [UNIFIED, SPLIT], ids=["unified", "split"])
def test_verifier(limits: Any) -> None:
    values = damaged_programs(tuple(PROGRAMS)) | images(ISA)
    name = "verifier, " + "-".join(limits.group)
    assert fuzz(name, values, partial(targets.verified, limits=limits), 60, 0.1).outcomes["refused"]


def test_launches() -> None:
    def run(value: tuple[Launchable, Image]) -> str:
        launch, image = value
        return targets.ran(image, launch.arguments, 20 * launch.cycles)

    assert fuzz("launches", damaged_launches(), run, 60, 0.25).outcomes["refused"]
