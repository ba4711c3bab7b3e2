"""Whole launches on a chip with round numbers; the cycles are worked out by hand from docs/timing-model.md."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from npuvm.hw.config import load_chip
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.hazards import HazardError
from npuvm.hw.simulator import simulate
from npuvm.isa import Entry, Image, Insn, Reloc, encode, encode_program, load_isa

ISA = load_isa()
CHIP = load_chip(
    "edge",
    [
        "clock_ghz=1", "core.count=2", "core.sequencer.start_cycles=10", "core.sequencer.decode_cycles_per_word=1",
        "core.sequencer.dispatch_cycles=1", "core.sequencer.loop_cycles=2",
        "core.load.startup_cycles=16", "core.load.row_cycles=2",
        "core.load.ub_bytes_per_cycle=32", "core.load.chunk_bytes=128", "core.load.outstanding=32",
        "core.store.startup_cycles=16", "core.store.row_cycles=2", "core.store.bytes_per_cycle=32",
        "core.store.chunk_bytes=128", "core.store.outstanding=32", "core.vector.repeat_bytes=256",
        "core.vector.classes.valu.startup_cycles=5", "core.vector.classes.valu.cycles_per_repeat=1",
        "core.vector.classes.valu.row_cycles=0", "core.vector.classes.valu.latency_cycles=10",
        "core.sync.set_to_visible_cycles=1", "memory.l2.bandwidth_gbps=64", "memory.l2.slices=1",
        "memory.l2.line_bytes=128", "memory.l2.latency_cycles=20", "memory.hbm.bandwidth_gbps=32",
        "memory.hbm.channels=1", "memory.hbm.interleave_bytes=128", "memory.hbm.latency_cycles=100",
    ],
)  # fmt: skip
GM, UB, PRODUCER, CONSUMER = 0, 1, 1, 2


def make(
    op: str,
    dtype: str | None = None,
    *,
    wait: tuple[int, ...] = (),
    sets: tuple[int, ...] = (),
    order: bool = False,
    **args: int,
) -> Insn:
    return Insn(op, dtype, args=args, wait=wait, set=sets, order=order)


def image(insns: list[Insn], entries: list[tuple[tuple[int, int], ...]]) -> Image:
    """The image of a program whose descriptors 0, 1 and 2 are its three arguments."""
    words, relocs = 0, []
    for insn in insns:
        if insn.op == "desc" and insn.args["desc"] < 3:
            relocs.append(Reloc(words + 1, insn.args["desc"]))
        words += len(encode(ISA, insn))
    cores = tuple(Entry("unified", 0, ranges) for ranges in entries)
    return Image("vadd", ISA.hash, encode_program(ISA, insns), cores, tuple(relocs), 3)


ONE_TILE = [
    make("szc", size=0, full=2),
    make("szc", size=1, full=64),
    *(make("desc", desc=i, space=GM, base=0, pitch=128) for i in range(3)),
    *(make("desc", desc=3 + i, space=UB, base=1024 * i, pitch=128) for i in range(3)),
    make("ld", "fp16", dst=3, src=0, rows=0, cols=1, sets=(0,)),
    make("ld", "fp16", dst=4, src=1, rows=0, cols=1, sets=(1,)),
    make("vadd", "fp16", dst=5, a=3, b=4, rows=0, cols=1, wait=(0, 1), sets=(2,)),
    make("st", "fp16", dst=2, src=5, rows=0, cols=1, wait=(2,)),
    make("halt"),
]
"""dst = a + b for 2 x 64 fp16: 256 dense bytes, two requests of 128 for each operand."""


def test_one_core() -> None:
    """Set-up is 2 x 2 + 6 x 3 = 22 words, so the first load (3 words) is dispatched in 10 + 22 + 3 + 1 = 36, the second in 40.

    Load a: issue to 52. Its requests leave in 52 and 56, each a line of 4 cycles in the channel: 56 + 120 and 60 + 120 = 180.
    Load b starts when the port is through, 60: requests in 76 and 80, complete in 84 + 120 = 204.
    Add: visible in 205, one dense repeat, 5 + 1 cycles, complete in 205 + 6 + 10 = 221.
    Store: starts in 222, requests in 238 and 242, 2 cycles each in the slice: 244 + 20 = 264.
    """
    result = simulate(CHIP, ISA, image(ONE_TILE, [()]), addresses=[1024, 2048, 4096], data=False, trace=True)
    events = [(e.op, e.start, e.occupied_until, e.complete) for e in result.trace]
    assert sorted(events) == [("ld", 36, 60, 180), ("ld", 60, 84, 204), ("st", 222, 246, 264), ("vadd", 205, 211, 221)]
    assert result.cycles == 264
    vector = result.cores[0].units["vector"]
    # Dispatched in 40 + 2 + 1 = 43; a is visible in 181, b 24 later. All of that is before its first start.
    assert (vector.busy, vector.stalls) == (6, {"startup": 205, "tail": 53})
    load = result.cores[0].units["load"]
    assert (load.busy, load.stalls) == (48, {"startup": 36, "tail": 264 - 84})
    # By word, behind 22 words of set-up. The bytes of a transfer take 8 cycles besides.
    assert {at: astuple(each) for at, each in result.by_word.items()} == {
        22: ("load", ("ub", "gm"), 1, 16, 256),
        25: ("load", ("ub", "gm"), 1, 16, 256),
        28: ("vector", ("ub",), 1, 6, 0),
        30: ("store", ("gm", "ub"), 1, 16, 256),
    }


def test_two_cores_share_the_channel() -> None:
    """The same with a tile for each core, 512 bytes apart: 2 + 3 x 2 words and a grid of 2 words, 2 cycles more: all 12 later.

    Requests of one cycle are served core 0 first. Channel, load a, from 64: 68 core 0, 72 core 1, 76 core 0, 80 core 1. Load b,
    from 88: 92, 96, 100, 104: complete in 220 and 224. Adds: 221 to 237, 225 to 241. Stores start in 238 and 242. Slice: core 0
    254 to 256; 258 to 260, core 1 to 262; core 1 again 262 to 264: 264 + 20.
    """
    strides = [make("dstr", desc=i, loop=0, stride=512) for i in range(3)]
    grid = [make("szc", size=2, full=2), *strides, make("grid", loops=1, phase=0, t0=2)]
    program = image([*ONE_TILE[:8], *grid, *ONE_TILE[8:-1], make("endgrid"), make("halt")], [((0, 1),), ((1, 2),)])
    result = simulate(CHIP, ISA, program, addresses=[1024, 2048, 4096], data=False, trace=True)
    events = {(e.core, e.op, e.start, e.complete) for e in result.trace if e.op != "ld"}
    assert events == {(0, "vadd", 221, 237), (1, "vadd", 225, 241), (0, "st", 238, 280), (1, "st", 242, 284)}
    assert result.cycles == 284


def rings(tiles: int, rows: int) -> list[Insn]:
    """dst = a + b over `tiles` tiles of 8 x 64 fp16, the last with `rows` rows; two slots for each operand."""
    slot = 8 * 128
    insns = [
        make("szc", size=0, full=64),
        make("szt", size=1, loop=0, full=8, tail=rows),
        make("szc", size=2, full=tiles),
    ]
    for ring in range(3):
        insns.append(make("ring", ring=ring, slot_bytes=slot, slots=2, ready=2 * ring, free=2 * ring + 1))
    for i in range(3):
        insns += [make("desc", desc=i, space=GM, base=0, pitch=128), make("dstr", desc=i, loop=0, stride=slot)]
        for role in (PRODUCER, CONSUMER):
            insns.append(make("desc", desc=8 + 4 * i + role, space=UB, base=2 * slot * i, pitch=128, ring=i, role=role))
    return [
        *insns,
        make("grid", loops=1, phase=0, t0=2),
        make("ld", "fp16", dst=9, src=0, rows=1, cols=0, wait=(1,), sets=(0,)),
        make("ld", "fp16", dst=13, src=1, rows=1, cols=0, wait=(3,), sets=(2,)),
        make("usync", unit=ISA.units["vector"], wait=(5,)),
        make("vadd", "fp16", dst=17, a=10, b=14, rows=1, cols=0, wait=(0, 2), sets=(1, 3)),
        make("usync", unit=ISA.units["vector"], sets=(4,), order=True),
        make("st", "fp16", dst=2, src=18, rows=1, cols=0, wait=(4,), sets=(5,)),
        make("endgrid"),
        make("halt"),
    ]


@pytest.mark.parametrize(("tiles", "tail", "cut"), [(10, 5, 5), (7, 8, 3), (3, 1, 3), (1, 2, 0)])
def test_rings_on_two_cores_give_what_numpy_gives(tiles: int, tail: int, cut: int) -> None:
    rng = np.random.default_rng(tiles)
    rows = 8 * (tiles - 1) + tail
    a, b = (rng.standard_normal((rows, 64)).astype(np.float16) for _ in range(2))
    memory = GlobalMemory(1 << 24)
    addresses = [1 << 16, 2 << 16, 3 << 16]
    memory.write(addresses[0], a)
    memory.write(addresses[1], b)
    program = image(rings(tiles, tail), [((0, cut),), ((cut, tiles),)])
    windows = [(address, a.nbytes) for address in addresses]
    result = simulate(CHIP, ISA, program, memory=memory, addresses=addresses, windows=windows)
    np.testing.assert_array_equal(memory.read(addresses[2], a.nbytes).view(np.float16).reshape(rows, 64), a + b)
    assert result.by_op == {"ld": 2 * tiles, "usync": 2 * tiles, "vadd": tiles, "st": tiles}
    timing_only = simulate(CHIP, ISA, program, addresses=addresses, data=False)
    assert timing_only.cycles == result.cycles


def test_a_missing_wait_is_a_hazard() -> None:
    insns = [make("halt") if i.op == "halt" else Insn(i.op, i.dtype, args=i.args, set=i.set) for i in ONE_TILE]
    memory = GlobalMemory(1 << 20)
    windows = [(1024, 256), (2048, 256), (4096, 256)]
    with pytest.raises(HazardError, match="read after write in ub"):
        simulate(CHIP, ISA, image(insns, [()]), memory=memory, addresses=[1024, 2048, 4096], windows=windows)
