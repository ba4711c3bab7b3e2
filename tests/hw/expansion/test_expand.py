from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hw.expansion.expansion_oracle import Costs, Generator, Interpreter

from npuvm.hw.config import load_chip
from npuvm.hw.expansion.expand import Expansions, expansions_of
from npuvm.hw.expansion.stream import Barrier, Halt, Regions, ScalarLoad, SetSemaphores, Stream
from npuvm.isa import Entry, Image, Insn, Pred, Reloc, encode, encode_program, load_isa

ISA = load_isa()
CHIP = load_chip("edge", ["core.sequencer.start_cycles=7", "core.sequencer.decode_cycles_per_word=2"])
SEQ = CHIP.core.sequencer
COSTS = Costs(SEQ.decode_cycles_per_word, SEQ.dispatch_cycles, SEQ.loop_cycles, SEQ.scalar_cycles, SEQ.start_cycles)
LIMITS = (1, 5, 1 << 16)


def make(
    op: str, dtype: str | None = None, *, set: tuple[int, ...] = (), pred: Pred | None = None, **args: int
) -> Insn:
    return Insn(op, dtype, args=args, set=set, pred=pred)


def collect(regions: Regions, loads: list[int] | None = None) -> list[tuple[Any, ...]]:
    """Regions in the form of the oracle."""
    values = list(loads or [])
    out: list[tuple[Any, ...]] = []
    sent: int | None = None
    while True:
        try:
            region = regions.send(sent)
        except StopIteration:
            return out
        sent = None
        if isinstance(region, Stream):
            for i, s in enumerate(region.rows.site):
                site = region.sites[s]
                addresses = tuple(region.addr_rows[i][: len(site.operands)])
                sizes = tuple(region.size_rows[i][: len(site.sizes)])
                out.append(("insn", site.pc, region.rows.gap[i], addresses, sizes, tuple(region.origin_rows[i])))
        elif isinstance(region, SetSemaphores):
            out.append(("sems", region.gap, dict(region.values)))
        elif isinstance(region, Barrier):
            out.append(("barrier", region.gap, region.scope))
        elif isinstance(region, ScalarLoad):
            out.append(("load", region.gap, region.addr))
            sent = values.pop(0)
        else:
            assert isinstance(region, Halt)
            out.append(("halt", region.gap))


def expand(
    insns: list[Insn], ranges: list[tuple[int, int]] | None = None, loads: list[int] | None = None, limit: int = 1 << 16
) -> list[tuple[Any, ...]]:
    """What expansion of one core gives."""
    return collect(Expansions(ISA, encode_program(ISA, insns), CHIP, limit=limit).core(0, ranges or []), loads)


@settings(max_examples=60)
@given(st.integers(0, 2**40))
def test_expansion_is_what_a_plain_interpreter_does(seed: int) -> None:
    insns, shares = Generator(seed).program()
    numbers = random.Random(seed + 1)
    loads = [numbers.randint(-2, 5) for _ in range(300)]
    oracle = Interpreter(ISA, encode_program(ISA, insns), COSTS, shares, list(loads))
    expected = oracle.run()
    for limit in LIMITS:
        assert expand(insns, oracle.ranges, loads, limit) == expected


@settings(max_examples=30)
@given(st.integers(0, 2**40))
def test_cores_expanded_together_do_what_each_does_alone(seed: int) -> None:
    insns, _ = Generator(seed, scalars=False).program()
    words = encode_program(ISA, insns)
    numbers = random.Random(seed + 2)
    entries, expected = [], []
    for _ in range(4):
        grids = sum(insn.op == "grid" for insn in insns)
        shares = [(numbers.choice((0.0, numbers.random())), numbers.random()) for _ in range(grids)]
        oracle = Interpreter(ISA, words, COSTS, shares)
        expected.append(oracle.run())
        entries.append(Entry("unified", 0, tuple(oracle.ranges)))
    regions = Expansions(ISA, words, CHIP).launch(entries)
    # Cores ask in any order and at any pace.
    assert [collect(regions[i]) for i in (2, 0, 3, 1)] == [expected[i] for i in (2, 0, 3, 1)]


def test_an_image_is_decoded_once_and_moves_with_its_arguments() -> None:
    insns = [*TILE, make("desc", desc=1, space=0, base=0, pitch=6), make("dstr", desc=1, loop=1, stride=100)]
    load = make("ld", "fp16", dst=0, src=1, rows=0, cols=1)
    insns += [make("loop", loop=1, trip=1), load, END, HALT]
    relocs = (Reloc(sum(len(encode(ISA, insn)) for insn in insns[:3]) + 1, 0, 8),)
    image = Image("copy", ISA.hash, encode_program(ISA, insns), (Entry("unified", 0),), relocs, 1)
    expansions = expansions_of(ISA, image, CHIP)
    assert expansions_of(ISA, image, CHIP) is expansions
    for address in (4096, 1024):
        [regions] = expansions.launch(image.entries, [address])
        stream = next(region for region in regions if isinstance(region, Stream))
        assert stream.rows.gm_addr == [address + 8, address + 108, address + 208]
        assert [row[1] for row in stream.addr_rows] == stream.rows.gm_addr


def sizes_of(insns: list[Insn], ranges: list[tuple[int, int]] | None = None) -> list[tuple[int, ...]]:
    return [item[4] for item in expand(insns, ranges) if item[0] == "insn"]


def addresses_of(insns: list[Insn], ranges: list[tuple[int, int]] | None = None) -> list[int]:
    return [item[3][0] for item in expand(insns, ranges) if item[0] == "insn"]


TILE = [make("szc", size=0, full=4), make("szc", size=1, full=3), make("desc", desc=0, space=1, base=0)]
FILL = make("vdup", "fp16", dst=0, imm=0, rows=0, cols=0)
END, ENDGRID, HALT = make("endloop"), make("endgrid"), make("halt")


def test_tail_and_affine_sizes() -> None:
    tail = make("szt", size=2, loop=5, full=4, tail=1)
    triangle = make("sza", size=3, loop_a=5, loop_b=0, full=3, base=5, step_a=-2)
    fill = make("vdup", "fp16", dst=0, imm=0, rows=2, cols=3)
    insns = [*TILE, tail, triangle, make("loop", loop=5, trip=0), fill, END, HALT]
    assert sizes_of(insns) == [(4, 3), (4, 3), (4, 1), (1, 0)]


def test_the_last_counter_of_a_grid_is_fastest() -> None:
    strides = [make("dstr", desc=0, loop=0, stride=1000), make("dstr", desc=0, loop=1, stride=-1)]
    insns = [*TILE, *strides, make("grid", loops=2, phase=1, t0=0, t1=1), FILL, ENDGRID, HALT]
    assert addresses_of(insns, [(0, 0), (2, 7)]) == [-2, 1000, 999, 998, 2000]


def test_a_triangular_grid() -> None:
    strides = [make("dstr", desc=0, loop=0, stride=10), make("dstr", desc=0, loop=1, stride=1)]
    lower = make("sza", size=4, loop_a=0, full=9, base=1, step_a=1)
    insns = [*TILE, *strides, lower, make("grid", loops=2, phase=0, t0=0, t1=4), FILL, ENDGRID, HALT]
    assert addresses_of(insns, [(0, 10)]) == [0, 10, 11, 20, 21, 22, 30, 31, 32, 33]
    assert addresses_of(insns, [(4, 8)]) == [21, 22, 30, 31]


def test_ring_slots_count_on_over_loops_and_skip_what_is_off() -> None:
    ring = make("ring", ring=0, slot_bytes=64, slots=3, ready=7, free=8)
    produce = make("desc", desc=0, space=1, base=1000, ring=0, role=1)
    often = make("vdup", "fp16", set=(7,), pred=Pred("not_first", 1 << 4), dst=0, imm=0, rows=0, cols=0)
    loops = [make("loop", loop=2, trip=1), make("loop", loop=4, trip=1)]
    insns = [*TILE[:2], ring, produce, *loops, often, END, END, FILL, HALT]
    # Two of three iterations produce, three times: six dispatches take the slots in turn; the last one is only looked at.
    assert addresses_of(insns) == [1000, 1064, 1128, 1000, 1064, 1128, 1000]


def test_changed_and_changes_look_at_the_cores_own_tiles() -> None:
    stride = [make("dstr", desc=0, loop=0, stride=10), make("dstr", desc=0, loop=1, stride=1)]
    for kind, expected in (("changed", [1, 10, 20]), ("changes", [2, 12, 20])):
        fill = make("vdup", "fp16", pred=Pred(kind, 1), dst=0, imm=0, rows=0, cols=0)
        insns = [*TILE, *stride, make("grid", loops=2, phase=0, t0=0, t1=1), fill, ENDGRID, HALT]
        assert addresses_of(insns, [(1, 7)]) == expected


def test_registers_bend_addresses_and_trip_counts() -> None:
    insns = [
        make("szr", size=5, reg=1, full=100),
        *TILE[:2],
        make("desc", desc=0, space=1, base=0, reg=2, reg_stride=32),
        make("desc", desc=1, space=0, base=512),
        make("lds", "int32", rd=1, src=1),
        make("li", rd=3, imm=5),
        make("loop", loop=0, trip=5),
        FILL,
        make("sadd", rd=2, ra=2, rb=3),
        END,
        HALT,
    ]
    result = expand(insns, loads=[3])
    assert [item[2] for item in result if item[0] == "load"] == [512]
    assert [item[3][0] for item in result if item[0] == "insn"] == [0, 160, 320]


def test_scalar_arithmetic_wraps_at_64_bits() -> None:
    insns = [
        *TILE[:2],
        make("desc", desc=0, space=1, base=0, reg=1, reg_stride=1),
        make("li", rd=1, imm=2**40),
        make("smul", rd=1, ra=1, rb=1),  # 2**80 is 0 in 64 bits
        make("li", rd=2, imm=-7),
        make("li", rd=3, imm=2),
        make("scdiv", rd=2, ra=2, rb=3),
        make("sadd", rd=1, ra=1, rb=2),
        FILL,
        HALT,
    ]
    assert addresses_of(insns) == [-3]


def test_streams_stay_near_the_limit() -> None:
    loops = [make("loop", loop=k, trip=0) for k in range(6)]
    insns = [*TILE, *loops, FILL, *[END] * 6, HALT]
    regions = Expansions(ISA, encode_program(ISA, insns), CHIP, limit=100).core(0)
    lengths = [len(region) for region in regions if isinstance(region, Stream)]
    assert sum(lengths) == 4**6
    assert max(lengths) <= 100
