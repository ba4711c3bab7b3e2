"""Programs for the verifier's tests: legal ones, which the tests change in one place, and the limits of small chips."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from npuvm.isa import (
    CapacityLimits,
    Finding,
    Image,
    Insn,
    assemble,
    decode_program,
    encode,
    format_insn,
    load_isa,
    verify,
)

ISA = load_isa()

_UNIFIED_UNITS = frozenset({"seq", "load", "move", "cube", "fixpipe", "vector", "store"})
_SPACES = {"ub": 65536, "l1": 65536, "l0a": 16384, "l0b": 16384, "l0c": 32768}

UNIFIED = CapacityLimits({"unified": _SPACES}, {"unified": _UNIFIED_UNITS}, {"unified": 4}, ("unified",))
"""Four cores of one type."""

SPLIT = CapacityLimits(
    {
        "cube": {name: size for name, size in _SPACES.items() if name != "ub"},
        "vector": {"ub": 65536},
    },
    {
        "cube": frozenset({"seq", "load", "move", "cube", "fixpipe"}),
        "vector": frozenset({"seq", "load", "vector", "store"}),
    },
    {"cube": 2, "vector": 4},
    ("cube", "vector", "vector"),
)
"""Two groups of one cube core and two vector cores."""

ELEMENTWISE = """
.args 2
.entry unified 0 0:6
.entry unified 0 6:12
szc size=s0 full=12
szc size=s1 full=64
szt size=s2 loop=l0 full=16 tail=5
ring ring=g0 slot_bytes=2048 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=2048 slots=3 ready=m2 free=m3
desc desc=d0 space=gm base=@arg0 pitch=128
dstr desc=d0 loop=l0 stride=2048
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=128
desc desc=d2 space=ub role=consumer base=0x0 ring=g0 pitch=128
desc desc=d3 space=ub base=0x8000 pitch=128
desc desc=d4 space=ub role=producer base=0x1000 ring=g1 pitch=128
desc desc=d5 space=ub role=consumer base=0x1000 ring=g1 pitch=128
desc desc=d6 space=gm base=@arg1 pitch=128
dstr desc=d6 loop=l0 stride=2048
grid loops=1 phase=0 t0=s0
  ld.fp16 dst=d1 src=d0 rows=s2 cols=s1 | wait m1 set m0
  vmuls.fp16 dst=d3 a=d2 rows=s2 cols=s1 imm=2.0 | wait m0
  vadd.fp16 dst=d4 a=d3 b=d2 rows=s2 cols=s1 | wait m3 set m2 m1 order
  st.fp16 dst=d6 src=d5 rows=s2 cols=s1 | wait m2 set m3
endgrid
halt
"""
"""y = 2 x + x over twelve tiles of rows: load ring g0, a temporary, store ring g1."""

PRODUCT = """
.args 3
.entry unified 0 0:12
.entry unified 0 12:15
szc size=s0 full=3
szc size=s1 full=5
szc size=s2 full=16
szc size=s3 full=4
ring ring=g0 slot_bytes=512 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=512 slots=2 ready=m2 free=m3
ring ring=g2 slot_bytes=512 slots=2 ready=m4 free=m5
ring ring=g3 slot_bytes=1024 slots=2 ready=m6 free=m7
desc desc=d0 space=gm base=@arg0 pitch=128
dstr desc=d0 loop=l0 stride=2048
desc desc=d1 space=gm base=@arg1 pitch=32
desc desc=d2 space=gm base=@arg2 pitch=64
desc desc=d3 space=l1 role=producer base=0x0 ring=g0 pitch=32
desc desc=d4 space=l1 role=consumer base=0x0 ring=g0 pitch=32
desc desc=d5 space=l1 role=producer base=0x400 ring=g1 pitch=32
desc desc=d6 space=l1 role=consumer base=0x400 ring=g1 pitch=32
desc desc=d7 space=l0a role=producer base=0x0 ring=g2 pitch=32
desc desc=d8 space=l0a role=consumer base=0x0 ring=g2 pitch=32
desc desc=d9 space=l0b role=producer base=0x0 ring=g2 pitch=32
desc desc=d10 space=l0b role=consumer base=0x0 ring=g2 pitch=32
desc desc=d11 space=l0c role=producer base=0x0 ring=g3 pitch=64
desc desc=d12 space=l0c role=consumer base=0x0 ring=g3 pitch=64
grid loops=2 phase=0 t0=s0 t1=s1
  ld.fp16 dst=d3 src=d0 rows=s2 cols=s2 | if changed(l0) wait m1 set m0
  usync unit=move | if changed(l0) wait m0
  usync unit=cube | wait m7
  loop loop=l2 trip=s3
    ld.fp16 dst=d5 src=d1 rows=s2 cols=s2 | wait m3 set m2
    mvl0a.fp16 dst=d7 src=d4 rows=s2 cols=s2 | wait m5
    mvl0b.fp16 dst=d9 src=d6 rows=s2 cols=s2 | wait m2 set m4 m3
    mma.fp16 dst=d11 a=d8 b=d10 m=s2 n=s2 k=s2 | if first(l2) wait m4 set m5
    mmac.fp16 dst=d11 a=d8 b=d10 m=s2 n=s2 k=s2 | if not_first(l2) wait m4 set m5 order
  endloop
  usync unit=move | if changes(l0) set m1
  usync unit=cube | set m6
  fix.fp32->fp32 dst=d2 src=d12 rows=s2 cols=s2 | wait m6 set m7
endgrid
halt
"""
"""Two-dimensional grid over the cube, the left operand kept while l0 stands."""

CAUSAL = """
.args 2
.entry unified 0 0:15
.entry unified 0 3:11
szc size=s0 full=5
szt size=s1 loop=l0 full=3 tail=3
sza size=s2 loop_a=l0 loop_b=l1 full=4 base=-1 step_a=1 step_b=1
szc size=s3 full=16
ring ring=g0 slot_bytes=512 slots=3 ready=m0 free=m1
ring ring=g1 slot_bytes=512 slots=2 ready=m2 free=m3
desc desc=d0 space=gm base=@arg0 pitch=32
dstr desc=d0 loop=l2 stride=512
desc desc=d1 space=ub role=producer base=0x0 ring=g0 pitch=32
desc desc=d2 space=ub role=consumer base=0x0 ring=g0 pitch=32
desc desc=d3 space=ub role=producer base=0x600 ring=g1 pitch=32
desc desc=d4 space=ub role=consumer base=0x600 ring=g1 pitch=32
desc desc=d5 space=gm base=@arg1 pitch=32
grid loops=2 phase=0 t0=s0 t1=s1
  vdup.fp16 dst=d3 rows=s3 cols=s3 imm=0x0 | wait m3
  loop loop=l2 trip=s2
    ld.fp16 dst=d1 src=d0 rows=s3 cols=s3 | wait m1 set m0
    vadd.fp16 dst=d3 a=d3 b=d2 rows=s3 cols=s3 | wait m0 set m1 order
  endloop
  usync unit=vector | set m2
  st.fp16 dst=d5 src=d4 rows=s3 cols=s3 | wait m2 set m3
endgrid
halt
"""
"""Sums as many tiles as the counters of the grid say, none on the first tile."""

RELAY = """
.entry unified 0 0:9
szc size=s0 full=9
szc size=s1 full=16
ring ring=g0 slot_bytes=1024 slots=2 ready=m0 free=m1
ring ring=g1 slot_bytes=512 slots=2 ready=m3 free=m4
sem sem=m2 value=0
desc desc=d0 space=gm base=@arg0 pitch=64
desc desc=d1 space=l1 role=producer base=0x0 ring=g1 pitch=32
desc desc=d2 space=l1 role=consumer base=0x0 ring=g1 pitch=32
desc desc=d3 space=l0c role=producer base=0x0 ring=g0 pitch=64
desc desc=d4 space=l0c role=consumer base=0x0 ring=g0 pitch=64
grid loops=1 phase=0 t0=s0
  ld.fp16 dst=d1 src=d0 rows=s1 cols=s1 | wait m4 set m3
  usync unit=move | wait m1
  mvl0c.fp16 dst=d3 src=d2 rows=s1 cols=s1 | wait m3 set m4 m2
  usync unit=cube | wait m2 set m0
  fix.fp32->fp32 dst=d0 src=d4 rows=s1 cols=s1 | wait m0 set m1
endgrid
halt
"""
"""The move unit takes a slot of the accumulators and the cube hands it on, after a semaphore between the two."""

PIPELINE = """
.args 0
.entry cube cube
.entry vector vector
.entry vector vector2
cube:
sem sem=m40 value=0
sem sem=m41 value=0
sem sem=m42 value=2
barrier scope=group
szc size=s0 full=9
loop loop=l0 trip=s0
  usync unit=fixpipe | wait m42 set m40 m41
endloop
barrier scope=launch
halt
vector:
barrier scope=group
szc size=s0 full=9
loop loop=l0 trip=s0
  usync unit=vector | wait m40 set m42
endloop
barrier scope=launch
halt
vector2:
barrier scope=group
szc size=s0 full=9
loop loop=l0 trip=s0
  usync unit=vector | wait m41
endloop
barrier scope=launch
halt
"""
"""A cube core that signals two vector cores through semaphores of group scope."""


def change(text: str, old: str, new: str) -> str:
    """`text` with its only occurrence of `old` replaced."""
    assert text.count(old) == 1, (old, text.count(old))
    return text.replace(old, new)


def findings(
    text: str, limits: CapacityLimits = UNIFIED, argument_bytes: Sequence[int] | None = None, absolute: bool = False
) -> tuple[Finding, ...]:
    """All findings about a program given as text."""
    image = assemble(ISA, text, "test")
    return verify(ISA, image, limits, argument_bytes=argument_bytes, absolute=absolute, collect=True).findings


def word_of(text: str, instruction: str) -> int:
    """Word index of the only line that begins with `instruction`."""
    lines = [re.sub(r"^\w+:", "", line).split("#")[0].strip() for line in text.splitlines()]
    index = [i for i, line in enumerate(lines) if line.startswith(instruction)]
    assert len(index) == 1, (instruction, index)
    before = [line for line in lines[: index[0]] if not line.startswith(".") or line.startswith(".word")]
    return len(assemble(ISA, "\n".join(before)).words)


def mutants(text: str) -> Iterator[tuple[str, Image]]:
    """The image with one wait, set, order bit or predicate taken away, in every place."""
    image = assemble(ISA, text, "test")
    for pc, insn in decode_program(ISA, image.words):
        changed: list[Insn] = []
        for field in ("wait", "set"):
            numbers = getattr(insn, field)
            changed += [replace(insn, **{field: numbers[:i] + numbers[i + 1 :]}) for i in range(len(numbers))]
        changed += [replace(insn, order=False)] if insn.order else []
        changed += [replace(insn, pred=None)] if insn.pred else []
        for mutant in changed:
            words = image.words.copy()
            encoded = encode(ISA, mutant)
            words[pc : pc + len(encoded)] = encoded
            yield f"{pc}: {format_insn(ISA, insn)}", replace(image, words=words)
