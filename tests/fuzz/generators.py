"""Input that is almost right, made from a `Random`: far more of it in a second than a search strategy draws value by value."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st
from tests.fuzz.guarded import the_isa

from npuvm.isa import Image, Insn, Instruction, OperandSpec, Pred, decode_program, encode

T = TypeVar("T")

_ISA = the_isa()
_ALL = list(_ISA.instructions.values())
_ON = [each for each in _ALL if _ISA.features[each.feature]]
_PREDICATES = [kind for kind in _ISA.predicates if kind != "always"]
_SCRAPS = """| wait set order if first(l0) changed( ) , . -> = @arg0 @arg0+64 @ + - # : " \\ .word .entry .args .isa .image
.reloc 0x 0b1 -1 1e9 inf nan m62 m63 l8 s64 d256 g0 r15 unified cube vector 0:5 9999999999999999999999"""
PIECES = [
    *_ISA.instructions,
    *_ISA.dtypes,
    *sorted({operand.name for each in _ALL for operand in each.operands}),
    *_SCRAPS.split(),
    *" \t\r\n\x0b\u2003é",
]
"""Words and signs of the assembly language, and a few that are none of it."""


def seeded(make: Callable[[Random], T]) -> st.SearchStrategy[T]:
    """What `make` gives for any seed."""
    return st.integers(0, (1 << 64) - 1).map(lambda number: make(Random(number)))


def legal(rng: Random, spec: Instruction | None = None) -> Insn:
    """An instruction that the encoder takes."""
    spec = spec or rng.choice(_ON)
    dtype, dtype2 = rng.choice(spec.dtypes) if spec.dtypes else (None, None)
    pred = Pred(rng.choice(_PREDICATES), rng.getrandbits(8)) if rng.random() < 0.2 else None
    args = {operand.name: _value(rng, operand) for operand in spec.operands}
    return Insn(spec.name, dtype, dtype2, args, _semaphores(rng), _semaphores(rng), pred, rng.random() < 0.2)


def _value(rng: Random, operand: OperandSpec) -> int:
    if operand.values:
        return rng.choice(list(operand.values.values()))
    small = rng.randint(operand.low, min(operand.high, operand.low + 8))
    return rng.choice([operand.low, operand.high, small, rng.randint(operand.low, operand.high)])


def _semaphores(rng: Random) -> tuple[int, ...]:
    return tuple(rng.randrange(_ISA.limits["semaphores"]) for _ in range(rng.choice([0, 0, 0, 1, 2])))


def words(rng: Random) -> list[int]:
    """Any words, an allocated opcode with any other bits, or legal instructions with up to three bits changed."""
    kind = rng.randrange(3)
    if kind == 0:
        return [rng.getrandbits(64) for _ in range(rng.randint(1, 8))]
    if kind == 1:
        spec = rng.choice(_ALL)
        length = rng.choice([spec.words] * 7 + [rng.randrange(8)])
        follow = spec.words + rng.choice([0, 0, 0, 1, -1])
        head = rng.getrandbits(64) & ~0x7FF | spec.opcode | length << 8
        return [head, *(rng.getrandbits(64) for _ in range(follow))]
    found = [word for _ in range(rng.randint(1, 4)) for word in encode(_ISA, legal(rng))]
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(64)
    return found


def text(rng: Random, bases: Sequence[str]) -> str:
    """The text of a program with pieces put in, replaced or taken out, or a heap of pieces."""
    if rng.random() < 0.1:
        return " ".join(rng.choice(PIECES) for _ in range(rng.randint(1, 12)))
    found = rng.choice(bases)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        at = rng.randint(0, len(found))
        cut = rng.choice([0, 0, 1, 1, 2, 8, 40])
        piece = rng.choice([rng.choice(PIECES), "", str(rng.randrange(70)), chr(rng.randrange(0x110000 - 0x800))])
        found = found[:at] + piece + found[at + cut :]
    return found.encode(errors="ignore").decode()


def serialised(rng: Random, bases: Sequence[Image]) -> bytes:
    """A serialised image with bits or bytes changed, cut or put in, most often with the checksum that belongs to it."""
    body = bytearray(rng.choice(bases).to_bytes()[:-4])
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        at = rng.randrange(len(body))
        kind = rng.randrange(4)
        if kind == 0:
            body[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            body[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif kind == 2:
            del body[at : at + rng.choice([1, 4, 8, len(body)])]
        else:
            body[at:at] = rng.randbytes(rng.choice([1, 4, 8]))
        if not body:
            break
    return bytes(body) + struct.pack("<I", zlib.crc32(body) ^ (rng.random() < 0.05))


def program(rng: Random, bases: Sequence[Image]) -> Image:
    """A program with operands changed, instructions put in, doubled, taken out or exchanged, or bits flipped."""
    image = rng.choice(bases)
    insns = [insn for _, insn in decode_program(_ISA, image.words)]
    for _ in range(rng.choice([0, 1, 1, 1, 1, 1, 2, 3])):
        at = rng.randrange(len(insns))
        kind = rng.choice(["value", "value", "value", "sync", "new", "put in", "double", "exchange", "take out"])
        if kind == "value":
            insns[at] = _near(rng, insns[at])
        elif kind == "sync":
            old = insns[at]
            without = [replace(old, wait=()), replace(old, set=()), replace(old, order=False), replace(old, pred=None)]
            insns[at] = rng.choice(without)
        elif kind == "new":
            insns[at] = legal(rng, _ISA.instruction(insns[at].op))
        elif kind == "put in":
            insns.insert(at, legal(rng))
        elif kind == "double":
            insns.insert(at, insns[at])
        elif kind == "exchange":
            other = rng.randrange(len(insns))
            insns[at], insns[other] = insns[other], insns[at]
        elif len(insns) > 1:
            del insns[at]
    found = [word for insn in insns for word in encode(_ISA, insn)]
    for _ in range(rng.choice([0, 0, 0, 0, 1, 2])):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(64)
    return replace(image, words=np.array(found, dtype=np.uint64))


def _near(rng: Random, insn: Insn) -> Insn:
    """The instruction with one operand a little larger, a little smaller, doubled or halved."""
    if not insn.args:
        return insn
    name = rng.choice(list(insn.args))
    spec = _ISA.instruction(insn.op).operand(name)
    old = insn.args[name]
    new = rng.choice([old - 1, old + 1, old + 32, old - 32, 2 * old, old // 2, 0, -old])
    new = max(spec.low, min(spec.high, new))
    if spec.values and new not in spec.values.values():
        return insn
    return replace(insn, args={**insn.args, name: new})
