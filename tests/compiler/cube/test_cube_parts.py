"""Pins of a matrix product that give every core parts of the result, operands their own k at L1, and L0C in parts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.cube.cube_run import Case, check, the_isa
from tests.compiler.vector_run import the_chip

from npuvm.compiler.cube.codegen import MatmulKernel, compile_matmul
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins
from npuvm.isa import Insn, decode_program

CHIP = the_chip("ascend_910b1")
TILE = {"l1": (32, 64, 128), "l0": (32, 64, 32)}
FLIPPED = Case(160, 150, 512, out="fp16", transpose_b=True)


def insns(kernel: MatmulKernel, *ops: str) -> list[Insn]:
    return [insn for _, insn in decode_program(the_isa(), kernel.image.words) if insn.op in ops]


def tiles(kernel: MatmulKernel) -> list[int]:
    return [sum(stop - start for start, stop in entry.ranges) for entry in kernel.image.entries]


@st.composite
def pinned(draw: st.DrawFn) -> tuple[Case, Pins]:
    m0, n0, k0 = (16 * draw(st.integers(1, 3)) for _ in range(3))
    short, times = draw(st.integers(2, 3)), draw(st.integers(1, 3))
    lengths = [k0 * short, k0 * short * times]
    a, b = lengths if draw(st.booleans()) else lengths[::-1]
    in_parts = draw(st.booleans())
    m, n = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    case = Case(
        m,
        n,
        lengths[in_parts] * draw(st.integers(1, 5)),
        out=draw(st.sampled_from(["fp16", "fp32"])),
        batch=tuple(draw(st.lists(st.integers(1, 3), max_size=1))),
        transpose_a=draw(st.booleans()),
        transpose_b=draw(st.booleans()),
    )
    part = (draw(st.integers(10, 60)), draw(st.integers(10, 60)))
    grid = (min(draw(st.integers(1, 3)), -(-m // part[0])), min(draw(st.integers(1, 3)), -(-n // part[1])))
    pins: dict[str, Any] = {"tile": {"l1": (m0, n0, a), "l0": (m0, n0, k0)}, "l1_k": {"b": b}}
    if draw(st.booleans()):
        pins |= {"part": part, "grid": grid, "order": draw(st.sampled_from(["row", "column"]))}
    if in_parts:
        pins["l0c_parts"] = draw(st.sampled_from([1, 2, 4, 8]))
    return case, Pins(**pins)


@settings(max_examples=12, deadline=None)
@given(case=pinned())
def test_any_combination_is_right(case: tuple[Case, Pins]) -> None:
    check(case[0], CHIP, case[1])


def test_parts_begin_tiles_anew_and_belong_to_the_cores_of_a_grid() -> None:
    kernel, _ = check(FLIPPED, CHIP, Pins(tile=TILE, part=(70, 57), grid=(2, 3)))
    # Rows: parts of 70, 70, 20 in tiles of 32; columns: 57, 57, 36 in tiles of 64.
    assert tiles(kernel) == [3 + 1] * 3 + [3] * 3


def test_a_core_does_its_parts_in_rounds() -> None:
    case = Case(256, 64, 128, transpose_b=True)
    kernel, _ = check(case, CHIP, Pins(tile=TILE, part=(64, 64), grid=(2, 1)))
    assert [entry.ranges for entry in kernel.image.entries] == [((0, 4),), ((4, 8),)]
    (walk,) = insns(kernel, "grid")
    assert walk.args["loops"] == 3, "core, round, tile"
    # Core 0 has rows 0 to 63 in the first round and 128 to 191 in the second.
    strides = [insn.args["stride"] for insn in insns(kernel, "dstr")]
    row_bytes = 128 * 2
    assert {64 * row_bytes, 128 * row_bytes, 32 * row_bytes} <= set(strides)


def test_operands_have_their_own_k() -> None:
    kernel, _ = check(FLIPPED, CHIP, Pins(tile=TILE, l1_k={"a": 256, "b": 64}))
    full = {insn.args["size"]: insn.args["full"] for insn in insns(kernel, "szc", "szt", "sza")}
    a, b = insns(kernel, "ld")
    assert (full[a.args["cols"]], full[b.args["cols"]]) == (256, 64)
    slots = [insn.args["slot_bytes"] for insn in insns(kernel, "ring")]
    assert slots[1:3] == [32 * 256 * 2, 64 * 64 * 2]


def test_the_longer_operand_is_kept_when_it_holds_all_of_k() -> None:
    """One row of tiles on one core: a is loaded once for all columns, b with every step."""
    case, pins = Case(32, 256, 512, transpose_b=True), Pins(tile=TILE, l1_k={"a": 512, "b": 128}, cores=1)
    _, result = check(case, CHIP, pins)
    assert result.by_op["ld"] == 1 + 4 * 4


def test_parts_of_the_accumulators_let_fixpipe_and_cube_overlap() -> None:
    """The right operand stays in L1, so that the cube and the fixpipe are what takes time."""
    case = Case(512, 256, 256, out="fp32", transpose_b=True)
    tile = {"l1": (128, 256, 256), "l0": (128, 256, 64)}
    whole, parts = (check(case, CHIP, Pins(tile=tile, cores=1, order="column", l0c_parts=parts)) for parts in (None, 8))
    counts = Counter(insn.op for insn in insns(parts[0], "fix", "mma", "mmac"))
    assert (counts["fix"], counts["mma"], counts["mmac"]) == (8, 8, 1 + 8)
    # At each of three changes of tile the fixpipe takes along the last product of 512 cycles and the first of the next tile.
    assert whole[1].cycles - parts[1].cycles > 3 * 512


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ({"part": (64, 64)}, "pin part .* a part together with a grid"),
        ({"part": (64, 64), "grid": (1, 1), "start": 1}, "pin part .* without start"),
        ({"part": (80, 80), "grid": (3, 1)}, r"pin grid = \(3, 1\) .* at most 2 x 2"),
        ({"l1_k": {"c": 64}}, "pin l1_k.c"),
        ({"l1_k": {"a": 64}}, "pin l1_k .* together with tile.l1 and tile.l0"),
        ({"l1_k": {"a": 96}, "tile": TILE}, "pin l1_k .* one a multiple of the other"),
        (
            {"l1_k": {"a": 1024, "b": 512}, "tile": TILE, "l0c_parts": 3},
            "pin l0c_parts = 3 .* a divisor of the 32 rows",
        ),
        ({"l0c_parts": 2}, "pin l0c_parts = 2 .* together with tile.l1"),
        ({"l0c_parts": 2, "tile": {"l1": (32, 64, 32), "l0": (32, 64, 32)}}, "more than one step of 32"),
        ({"l0c_parts": 2, "tile": {"l1": (32, 64, 192), "l0": (32, 64, 32)}}, "cut the 512 evenly"),
        ({"l0c_parts": 2, "tile": {"l1": (32, 64, 64), "l0": (16, 64, 32)}}, "the same at L1 and L0"),
        ({"l0c_parts": 2, "tile": TILE, "ring_depth": {"l0c": 1}}, "without ring_depth.l0c"),
    ],
)
def test_pins_that_cannot_be_are_refused(pins: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compile_matmul(FLIPPED.spec(), 3, CHIP, the_isa(), Pins(**pins))
