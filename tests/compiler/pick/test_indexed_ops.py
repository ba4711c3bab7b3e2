"""Rows picked by index: the simulator, with hazards checked and images verified, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import CASTS, assert_close, build, run_plan
from tests.compiler.vector_run import CHIPS, Ran, limits_of, run_graph, the_chip, the_isa

from npuvm.compiler import DTYPES, CompileError, Graph, KernelBuilder, Value, interpret, parse_graph, print_graph
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.pick.codegen import PickFamily, compile_pick
from npuvm.compiler.pick.plan import plan_pick
from npuvm.compiler.pick.segment import PickSpec
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import PickSegment, VectorSegment
from npuvm.hw.errors import TrapError
from npuvm.isa.verifier import verify

SIZES = st.sampled_from([1, 2, 3, 7, 8, 9, 31, 33, 64])
SLOW = [HealthCheck.too_slow]


def run(graph: Graph, inputs: dict[str, Any], chip: str, pins: Pins | None = None) -> Ran:
    """Outputs of the simulator, which agree with the interpreter's."""
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)
    ran = run_graph(graph, inputs, the_chip(chip), pins)
    assert_close(ran.outputs, interpret(graph, inputs), {output.name: output.type for output in graph.outputs})
    return ran


def values(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Any:
    """Small whole numbers, which every dtype has."""
    return rng.integers(-8, 9, shape).astype(DTYPES[dtype].numpy)


@given(
    before=st.sampled_from([1, 2, 5]), count=SIZES, inner=SIZES, rows=SIZES, axis=st.integers(0, 2),
    dtype=st.sampled_from(["fp32", "fp16", "bf16", "int32", "int8", "bool", "fp8_e4m3"]), chip=st.sampled_from(CHIPS),
    seed=st.integers(0, 5),
)  # fmt: skip
@example(before=1, count=7, inner=1, rows=257, axis=2, dtype="fp16", chip="edge", seed=0)
@example(before=2, count=101, inner=257, rows=257, axis=0, dtype="fp32", chip="edge", seed=0)
@settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
def test_gather_along_any_axis(
    before: int, count: int, inner: int, rows: int, axis: int, dtype: str, chip: str, seed: int
) -> None:
    def body(k: KernelBuilder, x: Value, i: Value) -> None:
        k.store(k.gather(x, i, axis))

    rng = np.random.default_rng(seed)
    shape = (before, count, inner)
    x = values(rng, dtype, shape)
    i = rng.integers(-shape[axis], shape[axis], rows).astype(np.int32)
    ran = run(build(body, x=f"{dtype}[A, B, C]", i="int32[R]"), {"x": x, "i": i}, chip)
    np.testing.assert_array_equal(ran.outputs["out0"], np.take(x, i, axis))


@pytest.mark.parametrize("chip", CHIPS)
def test_embedding_takes_indices_of_any_rank(chip: str) -> None:
    def body(k: KernelBuilder, table: Value, i: Value) -> None:
        k.store(k.embedding(table, i))
        k.store(k.embedding(table, k.reshape(i, ())) if i.type.rank == 0 else k.relu(k.embedding(table, i)))

    rng = np.random.default_rng(2)
    table = rng.standard_normal((1000, 384)).astype(np.float16)
    for shape, dims in (((), ""), ((5,), "N"), ((3, 41), "B, N"), ((2, 3, 4), "B, M, N")):
        i = rng.integers(0, 1000, shape).astype(np.int32)
        ran = run(build(body, table="fp16[V, D]", i=f"int32[{dims}]"), {"table": table, "i": i}, chip)
        np.testing.assert_array_equal(ran.outputs["out0"], table[i])


@given(
    before=st.sampled_from([1, 3]), count=SIZES, inner=SIZES, rows=SIZES, axis=st.integers(0, 2),
    dtype=st.sampled_from(["fp32", "fp16", "bf16", "int32"]), chip=st.sampled_from(CHIPS), zero=st.booleans(),
    seed=st.integers(0, 5),
)  # fmt: skip
@example(before=1, count=3, inner=1, rows=257, axis=2, dtype="fp16", chip="edge", zero=True, seed=0)
@example(before=3, count=2, inner=101, rows=257, axis=1, dtype="int32", chip="ascend_910b1", zero=False, seed=0)
@settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
def test_rows_with_equal_indices_add_up(
    before: int, count: int, inner: int, rows: int, axis: int, dtype: str, chip: str, zero: bool, seed: int
) -> None:
    def body(k: KernelBuilder, x: Value, i: Value, u: Value) -> None:
        k.store(k.scatter_add("A, B, C" if zero else x, i, u, axis))

    rng = np.random.default_rng(seed)
    shape = (before, count, inner)
    # Sums stay so small that fp16 and bf16 have them exactly, whatever the order.
    x = rng.integers(0, 2, shape).astype(DTYPES[dtype].numpy)
    i = rng.integers(-shape[axis], shape[axis], rows).astype(np.int32)
    dims = ["A", "B", "C"]
    dims[axis] = "R"
    u = np.zeros((*shape[:axis], rows, *shape[axis + 1 :]), DTYPES[dtype].numpy)
    place = rng.integers(0, rows, min(rows, 100))
    np.moveaxis(u, axis, 0)[place] = 1
    graph = build(body, x=f"{dtype}[A, B, C]", i="int32[R]", u=f"{dtype}[{', '.join(dims)}]")
    ran = run(graph, {"x": x, "i": i, "u": u}, chip)
    expected = np.moveaxis(np.zeros(shape) if zero else x.astype(np.float64), axis, 0)
    np.add.at(expected, i, np.moveaxis(u, axis, 0).astype(np.float64))
    np.testing.assert_array_equal(ran.outputs["out0"].astype(np.float64), np.moveaxis(expected, 0, axis))


@given(
    count=SIZES, inner=SIZES, rows=SIZES, axis=st.integers(0, 1), dtype=st.sampled_from(["fp32", "int8", "bool"]),
    chip=st.sampled_from(CHIPS),
)  # fmt: skip
@example(count=2, inner=257, rows=257, axis=1, dtype="int8", chip="edge")
@settings(max_examples=12, deadline=None, suppress_health_check=SLOW)
def test_of_rows_set_to_one_place_the_last_counts(
    count: int, inner: int, rows: int, axis: int, dtype: str, chip: str
) -> None:
    def body(k: KernelBuilder, x: Value, i: Value, u: Value) -> None:
        k.store(k.scatter(x, i, u, axis))

    rng = np.random.default_rng(7)
    shape = (count, inner)
    x = values(rng, dtype, shape)
    i = rng.integers(-shape[axis], shape[axis], rows).astype(np.int32)
    u = values(rng, dtype, (rows, inner) if axis == 0 else (count, rows))
    graph = build(body, x=f"{dtype}[A, B]", i="int32[R]", u=f"{dtype}[{'R, B' if axis == 0 else 'A, R'}]")
    ran = run(graph, {"x": x, "i": i, "u": u}, chip)
    expected = np.moveaxis(x.copy(), axis, 0)
    for at, row in zip(i, np.moveaxis(u, axis, 0), strict=True):
        expected[at] = row
    np.testing.assert_array_equal(ran.outputs["out0"], np.moveaxis(expected, 0, axis))


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("row", [30_000, 100_003])
def test_rows_longer_than_a_tile(chip: str, row: int) -> None:
    """Rows in pieces, the last of them shorter; indices in several blocks where a core has many tiles."""

    def body(k: KernelBuilder, x: Value, i: Value) -> None:
        k.store(k.gather(x, i))
        k.store(k.scatter_add(x, i, k.gather(x, i)))

    rng = np.random.default_rng(5)
    x = values(rng, "int8" if row > 50_000 else "fp32", (3, row)).astype(np.float32)
    i = np.array([2, 0, 2, 1, -1], dtype=np.int32)
    run(build(body, x="fp32[A, B]", i="int32[R]"), {"x": x, "i": i}, chip)


@pytest.mark.parametrize("op", ["gather", "scatter_add", "scatter"])
def test_many_indices_on_one_core_are_loaded_in_blocks(op: str) -> None:
    def body(k: KernelBuilder, x: Value, i: Value, u: Value) -> None:
        k.store(k.gather(x, i) if op == "gather" else getattr(k, op)(x, i, u))

    rng = np.random.default_rng(8)
    count = 9001
    x = values(rng, "fp32", (100, 40))
    i = rng.integers(0, 100, count).astype(np.int32)
    u = values(rng, "fp32", (count, 40))
    ran = run(
        build(body, x="fp32[A, B]", i="int32[R]", u="fp32[R, B]"), {"x": x, "i": i, "u": u}, "edge", Pins(cores=1)
    )
    loads = ran.runs[-1].by_op["ld"]
    tile = plan_pick(spec(op, 1, 100, 40, count), the_chip("edge").capacity_bytes("ub"), 1)
    assert tile.blocks > 1
    assert tile.tiles > 1
    assert loads == tile.blocks + (0 if op == "gather" else -(-count // tile.rows))


@pytest.mark.parametrize("sizes", [(0, 5, 3), (4, 0, 3), (4, 5, 0)])
def test_nothing_to_pick(sizes: tuple[int, int, int]) -> None:
    def body(k: KernelBuilder, x: Value, i: Value, u: Value) -> None:
        k.store(k.gather(x, i))
        k.store(k.scatter_add(x, i, u))
        k.store(k.scatter("A, B", i, u))

    count, inner, rows = sizes
    x, u = np.ones((count, inner), np.float32), np.ones((rows, inner), np.float32)
    graph = build(body, x="fp32[A, B]", i="int32[R]", u="fp32[R, B]")
    inputs = {"x": x, "i": np.zeros(rows, np.int32), "u": u}
    if count == 0 and rows:
        with pytest.raises(CompileError, match="3 indices into an axis without elements"):
            run(graph, inputs, "edge")
    else:
        run(graph, inputs, "edge")


def test_an_index_outside_traps() -> None:
    def body(k: KernelBuilder, x: Value, i: Value) -> None:
        k.store(k.gather(x, i))

    graph = build(body, x="fp32[A, B]", i="int32[R]")
    x = np.zeros((4, 8), np.float32)
    for wrong in (4, -5):
        inputs = {"x": x, "i": np.array([0, wrong], np.int32)}
        with pytest.raises(TrapError, match=r"gm_range.*operand index has .* in row .*; allowed are -4 to 3"):
            run_graph(graph, inputs, the_chip("edge"))
        with pytest.raises(CompileError, match=f"index {wrong} is outside an axis of 4 elements"):
            interpret(graph, inputs)


def test_indices_that_the_kernel_calculates_and_rows_that_it_goes_on_with() -> None:
    """Before and after are vector segments; views of the result cost no copy, of the table only where rows are apart."""

    def body(k: KernelBuilder, x: Value, i: Value, w: Value) -> None:
        picked = k.gather(k.transpose(x), i + 1)
        k.store(k.transpose(k.relu(picked) * 2.0))
        k.store(k.matmul(picked, w))
        k.store(k.sum(k.gather(k.exp(x), i), axes=1))

    rng = np.random.default_rng(9)
    inputs: dict[str, Any] = {
        "x": rng.standard_normal((20, 30)).astype(np.float32),
        "i": rng.integers(0, 19, 50).astype(np.int32),
        "w": rng.standard_normal((20, 8)).astype(np.float32),
    }
    ran = run(build(body, x="fp32[A, B]", i="int32[R]", w="fp32[A, C]"), inputs, "ascend_910b1")
    np.testing.assert_array_equal(ran.outputs["out0"], 2 * np.maximum(inputs["x"].T[inputs["i"] + 1].T, 0))


def encoded(k: KernelBuilder, words: Value, i: Value, positions: Value) -> Value:
    """What a sentence encoder begins with."""
    total = k.cast(k.embedding(words, i), "fp32") + k.cast(positions, "fp32")
    centred = total - k.mean(total, axes=-1, keepdims=True)
    return k.cast(centred * k.rsqrt(k.mean(centred * centred, axes=-1, keepdims=True) + 1e-6), "fp16")


@given(
    batch=st.sampled_from([0, 1, 2, 5]), tokens=SIZES, width=SIZES, vocabulary=SIZES, chip=st.sampled_from(CHIPS),
    kind=st.integers(0, 8),
)  # fmt: skip
@example(batch=2, tokens=300, width=384, vocabulary=64, chip="ascend_910a", kind=0)
@example(batch=0, tokens=8, width=64, vocabulary=64, chip="edge", kind=0)
@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
def test_rows_are_worked_on_where_they_arrive(
    batch: int, tokens: int, width: int, vocabulary: int, chip: str, kind: int
) -> None:
    """Lookups are reads of the vector segment that follows, whichever dims its tiles have."""

    def body(k: KernelBuilder, words: Value, i: Value, positions: Value, y: Value) -> None:
        rows = k.embedding(words, i)
        if kind == 0:
            k.store(encoded(k, words, i, positions))
        elif kind == 1:
            k.store(k.relu(rows))
        elif kind == 2:
            k.store(k.transpose(k.exp(rows)))
        elif kind == 3:
            k.store(k.sum(rows, axes=(0, 1)))
        elif kind == 4:
            k.store(k.sum(rows * k.embedding(words, i), axes=-1))
        elif kind == 5:
            k.store(k.cast(i, "fp16") + k.max(rows, axes=-1))
        elif kind == 6:
            k.store(k.select(k.lt(k.broadcast_to(k.reshape(i, "B, S, 1"), "B, S, D"), 0), rows, -rows))
        elif kind == 7:
            k.store(k.relu(k.embedding(k.exp(y) * 2.0, k.minimum(i, 0))))
        else:
            k.store(rows + rows * positions)
            k.store(k.sum(rows, axes=1, keepdims=True))

    rng = np.random.default_rng(kind)
    shape = (batch, tokens) if batch else (1, tokens)
    inputs: dict[str, Any] = {
        "words": (rng.integers(-4, 5, (vocabulary, width)) / 4).astype(np.float16),
        "i": rng.integers(-vocabulary, vocabulary, shape).astype(np.int32),
        "positions": (rng.integers(-4, 5, (tokens, width)) / 4).astype(np.float16),
        "y": (rng.integers(-4, 5, (vocabulary, width)) / 4).astype(np.float16),
    }
    types = {"words": "fp16[V, D]", "i": "int32[B, S]", "positions": "fp16[S, D]", "y": "fp16[V, D]"}
    graph = build(body, **types)
    ran = run(graph, inputs, chip)
    np.testing.assert_array_equal(
        run_plan(make_plan(graph, CASTS), inputs)["out0"],
        run_plan(make_plan(graph, CASTS, whole_rows=False), inputs)["out0"],
    )
    if kind in (0, 1, 4, 5) and min(tokens, width) > 1:
        assert all(type(each) is VectorSegment for each in ran.plan.segments)
    if kind in (1, 4) and min(tokens, width) > 1:
        assert len(ran.runs) == 1


def test_whole_rows_that_do_not_fit_are_gathered_first() -> None:
    def body(k: KernelBuilder, words: Value, i: Value) -> None:
        wide = k.cast(k.embedding(words, i), "fp32")
        k.store(wide / k.sum(wide, axes=-1, keepdims=True))

    words = np.random.default_rng(1).random((3, 40_000)).astype(np.float16)
    ran = run(build(body, words="fp16[V, D]", i="int32[S]"), {"words": words, "i": np.array([1, -1], np.int32)}, "edge")
    assert any(type(each) is PickSegment for each in ran.plan.segments)


def test_a_lookup_takes_no_pinned_transfer() -> None:
    def body(k: KernelBuilder, words: Value, i: Value) -> None:
        k.store(k.relu(k.embedding(words, i)))

    inputs = {"words": np.ones((3, 64), np.float16), "i": np.array([1, -1], np.int32)}
    graph = build(body, words="fp16[V, D]", i="int32[S]")
    with pytest.raises(CompileError, match=r"pin transfer.words = .* nothing for rows by index"):
        run(graph, inputs, "edge", Pins(transfer={"words": (1, 64)}))
    run(graph, inputs, "edge", Pins(tile={"vector": (1, 32)}, cache={"words": "stream"}))


def test_a_table_whose_rows_lie_apart_is_no_copy() -> None:
    def body(k: KernelBuilder, words: Value, i: Value) -> None:
        k.store(k.relu(k.gather(words[:, 8:24], i)))
        k.store(k.relu(k.gather(k.reshape(words, "V, 4, 8"), i)))

    rng = np.random.default_rng(1)
    inputs = {"words": values(rng, "fp16", (50, 32)), "i": rng.integers(0, 50, 70).astype(np.int32)}
    ran = run(build(body, words="fp16[V, 32]", i="int32[S]"), inputs, "edge")
    assert len(ran.runs) == 2


def spec(op: str, outer: int, count: int, inner: int, picks: int, dtype: str = "fp32") -> PickSpec:
    return PickSpec(op, dtype, outer, count, inner, picks, (0, 0), (1, 0), (2, 0), "p0", "normal")


@given(
    outer=st.integers(1, 1 << 20), inner=st.integers(1, 1 << 29), picks=st.integers(1, (1 << 31) - 1),
    dtype=st.sampled_from(["fp32", "fp16", "int8"]), ub=st.sampled_from([128, 192, 256]), cores=st.integers(1, 64),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_tiles_of_any_size_fit(outer: int, inner: int, picks: int, dtype: str, ub: int, cores: int) -> None:
    tile = plan_pick(spec("gather", outer, 10, inner, picks, dtype), ub << 10, cores)
    assert 2 * tile.rows * tile.pitch + 8 * tile.block <= ub << 10
    assert tile.cols * (tile.parts - 1) < inner <= tile.cols * tile.parts
    assert tile.block * (tile.blocks - 1) < picks <= tile.block * tile.blocks
    assert tile.tiles == 1 or tile.rows % 8 == 0


@pytest.mark.parametrize("op", ["gather", "scatter", "scatter_add"])
def test_one_template_serves_all_sizes(op: str) -> None:
    chip, isa = the_chip("ascend_910b1"), the_isa()
    family = PickFamily(chip, isa)
    for outer, count, inner, picks in (
        *((1, 9, 1, 50_000), (3, 77, 40, 9001), (2, 5, 100_003, 17), (1, 1, 1, 1), (1, 8, 64, 7), (9, 3, 41, 90_001)),
    ):
        one = spec(op, outer, count, inner, picks)
        made, alone = family.instance(one, 3), PickFamily(chip, isa).instance(one, 3)
        assert made is not None
        assert alone is not None
        np.testing.assert_array_equal(made.words, alone.words)
        assert [each.ranges for each in made.entries] == [each.ranges for each in alone.entries]
        sizes = [4 * outer * count * inner, 4 * picks, 4 * outer * picks * inner]
        verify(isa, made, limits_of(chip.name), argument_bytes=sizes)
    assert family.instance(spec(op, 1, 9, 0, 5), 3) is None


def test_what_cannot_be_picked_is_told() -> None:
    chip = the_chip("edge")
    ub = chip.capacity_bytes("ub")
    with pytest.raises(CompileError, match="rows of 4294967296 bytes; allowed: less than 4 GiB"):
        plan_pick(spec("gather", 1, 2, 1 << 30, 1), ub, 1)
    with pytest.raises(CompileError, match="2147483648 rows and 1 indices; allowed: 2147483647 of each"):
        plan_pick(spec("gather", 1, 1 << 31, 1, 1), ub, 1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda k, x, i: k.gather(x, k.cast(i, "fp32")), "gather: indices are int32, not fp32"),
        (lambda k, x, i: k.gather(x, i, 2), "axis 2 must be within the 2 dims of fp32"),
        (lambda k, x, i: k.embedding(k.reshape(x, "A, B, 1"), i), "must have rank 2; gather takes any"),
        (lambda k, x, i: k.scatter_add(x, i, x), r"must have the shape \[R, B\]"),
        (
            lambda k, x, i: k.scatter_add(k.cast(x, "int8"), i, k.cast(k.gather(x, i), "int8")),
            "scatter_add does not take int8; allowed: fp32, fp16, bf16, int32",
        ),
        (lambda k, x, i: k.scatter(k.cast(x, "fp16"), i, k.gather(x, i)), "must be fp32"),
        (lambda k, x, i: k.scatter_add("A, Q", i, k.gather(x, i)), "unknown dimension 'Q'"),
    ],
)
def test_errors(body: Any, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        build(lambda k, x, i: k.store(body(k, x, i)), x="fp32[A, B]", i="int32[R]")


def test_pins_of_a_single_segment() -> None:
    one = spec("gather", 1, 8, 8, 8)
    chip = the_chip("edge")
    with pytest.raises(CompileError, match=r"pin tile = .*nothing for rows by index; only cores"):
        compile_pick(one, 3, chip, the_isa(), Pins(tile={"vector": (1, 8)}))
    with pytest.raises(CompileError, match="pin cores = 99 cannot be honoured"):
        compile_pick(one, 3, chip, the_isa(), Pins(cores=99))
