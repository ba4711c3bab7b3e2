"""Matrix products on the simulator with data, on all shipped chips, against numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.cube.cube_run import CHIPS, Case, check, the_isa
from tests.compiler.vector_run import the_chip

from npuvm.compiler.cube.codegen import compile_matmul
from npuvm.compiler.cube.spec import MatView
from npuvm.compiler.errors import CompileError
from npuvm.compiler.language.pins import Pins
from npuvm.hw.config import load_chip

SIZES = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 48, 65, 100, 129]))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    dtype = draw(st.sampled_from(["fp16", "bf16", "fp32", "int8"]))
    integer = dtype == "int8"
    batch = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    shrunk = [tuple(1 if draw(st.booleans()) else size for size in batch) for _ in range(2)]
    fields: dict[str, Any] = {
        "m": draw(SIZES),
        "n": draw(SIZES),
        "k": draw(st.one_of(SIZES, st.just(0))),
        "dtype": dtype,
        "out": "int32" if integer else draw(st.sampled_from(["fp32", "fp16", "bf16"])),
        "batch": batch,
        "a_batch": shrunk[0],
        "b_batch": shrunk[1],
        "transpose_a": draw(st.booleans()),
        "transpose_b": draw(st.booleans()),
        "bias": draw(st.sampled_from([None, "int32", "int8"] if integer else [None, "fp16", "bf16", "fp32"])),
        "relu": draw(st.booleans()),
        "pad": draw(st.sampled_from([0, 0, 1, 7])),
    }
    return Case(**fields)


@pytest.mark.parametrize("chip", CHIPS)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_any_product_matches_numpy(chip: str, case: Case) -> None:
    check(case, the_chip(chip))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    "case",
    [
        Case(1, 1, 1),
        Case(1, 384, 384, out="fp16", bias="fp16", transpose_b=True),
        Case(257, 130, 259, out="fp16"),
        Case(64, 96, 1024, "fp32"),
        Case(5, 6, 0),
        Case(5, 6, 0, "int8", "int32", bias="int32", batch=(2,)),
        Case(12, 40, 33, batch=(2, 3, 2), a_batch=(2, 1, 2), b_batch=(1, 3, 2)),
    ],
    ids=str,
)
def test_sizes_worth_a_name(chip: str, case: Case) -> None:
    check(case, the_chip(chip))


def test_an_empty_result_needs_no_launch() -> None:
    for case in (Case(0, 4, 4), Case(4, 0, 4), Case(4, 4, 4, batch=(3, 0))):
        assert compile_matmul(case.spec(), 3, the_chip("edge"), the_isa()) is None


def test_a_shared_right_operand_joins_the_batch_to_the_rows() -> None:
    kernel, _ = check(Case(5, 16, 16, batch=(4, 3), b_batch=(1, 1), bias="fp16"), the_chip("ascend_910b1"))
    assert (kernel.spec.m, kernel.spec.batch) == (60, ())


def test_results_leave_through_ub_where_that_is_faster_or_the_only_way() -> None:
    through, direct = (check(Case(70, 50, 40), the_chip(name)) for name in ("edge", "ascend_910a"))
    assert through[0].via_ub and through[1].by_op["st"] > 0
    assert not direct[0].via_ub and "st" not in direct[1].by_op
    only = load_chip("ascend_910a", ["core.fixpipe.gm_bytes_per_cycle=0"])
    assert check(Case(70, 50, 40, out="fp16"), only)[0].via_ub


def test_an_operand_that_does_not_change_is_loaded_once() -> None:
    pins = Pins(tile={"l1": (16, 16, 32)}, cores=1)
    _, kept = check(Case(64, 48, 32), the_chip("edge"), pins)
    assert kept.by_op["ld"] == 4 + 4 * 3, "a once for each row of tiles, b for every tile"
    _, column = check(Case(64, 48, 32), the_chip("edge"), Pins(tile=pins.tile, cores=1, order="column"))
    assert column.by_op["ld"] == 3 + 4 * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": MatView(1, "bf16", 8, 1)}, "operands are fp16 and bf16; they must be the same"),
        (
            {"a": MatView(0, "fp16", 16, 2)},
            r"operand a has strides \(16, 2\) elements; one of its two dimensions must be",
        ),
        ({"b": MatView(1, "fp16", -8, 1)}, "may not run backwards"),
        ({"c": MatView(2, "fp16", 1, 8)}, "result has column stride 8"),
        ({"bias": MatView(3, "fp16", 0, 2)}, "bias has stride 2"),
    ],
)
def test_views_that_cannot_be_loaded_are_refused(change: dict[str, MatView], message: str) -> None:
    spec = replace(Case(8, 8, 8, out="fp16").spec(), **change)  # type: ignore[arg-type] # fields of one type
    with pytest.raises(CompileError, match=message):
        compile_matmul(spec, 4, the_chip("edge"), the_isa())


def test_a_bias_that_follows_the_batch_keeps_it_apart() -> None:
    spec = Case(8, 8, 8, batch=(3,), b_batch=(1,)).spec()
    bias = MatView(3, "fp16", 0, 1, (8,))
    kernel = compile_matmul(replace(spec, bias=bias), 4, the_chip("edge"), the_isa())
    assert kernel is not None and kernel.spec.batch == (3,)


def test_rows_of_a_single_row_batch_join() -> None:
    kernel, _ = check(Case(1, 16, 16, batch=(6,), b_batch=(1,)), the_chip("ascend_910b1"))
    assert (kernel.spec.m, kernel.spec.batch) == (6, ())


def test_a_chip_without_room_says_so() -> None:
    pins = Pins(ring_depth={"l0a": 200})
    with pytest.raises(CompileError, match=r"no tile of a matrix product fits core\.l1_kib="):
        compile_matmul(Case(8, 8, 8).spec(), 3, the_chip("edge"), the_isa(), pins)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    "case",
    [
        Case(20, 384, 384, bias="fp16", transpose_b=True),
        Case(300, 200, 100, "fp32"),
        Case(256, 256, 256, out="fp16"),
        Case(71, 71, 32, batch=(12,), transpose_b=True),
    ],
    ids=str,
)
def test_the_estimate_is_within_a_factor_of_two_of_the_simulated_cycles(chip: str, case: Case) -> None:
    kernel, result = check(case, the_chip(chip))
    assert kernel.tile.cycles / 2 < result.cycles < kernel.tile.cycles * 2
