"""The oracle of the program levels, held to results worked out by hand, to other libraries' casts, and to itself read twice."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from npuvm.isa import load_isa
from npuvm.isa.conformance import Level, ProgramCase
from npuvm.isa.conformance.oracle import ORACLES, Operands
from npuvm.isa.conformance.oracle_derived import derived_result, derived_tolerance
from npuvm.isa.conformance.oracle_numbers import (
    FLOATS,
    STORAGE,
    converted,
    edge_values,
    rounded,
    stored,
    storing,
    tie_values,
    value_classes,
    wide,
)
from npuvm.isa.conformance.semantics import bins, semantics_cases
from npuvm.isa.conformance.semantics_board import Board
from npuvm.isa.conformance.semantics_text import Program, Window

ISA = load_isa()
Array = NDArray[Any]
INF, NAN = np.inf, np.nan


def bits(values: Array) -> list[int]:
    whole: list[int] = values.reshape(-1).view(f"u{values.dtype.itemsize}").tolist()
    return whole


# Numbers.


@pytest.mark.parametrize("name", FLOATS)
def test_rounding_is_that_of_other_libraries(name: str) -> None:
    """numpy and ml_dtypes cast from fp32 by code of their own; every tie of the type, and a million bits' worth beside."""
    source = np.random.default_rng(3).integers(0, 1 << 32, 50_000, np.uint64).astype(np.uint32).view(np.float32)
    source = np.concatenate([source, tie_values("fp32", name), edge_values("fp32")])
    with np.errstate(all="ignore"):
        theirs = source.astype(STORAGE[name])
        ours = stored(source.astype(np.float64), name)
        nan = np.isnan(theirs.astype(np.float32))
        assert (nan == np.isnan(ours.astype(np.float32))).all()
    assert bits(ours[~nan]) == bits(theirs[~nan])


@pytest.mark.parametrize(
    ("value", "name", "result"),
    [
        (2049.0, "fp16", 2048.0),  # half way between 2048 and 2050: to the even significand
        (2051.0, "fp16", 2052.0),
        (65519.0, "fp16", 65504.0),
        (65520.0, "fp16", INF),
        (257.0, "bf16", 256.0),
        (259.0, "bf16", 260.0),
        (464.0, "fp8_e4m3", 448.0),
        (464.1, "fp8_e4m3", NAN),
        (61440.0, "fp8_e5m2", INF),
        (2.0**-150, "fp32", 0.0),
        (1.5 * 2.0**-149, "fp32", 2.0**-148),
        (-(2.0**-151), "fp32", -0.0),
        (16777217.0, "fp32", 16777216.0),
        (-INF, "bf16", -INF),
    ],
)
def test_rounding_by_hand(value: float, name: str, result: float) -> None:
    found = rounded(np.array(value), name)
    assert str(float(found)) == str(result)


@pytest.mark.parametrize(
    ("value", "name", "result"),
    [
        (1.9, "int32", 1),
        (-1.9, "int32", -1),
        (NAN, "int32", 0),
        (INF, "int32", 2**31 - 1),
        (-3e9, "int32", -(2**31)),
        (127.9, "int8", 127),
        (-129.0, "int8", -128),
        (300, "int8", 127),
        (NAN, "bool", True),
        (-0.0, "bool", False),
        (
            0x01010001,
            "bf16",
            0x01020000,
        ),  # just above half way; rounded to fp32 first it would be half way, and go down
    ],
)
def test_casts_by_hand(value: float, name: str, result: float) -> None:
    array = np.array(value)
    assert float(converted(array, name)) == result


def test_integers_wrap() -> None:
    values = np.array([2**31, -(2**31) - 1, 2**32 + 5])
    assert stored(values, "int32").tolist() == [-(2**31), 2**31 - 1, 5]
    assert storing(values, stored(values, "int32"), "int32") == {"wrap"}


@pytest.mark.parametrize(
    ("values", "name", "found"),
    [
        ([2049.0], "fp16", {"tie"}),
        ([70000.0], "fp16", {"overflow"}),
        ([INF, NAN, 1.0], "fp16", set()),
        ([1.0 + 2.0**-12], "fp16", set()),
    ],
)
def test_what_storing_met(values: list[float], name: str, found: set[str]) -> None:
    exact = np.array(values)
    assert storing(exact, stored(exact, name), name) == found


@pytest.mark.parametrize("name", STORAGE)
def test_edge_values_hold_every_edge(name: str) -> None:
    edges = {"nan", "zero", "minus-zero", "subnormal", "largest"}
    edges |= {"inf", "minus-inf"} if name != "fp8_e4m3" else set()
    expected = {"bool": {"true", "false"}, "int8": {"zero", "minus-one", "min", "max"}}.get(name, edges)
    assert value_classes(edge_values(name)) == (expected if name != "int32" else {"zero", "minus-one", "min", "max"})


def test_wide_is_exact() -> None:
    every = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    assert stored(wide(every), "fp8_e4m3").tobytes() == every.tobytes()


# Instructions, worked out by hand.

_BY_HAND: list[tuple[str, str, list[float], list[float] | None, float | None, list[float]]] = [
    ("vneg", "fp32", [1, -0.0, NAN], None, None, [-1, 0.0, NAN]),
    ("vneg", "int32", [5, -(2**31)], None, None, [-5, -(2**31)]),
    ("vabs", "int32", [-7, -(2**31)], None, None, [7, -(2**31)]),
    ("vabs", "fp16", [-0.0, -INF], None, None, [0.0, INF]),
    ("vrint", "fp32", [0.5, 1.5, 2.5, -0.5], None, None, [0, 2, 2, -0.0]),
    ("vfloor", "fp32", [-0.5, 2.7], None, None, [-1, 2]),
    ("vceil", "fp32", [-0.5, 2.1], None, None, [-0.0, 3]),
    ("vtrunc", "fp32", [-1.7, 1.7], None, None, [-1, 1]),
    ("vrelu", "int32", [-4, 9], None, None, [0, 9]),
    ("vnot", "int32", [0, 5], None, None, [-1, -6]),
    ("vsqrt", "fp32", [4, -1, 2], None, None, [2, NAN, 1.41421354]),
    ("vrsqrt", "fp32", [4, 0], None, None, [0.5, INF]),
    ("vrec", "fp32", [4, -0.0], None, None, [0.25, -INF]),
    ("vexp", "fp32", [0, -INF, 200], None, None, [1, 0, INF]),
    ("vlog", "fp32", [1, 0, -1], None, None, [0, -INF, NAN]),
    ("visfin", "fp32", [1, INF, NAN], None, None, [1, 0, 0]),
    ("vadd", "fp16", [2048, 2048], [1, 3], None, [2048, 2052]),
    ("vadd", "int32", [2**31 - 1], [1], None, [-(2**31)]),
    ("vsub", "fp32", [INF, 3], [INF, 5], None, [NAN, -2]),
    ("vmul", "int32", [46341], [46341], None, [-2147479015]),
    ("vdiv", "fp32", [1, 0, 1], [3, 0, -0.0], None, [0.333333343, NAN, -INF]),
    ("vmax", "fp32", [1, NAN], [2, 5], None, [2, NAN]),
    ("vmin", "fp32", [1, 5], [2, NAN], None, [1, NAN]),
    ("vpow", "fp32", [2, -8], [10, 1 / 3], None, [1024, NAN]),
    ("vand", "int32", [12], [10], None, [8]),
    ("vor", "int32", [12], [10], None, [14]),
    ("vxor", "int32", [12], [10], None, [6]),
    ("veq", "fp32", [0.0, NAN], [-0.0, NAN], None, [1, 0]),
    ("vne", "fp32", [1, NAN], [1, NAN], None, [0, 1]),
    ("vlt", "fp32", [1, NAN], [2, 2], None, [1, 0]),
    ("vge", "int32", [-1, 3], [-1, 4], None, [1, 0]),
    ("vadds", "fp32", [1], None, 2.5, [3.5]),
    ("vmuls", "fp16", [300], None, 300.0, [INF]),
    ("vrsubs", "fp32", [1], None, 2.5, [1.5]),
    ("vdivs", "fp32", [1], None, 4.0, [0.25]),
    ("vrdivs", "fp32", [4], None, 1.0, [0.25]),
    ("vpows", "fp32", [3], None, 2.0, [9]),
    ("vmaxs", "fp32", [1, 5], None, 2.0, [2, 5]),
    ("vmins", "fp32", [1, 5], None, 2.0, [1, 2]),
    ("vgts", "fp32", [1, 5], None, 2.0, [0, 1]),
]


@pytest.mark.parametrize("row", _BY_HAND, ids=[f"{row[0]}-{row[1]}" for row in _BY_HAND])
def test_instructions_by_hand(row: tuple[str, str, list[float], list[float] | None, float | None, list[float]]) -> None:
    name, dtype, a, b, imm, result = row
    tiles = {"a": np.array([a]).astype(STORAGE[dtype])}
    if b is not None:
        tiles["b"] = np.array([b]).astype(STORAGE[dtype])
    plain = {} if imm is None else {"imm": int(np.float32(imm).view(np.uint32))}
    with np.errstate(all="ignore"):
        found = ORACLES[name].rule(Operands(tiles, plain, dtype))
    target = np.array([result]).astype(found.dtype)
    nan = np.isnan(target.astype(np.float64))
    assert (np.isnan(found.astype(np.float64)) == nan).all()
    assert bits(found[~nan]) == bits(target[~nan])


def test_reductions_by_hand() -> None:
    tile = np.array([[1, 2, 3], [4, -5, 60000]], dtype=np.float16)
    found = {
        n: ORACLES[n].rule(Operands({"a": tile}, {}, "fp16")) for n in ("vsuml", "vmaxl", "vminl", "vsumf", "vmaxf")
    }
    assert found["vsuml"].tolist() == [[6], [60000]]  # 59999 lies nearer to 60000 than to 59968
    assert found["vmaxl"].tolist() == [[3], [60000]]
    assert found["vminl"].tolist() == [[1], [-5]]
    assert found["vsumf"].tolist() == [[5, -3, 60000]]
    assert found["vmaxf"].tolist() == [[4, 2, 60000]]


def test_prefix_sums_products_numbers_and_places_by_hand() -> None:
    tile = np.array([[1, 2, -3], [4, np.nan, 5]], dtype=np.float32)
    start = np.array([[10], [0]], dtype=np.float32)
    over = Operands({"a": tile[:1], "b": start[:1]}, {}, "fp32")
    assert ORACLES["vscanl"].rule(over).tolist() == [[11, 13, 10]]
    assert ORACLES["vscanf"].rule(Operands({"a": tile[:, :1], "b": start[:1]}, {}, "fp32")).tolist() == [[11], [15]]
    assert ORACLES["vprodl"].rule(over).tolist() == [[-6]]
    assert ORACLES["vprodf"].rule(Operands({"a": tile[:, ::2]}, {}, "fp32")).tolist() == [[4, -15]]
    assert ORACLES["vargmaxl"].rule(Operands({"a": tile}, {}, "fp32")).tolist() == [[1], [1]]
    plain, sizes = {"imm": 0xFFFFFFFF, "step": 2}, {"cols": 3, "start": 5}
    assert ORACLES["viota"].rule(Operands({}, plain, "int32", sizes=sizes)).tolist() == [[9, 11, 13]]


def test_every_vector_instruction_has_an_oracle_of_its_own() -> None:
    names = {i.name for i in ISA.instructions.values() if i.unit == "vector" and ISA.features[i.feature]}
    assert names == set(ORACLES)


# The two oracles against each other: one knows mnemonics, the other reads the semantics line.


def _pair_tiles(dtype: str, reads: list[str]) -> dict[str, Array]:
    values = edge_values(dtype)
    grid = np.meshgrid(values, values)
    return dict(zip(reads, (*grid, grid[0]), strict=False))


@pytest.mark.parametrize(
    "name", [n for n, i in ISA.instructions.items() if n in ORACLES and "sum" not in (i.semantics or "")]
)
def test_both_oracles_agree(name: str) -> None:
    spec = ISA.instruction(name)
    reads = [region.name for region in spec.regions if region.role == "read"]
    for dtype, dtype2 in spec.dtypes:
        tiles = _pair_tiles(dtype, reads)
        if "c" in tiles:
            tiles["c"] = np.resize(np.array([True, False, False]), tiles["a"].shape)
        tiles = {n: np.where(v == 0, np.zeros_like(v), v) for n, v in tiles.items()}
        plain, sizes = {"imm": 0x40200000, "step": 0xC0600001}, {"rows": 3, "cols": 5, "start": 7}
        op = Operands(tiles, plain, dtype, dtype2, sizes=sizes)
        target = spec.region_dtype(ISA, next(r for r in spec.regions if r.role == "write"), dtype, dtype2).name
        with np.errstate(all="ignore"):
            ours = np.asarray(ORACLES[name].rule(op))
            derived = derived_result(spec.semantics or "", op, target)
        assert ours.dtype == derived.dtype
        assert _places_apart(*np.broadcast_arrays(ours, derived)) <= derived_tolerance(spec.semantics or "")


def _places_apart(a: Array, b: Array) -> int:
    if a.dtype.kind in "iub":
        return 0 if (a == b).all() else 1 << 62
    lines = []
    for each in (a, b):
        raw = np.ascontiguousarray(each).view(f"u{each.dtype.itemsize}").astype(np.int64)
        top = 1 << 8 * each.dtype.itemsize - 1
        lines.append(np.where(raw < top, raw, top - raw))
    nan_a, nan_b = (np.isnan(each.astype(np.float64)) for each in (a, b))
    assert (nan_a == nan_b).all()
    return int(np.abs(lines[0] - lines[1])[~nan_a].max(initial=0))


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("dst = a * b + c", [7.0, 2.0**31]),
        ("dst = where(a > b, a, -b)", [-3.0, 65536.0]),
        ("dst = max(a, b, c)", [3.0, 65536.0]),
        ("dst = 1 / (1 + exp(-a))", [0.880797, 1.0]),
        ("dst = sum(a, axis=last)", [65538.0]),
        ("dst = isfinite(a)", [1.0, 1.0]),
    ],
)
def test_derived_results_by_hand(expression: str, result: list[float]) -> None:
    tiles = {n: np.array([v], np.float32) for n, v in (("a", [2, 65536]), ("b", [3, 32768]), ("c", [1, 0]))}
    found = derived_result(expression, Operands(tiles, {}, "fp32"), "fp32")
    assert np.allclose(found, [result], rtol=1e-6, atol=0)


def test_derived_results_are_rounded_after_every_operation() -> None:
    """16777216 + 1 is a tie in fp32; without rounding in between the difference would be 1."""
    tiles = {"a": np.array([[16777216]], np.float32)}
    assert derived_result("dst = a + 1 - a", Operands(tiles, {}, "fp32"), "fp32").tolist() == [[0]]


# Cases.


@pytest.fixture(scope="module")
def cases() -> list[ProgramCase]:
    return list(semantics_cases(ISA, 5))


def test_cases_cover_the_bins_and_no_others(cases: list[ProgramCase]) -> None:
    covered = {each for case in cases for each in case.bins}
    assert covered == set(bins(ISA))
    assert len({case.id for case in cases}) == len(cases)


def test_every_data_type_of_every_instruction_has_bins(cases: list[ProgramCase]) -> None:
    listed = {tuple(each.split("/")[1:3]) for each in bins(ISA)}
    for spec in ISA.instructions.values():
        if ISA.features[spec.feature] and spec.unit not in ("seq", "any"):
            for dtype, dtype2 in spec.dtypes:
                assert (spec.name, dtype if dtype2 is None else f"{dtype}->{dtype2}") in listed


def test_cases_are_the_same_at_every_call_and_change_with_the_seed(cases: list[ProgramCase]) -> None:
    def seen(some: Iterable[ProgramCase]) -> list[tuple[str, str, bytes]]:
        return [(case.id, case.text, case.arguments[0].tobytes()) for case in islice(some, 12)]

    assert seen(semantics_cases(ISA, 5)) == seen(cases)
    assert seen(semantics_cases(ISA, 6)) != seen(cases)
    assert [case.id for case in islice(semantics_cases(ISA, 6), 12)] == [case.id for case in cases[:12]]


def test_cases_change_something(cases: list[ProgramCase]) -> None:
    """A case whose expected argument is what it was would hold for a target that does nothing."""
    for case in cases:
        assert case.level is Level.SEMANTICS
        assert any(case.arguments[i].tobytes() != after.tobytes() for i, after in case.expected.items()), case.id


# Writers of programs.


def test_program_shares_table_entries() -> None:
    program = Program()
    assert [program.size(4), program.size(5), program.size(4)] == ["s0", "s1", "s0"]
    assert program.desc("gm", -8, 4, arg=1, window=Window(-1, 0, 5, 6)) == "d0"
    assert program.desc("gm", -8, 4, arg=1) == "d1"
    assert program.signal() == "m0"
    program.add("nop")
    assert program.text(2).splitlines() == [
        ".args 2",
        ".entry unified 0",
        "szc size=s0 full=4",
        "szc size=s1 full=5",
        "desc desc=d0 space=gm base=@arg1-8 pitch=4",
        "dwin desc=d0 row0=-1 col0=0 rows=5 cols=6",
        "desc desc=d1 space=gm base=@arg1-8 pitch=4",
        "sem sem=m0 value=0",
        "nop",
        "halt",
    ]


def test_board_sets_up_again_when_its_tables_are_full() -> None:
    board = Board(np.dtype(np.int32))
    tile = board.place(np.zeros((1, 8), np.int32), result=True)
    for size in range(100):
        board.run("vmov.int32", {"dst": tile, "a": tile}, {"rows": 1, "cols": size % 9 + size // 9 * 9})
    lines = board.text().splitlines()
    sizes = [line for line in lines if line.startswith("szc")]
    assert len(sizes) > 64
    assert max(int(line.split()[1].removeprefix("size=s")) for line in sizes) == 63
