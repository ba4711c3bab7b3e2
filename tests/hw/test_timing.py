"""Every formula of docs/timing-model.md, Units, against numbers worked out by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import ConfigError, SimulationError
from npuvm.hw.expansion.expand import Expansions
from npuvm.hw.expansion.stream import Stream
from npuvm.hw.timing import (
    SequencerCosts,
    VectorCost,
    ceil_div,
    cube_blocks,
    transfer_occupancy,
    vector_cost,
    vector_occupancy,
    vector_repeats,
)
from npuvm.isa import Insn, Isa, encode_program, load_isa, load_isa_text
from npuvm.isa.resources import find_resource

ISA = load_isa()
GM, UB, L1, L0A, L0B, L0C = range(6)


def chip(*overrides: str) -> NpuConfig:
    return load_chip("edge", overrides)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def one(insns: list[Insn], config: NpuConfig, isa: Isa = ISA) -> tuple[int, int, Stream]:
    """Occupancy and latency of the last dispatched instruction of a program, and its stream."""
    program = [*insns, Insn("halt")]
    streams = [r for r in Expansions(isa, encode_program(isa, program), config).core(0) if isinstance(r, Stream)]
    return streams[-1].rows.occupancy[-1], streams[-1].rows.latency[-1], streams[-1]


def sizes(*values: int) -> list[Insn]:
    return [Insn("szc", args={"size": i, "full": v}) for i, v in enumerate(values)]


def desc(index: int, space: int, pitch: int, base: int = 0) -> Insn:
    return Insn("desc", args={"desc": index, "space": space, "base": base, "pitch": pitch})


def test_ceil_div_is_exact_where_floats_are_not() -> None:
    big = 2**53 + 1
    assert ceil_div(big, 1) == big
    np.testing.assert_array_equal(ceil_div(ints(0, 1, 7, 8), 4), [0, 1, 2, 2])


@pytest.mark.parametrize(
    ("rows", "cols", "itemsize", "dense", "repeats"),
    [
        (4, 100, 2, False, 4),  # 200 bytes a row: one repeat of 256 each
        (4, 100, 2, True, 4),  # 800 bytes in all
        (8, 16, 2, False, 8),
        (8, 16, 2, True, 1),  # 256 bytes in all
        (3, 65, 4, False, 6),  # 260 bytes a row: two repeats each
        (3, 65, 4, True, 4),  # 780 bytes
        (0, 64, 4, False, 0),
        (5, 0, 4, True, 0),
    ],
)
def test_vector_repeats(rows: int, cols: int, itemsize: int, dense: bool, repeats: int) -> None:
    assert vector_repeats(ints(rows), ints(cols), itemsize, 256, np.array([dense])).tolist() == [repeats]


def test_vector_occupancy_rounds_once() -> None:
    # 14 + ceil(5 * 4/3 + 2 * 1/2) = 14 + ceil(23/3) = 22
    cost = VectorCost.of(14, Fraction(4, 3), Fraction(1, 2), 20)
    assert (cost.repeat_num, cost.row_num, cost.den) == (8, 3, 6)
    assert vector_occupancy(ints(5), ints(2), 14, 8, 3, 6).tolist() == [22]
    assert vector_occupancy(ints(0), ints(2), 14, 8, 3, 6).tolist() == [14]


def test_vector_instruction() -> None:
    config = chip(
        "core.vector.repeat_bytes=128",
        "core.vector.classes.valu.startup_cycles=5",
        "core.vector.classes.valu.cycles_per_repeat=1.5",
        "core.vector.classes.valu.row_cycles=0.25",
        "core.vector.classes.valu.latency_cycles=11",
    )
    add = Insn("vadd", "fp16", args={"dst": 0, "a": 1, "b": 2, "rows": 0, "cols": 1})
    # 3 rows of 160 bytes in rows 192 bytes apart: 2 repeats each; 5 + ceil(6 * 1.5 + 3 * 0.25) = 15
    apart = [*sizes(3, 80), *(desc(i, UB, 192, 1024 * i) for i in range(3))]
    assert one([*apart, add], config)[:2] == (15, 11)
    # All three dense: 480 bytes are 4 repeats; 5 + ceil(6 + 0.75) = 12
    dense = [*sizes(3, 80), *(desc(i, UB, 160, 1024 * i) for i in range(3))]
    assert one([*dense, add], config)[:2] == (12, 11)
    # One operand is not: a row that is read again and again.
    mixed = [*dense, desc(2, UB, 0)]
    assert one([*mixed, add], config)[:2] == (15, 11)
    # Nothing to do.
    assert one([*sizes(0, 80), *dense[2:], add], config)[:2] == (5, 11)


def test_vector_item_size_is_the_widest_operand() -> None:
    config = chip("core.vector.repeat_bytes=64")
    cast = Insn("vcast", "fp16", "fp32", args={"dst": 0, "a": 1, "rows": 0, "cols": 1})
    vcast = config.core.vector.classes["vcast"]
    occupancy, latency, _ = one([*sizes(2, 40), desc(0, UB, 160), desc(1, UB, 96, 1024), cast], config)
    # 40 fp32 are 160 bytes: 3 repeats for each of 2 rows.
    expected = vcast.startup_cycles + ceil_div(6 * vcast.cycles_per_repeat + 2 * vcast.row_cycles, 1)
    assert (occupancy, latency) == (expected, vcast.latency_cycles)


def test_a_reduction_is_never_dense() -> None:
    config = chip(
        "core.vector.repeat_bytes=64",
        "core.vector.classes.vredl.startup_cycles=3",
        "core.vector.classes.vredl.cycles_per_repeat=2",
        "core.vector.classes.vredl.row_cycles=1",
    )
    total = Insn("vsuml", "fp32", args={"dst": 0, "a": 1, "rows": 0, "cols": 1})
    # 8 rows of 32 bytes, one repeat each: 3 + 8 * 2 + 8 * 1
    assert one([*sizes(8, 8), desc(0, UB, 4), desc(1, UB, 32, 1024), total], config)[0] == 27


def test_a_stanza_without_class_costs_its_primitives() -> None:
    stanza = "{name: vfma1, opcode: 0xc0, format: vtri, dtypes: [fp32], semantics: 'dst = a * b + c - 1', doc: Fused.}"
    text = find_resource("isa", "npu_v1").read_text(encoding="utf-8")
    header = "extension: fused\nversion: '1.0'\nextends: npu 1.0\n"
    isa = load_isa_text(text, [f"{header}instructions:\n  - {stanza}\n"])
    config = chip(
        "core.vector.classes.valu.startup_cycles=3",
        "core.vector.classes.vmul.startup_cycles=9",
        "core.vector.classes.valu.cycles_per_repeat=1",
        "core.vector.classes.vmul.cycles_per_repeat=1.5",
        "core.vector.classes.valu.latency_cycles=4",
        "core.vector.classes.vmul.latency_cycles=2",
        "core.vector.classes.valu.row_cycles=0",
        "core.vector.classes.vmul.row_cycles=0",
    )
    # dst = a * b + c - 1: vmul + valu + valu
    cost = vector_cost(config.core.vector, isa, isa.instruction("vfma1"))
    assert cost == VectorCost.of(9, Fraction(7, 2), Fraction(0), 4)


def test_an_unpriced_class_is_named() -> None:
    config = chip()
    classes = {k: v for k, v in config.core.vector.classes.items() if k != "vexp"}
    vector = config.core.vector.model_copy(update={"classes": classes})
    with pytest.raises(ConfigError, match=r"vexp: the chip prices no timing class 'vexp'.*valu") as caught:
        vector_cost(vector, ISA, ISA.instruction("vexp"))
    assert caught.value.exit_code == 2


def test_cube_blocks() -> None:
    # 33 x 17 x 40 fp16 on 16 x 16 x 32 bytes: 3 * 2 * ceil(80/32) = 18
    assert cube_blocks(ints(33), ints(17), ints(40), 2, (16, 16, 32)).tolist() == [18]
    assert cube_blocks(ints(0), ints(17), ints(40), 2, (16, 16, 32)).tolist() == [0]


@pytest.mark.parametrize(("dtype", "blocks", "per_block"), [("fp16", 12, 1), ("int8", 8, 3), ("fp32", 20, 4)])
def test_cube_instruction(dtype: str, blocks: int, per_block: int) -> None:
    # 9 x 16 x 40 on blocks of 8 x 8 x 32 bytes: 2 * 2 * ceil(40 * itemsize / 32)
    config = chip(
        "core.cube.m=8", "core.cube.n=8", "core.cube.k_bytes=32", "core.cube.startup_cycles=6",
        "core.cube.latency_cycles=13", f"core.cube.cycles_per_block.{dtype}={per_block}",
    )  # fmt: skip
    insns = [*sizes(9, 16, 40), desc(0, L0C, 64), desc(1, L0A, 96), desc(2, L0B, 64)]
    mma = Insn("mma", dtype, args={"dst": 0, "a": 1, "b": 2, "m": 0, "n": 1, "k": 2})
    assert one([*insns, mma], config)[:2] == (6 + blocks * per_block, 13)


def test_a_type_that_the_cube_lacks_is_named() -> None:
    insns = [*sizes(8, 8, 8), desc(0, L0C, 64), desc(1, L0A, 96), desc(2, L0B, 64)]
    mma = Insn("mma", "fp8_e4m3", args={"dst": 0, "a": 1, "b": 2, "m": 0, "n": 1, "k": 2})
    config = chip()
    cube = config.core.cube.model_copy(update={"cycles_per_block": {"fp16": 1}})
    lacking = config.model_copy(update={"core": config.core.model_copy(update={"cube": cube})})
    with pytest.raises(SimulationError, match=r"mma at word .*: the cube of this chip has no fp8_e4m3; it has fp16"):
        one([*insns, mma], lacking)


def test_transfer_occupancy() -> None:
    assert transfer_occupancy(ints(3, 0), ints(50, 50), 2, 64, 2, 10).tolist() == [10 + 5 + 6, 10]


@pytest.mark.parametrize(
    ("op", "space", "rate", "nbytes"),
    [("mvl0a", L0A, "l0a", 3 * 48 * 2), ("mvl0b", L0B, "l0b", 3 * 48 * 2), ("mvl0c", L0C, "l0c", 3 * 48 * 4)],
)
def test_move_is_charged_by_the_bytes_it_writes(op: str, space: int, rate: str, nbytes: int) -> None:
    config = chip(
        "core.move.startup_cycles=5", "core.move.latency_cycles=8", "core.move.row_cycles=2",
        f"core.move.{rate}_bytes_per_cycle=50",
    )  # fmt: skip
    move = Insn(op, "fp16", args={"dst": 0, "src": 1, "rows": 0, "cols": 1})
    program = [*sizes(3, 48), desc(0, space, 192), desc(1, L1, 96), move]
    assert one(program, config)[:2] == (5 + ceil_div(nbytes, 50) + 3 * 2, 8)


@pytest.mark.parametrize(("space", "rate"), [(UB, "ub"), (L1, "l1")])
def test_fixpipe_on_chip(space: int, rate: str) -> None:
    config = chip(
        "core.fixpipe.startup_cycles=4", "core.fixpipe.latency_cycles=9", f"core.fixpipe.{rate}_bytes_per_cycle=33"
    )
    fix = Insn("fix", "fp32", "fp16", args={"dst": 0, "src": 1, "rows": 0, "cols": 1})
    # 6 * 16 fp16 written: 192 bytes, ceil(192 / 33) = 6
    program = [*sizes(6, 16), desc(0, space, 32), desc(1, L0C, 64), fix]
    assert one(program, config)[:2] == (10, 9)


def test_a_missing_path_is_named() -> None:
    fix = Insn("fix", "fp32", "fp16", args={"dst": 0, "src": 1, "rows": 0, "cols": 1})
    program = [*sizes(6, 16), desc(0, UB, 32), desc(1, L0C, 64), fix]
    with pytest.raises(SimulationError, match=r"fix at word .*: the chip has no path to ub; it has one to gm"):
        one(program, chip("core.fixpipe.ub_bytes_per_cycle=0"))


def test_dma_is_charged_its_issue_and_says_what_moves() -> None:
    config = chip("core.load.startup_cycles=21", "core.store.startup_cycles=17", "core.fixpipe.startup_cycles=8")
    load = Insn("ld", "fp16", args={"dst": 0, "src": 1, "rows": 0, "cols": 1})
    occupancy, latency, stream = one([*sizes(3, 40), desc(0, UB, 96), desc(1, GM, 100, 4096), load], config)
    assert (occupancy, latency) == (21, 0)
    assert (stream.rows.gm_addr, stream.rows.gm_rows, stream.rows.gm_row_bytes) == ([4096], [3], [80])
    # Rows that follow each other without a gap are one run.
    dense = one([*sizes(3, 40), desc(0, UB, 96), desc(1, GM, 80, 4096), load], config)[2]
    assert (dense.rows.gm_rows, dense.rows.gm_row_bytes) == ([1], [240])
    store = Insn("st", "fp16", args={"dst": 1, "src": 0, "rows": 0, "cols": 1})
    assert one([*sizes(3, 40), desc(0, UB, 96), desc(1, GM, 80), store], config)[0] == 17
    fix = Insn("fix", "fp32", "fp16", args={"dst": 1, "src": 0, "rows": 0, "cols": 1})
    occupancy, latency, stream = one([*sizes(3, 40), desc(0, L0C, 160), desc(1, GM, 100), fix], config)
    assert (occupancy, latency, stream.rows.gm_row_bytes) == (8, 0, [80])


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ((0, 0), (4096, 3, 80)),
        ((-1, 0), (4096 + 1000, 2, 80)),  # the first row is above the window
        ((9, 95), (4096, 1, 10)),  # one row and five columns are left
        ((0, -3), (4096 + 6, 3, 74)),
        ((10, 0), (None, 0, 0)),
        ((-3, 0), (None, 0, 0)),
        ((0, 100), (None, 0, 0)),
    ],
)
def test_a_window_cuts_what_moves(origin: tuple[int, int], expected: tuple[int | None, int, int]) -> None:
    window = Insn("dwin", args={"desc": 1, "row0": origin[0], "col0": origin[1], "rows": 10, "cols": 100})
    load = Insn("ld", "fp16", args={"dst": 0, "src": 1, "rows": 0, "cols": 1})
    stream = one([*sizes(3, 40), desc(0, UB, 96), desc(1, GM, 1000, 4096), window, load], chip())[2]
    address, rows, nbytes = expected
    assert (stream.rows.gm_rows, stream.rows.gm_row_bytes) == ([rows], [nbytes])
    if address is not None:
        assert stream.rows.gm_addr == [address]


def test_usync_takes_the_one_cycle_of_its_start() -> None:
    assert one([Insn("usync", args={"unit": 5})], chip())[:2] == (1, 0)


def test_a_unit_is_occupied_for_a_cycle_at_least() -> None:
    free = chip("core.vector.classes.valu.startup_cycles=0", "core.load.startup_cycles=0")
    empty = [*sizes(0, 40), desc(0, UB, 96), desc(1, GM, 1000, 4096)]
    assert one([*empty, Insn("vmov", "fp16", args={"dst": 0, "a": 0, "rows": 0, "cols": 1})], free)[0] == 1
    assert one([*empty, Insn("ld", "fp16", args={"dst": 0, "src": 1, "rows": 0, "cols": 1})], free)[0] == 1


def test_sequencer_gaps() -> None:
    config = chip(
        "core.sequencer.start_cycles=100", "core.sequencer.decode_cycles_per_word=3",
        "core.sequencer.dispatch_cycles=2", "core.sequencer.loop_cycles=5", "core.sequencer.scalar_cycles=7",
    )  # fmt: skip
    assert SequencerCosts.of(config) == SequencerCosts(3, 2, 5, 7, 100)
    sync = Insn("usync", args={"unit": 5})
    program = [
        Insn("szc", args={"size": 0, "full": 2}),  # 2 words
        Insn("loop", args={"loop": 0, "trip": 0}),  # 1 word
        sync,  # 1 word
        Insn("endloop"),  # 1 word
        Insn("li", args={"rd": 1, "imm": 4}),  # 2 words
        sync,
        Insn("halt"),
    ]
    regions = list(Expansions(ISA, encode_program(ISA, program), config).core(0))
    streams = [region for region in regions if isinstance(region, Stream)]
    gaps = [gap for stream in streams for gap in stream.rows.gap]
    first = 100 + 2 * 3 + (3 + 5) + (3 + 2)
    second = (3 + 5) + (3 + 2)
    third = (3 + 5) + (2 * 3 + 7) + (3 + 2)
    assert gaps == [first, second, third]
    assert regions[-1].gap == 3
