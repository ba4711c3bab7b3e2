"""Segments with rows or columns that others share, whose cores stream side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import build
from tests.compiler.vector.test_interleaved import CHIP, cycles, instance, loads_past_l2, segment_of
from tests.compiler.vector_run import run_graph, the_isa

from npuvm.compiler import Graph
from npuvm.compiler.vector.codegen import compile_vector
from npuvm.compiler.vector.family import Chosen, VectorFamily
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.simulator import simulate


def scaled() -> Graph:
    """Rows by a column."""
    return build(lambda k, x, by: k.store(x * by), x="fp32[M, N]", by="fp32[M, 1]")


def biased() -> Graph:
    """A row for all, in another dtype, and a second result."""

    def body(k: Any, x: Any, row: Any) -> None:
        total = k.cast(x, "fp32") + row
        k.store(total, "wide")
        k.store(k.cast(total, "fp16"), "narrow")

    return build(body, x="fp16[M, N]", row="fp32[N]")


def numbered() -> Graph:
    """Elements that know their row and their column."""

    def body(k: Any, x: Any, row: Any) -> None:
        places = k.iota(x.shape, axis=0) * 3 + k.iota(x.shape, axis=1)
        k.store(x + row + places)

    return build(body, x="int32[M, N]", row="int32[N]")


def chosen(graph: Graph, chip: NpuConfig, m: int, n: int) -> Chosen:
    """What a shape gets."""
    found = VectorFamily(segment_of(graph), ("M", "N"), chip, the_isa()).chosen((m, n))
    assert found is not None
    return found


def is_dealt(graph: Graph, m: int, n: int) -> bool:
    """Whether cores have blocks of rows in turn."""
    grids = chosen(graph, CHIP, m, n).grids
    return bool(grids) and grids[0].open == {"d0", "d1"}


_SIZES = (
    (500, 500), (1024, 256), (1027, 256), (3001, 128), (100, 2048), (257, 777), (8200, 41),
    (3, 60_000), (1, 200_000), (13, 17_001),
)  # fmt: skip


@pytest.mark.parametrize(("m", "n"), _SIZES)
def test_rows_by_a_column(m: int, n: int) -> None:
    assert is_dealt(scaled(), m, n)
    rng = np.random.default_rng(m)
    x, by = rng.standard_normal((m, n)).astype(np.float32), rng.standard_normal((m, 1)).astype(np.float32)
    (found,) = run_graph(scaled(), {"x": x, "by": by}, CHIP).outputs.values()
    assert np.array_equal(found, x * by)


@settings(max_examples=12)
@given(m=st.integers(400, 1200), n=st.integers(700, 1500), seed=st.integers(0, 99))
def test_a_row_for_all(m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, row = rng.standard_normal((m, n)).astype(np.float16), rng.standard_normal(n).astype(np.float32)
    found = run_graph(biased(), {"x": x, "row": row}, CHIP).outputs
    assert np.array_equal(found["wide"], x.astype(np.float32) + row)
    assert np.array_equal(found["narrow"], (x.astype(np.float32) + row).astype(np.float16))


def test_blocks_know_their_places() -> None:
    m, n = 703, 512
    assert is_dealt(numbered(), m, n)
    rng = np.random.default_rng(0)
    x, row = (rng.integers(-99, 99, shape).astype(np.int32) for shape in ((m, n), (n,)))
    (found,) = run_graph(numbered(), {"x": x, "row": row}, CHIP).outputs.values()
    assert np.array_equal(found, x + row + 3 * np.arange(m)[:, None] + np.arange(n))


def test_one_tensor_read_twice_stays_in_order() -> None:
    def body(k: Any, x: Any, by: Any) -> None:
        k.store(k.slice(x, 1, 1001, axes=1) * by + k.slice(x, 0, 1000, axes=1))

    assert not chosen(build(body, x="fp32[M, 1001]", by="fp32[M, 1]"), CHIP, 1000, 1000).grids


def test_small_ones_stay_in_order() -> None:
    assert not chosen(scaled(), CHIP, 100, 100).grids


@pytest.mark.parametrize("n", [128, 1000, 1024, 5000, 16384, 50_000, 5_000_000])
@pytest.mark.parametrize("overrides", [(), ("memory.hbm.banks=8",), ("memory.hbm.row_bytes=1024",)], ids=str)
def test_rows_of_main_memory_stay_open(n: int, overrides: tuple[str, ...]) -> None:
    """The programs of one chip, on it and on those that it may be."""
    chip, m = load_chip("ascend_910b1"), 5_000_000 // n
    pieces = compile_vector(segment_of(scaled()), {"M": m, "N": n}, chip, the_isa())
    assert pieces is not None
    dealt, silicon = instance(scaled(), chip, m, n), load_chip("ascend_910b1", overrides)
    nbytes = [4 * m * n, 4 * m, 4 * m * n]
    assert cycles(dealt, silicon, nbytes) < 0.97 * cycles(pieces.image, silicon, nbytes)


def several() -> Graph:
    """A row for all, and three results."""

    def body(k: Any, x: Any, row: Any) -> None:
        wide = k.cast(x, "fp32")
        k.store(wide + k.cast(row, "fp32"), "o")
        k.store(wide * 2.0, "p")
        k.store(k.relu(x), "q")

    return build(body, x="fp16[M, N]", row="fp16[N]")


def widened() -> Graph:
    """Small elements by a column, and a row: elements of the result are four times as large."""
    return build(
        lambda k, x, by, row: k.store(k.cast(x, "fp32") * k.cast(by, "fp32") + row),
        x="int8[M, N]", by="fp16[M, 1]", row="fp32[N]",
    )  # fmt: skip


def of_pieces(graph: Graph, m: int, n: int, nbytes: list[int]) -> float:
    """The cycles of a shape as shares of those that it takes where each core has a piece of its own."""
    chip = load_chip("ascend_910b1")
    pieces = compile_vector(segment_of(graph), {"M": m, "N": n}, chip, the_isa())
    assert pieces is not None
    return cycles(instance(graph, chip, m, n), chip, nbytes) / cycles(pieces.image, chip, nbytes)


@pytest.mark.parametrize(("m", "n"), [(175, 55_808), (32, 98_816), (897, 32_768)])
def test_rounds_that_are_not_full_count_whole(m: int, n: int) -> None:
    """Tiles of so many columns leave a third of the cores without one in the last round."""
    assert of_pieces(several(), m, n, [2 * m * n, 2 * n, 4 * m * n, 4 * m * n, 2 * m * n]) < 1.02


@pytest.mark.parametrize(("m", "n"), [(572, 5734), (940, 6107), (2125, 3988), (2994, 5684)])
def test_single_rows_do_not_crowd_at_a_column(m: int, n: int) -> None:
    """Rows off blocks by two columns: tiles of one row would read theirs from one channel of main memory."""
    graph = build(lambda k, x, by, to: k.store(x * by + to), x="fp32[M, N]", by="fp32[M, 1]", to="fp32[M, 1]")
    assert of_pieces(graph, m, n, [4 * m * n, 4 * m, 4 * m, 4 * m * n]) < 1.02


def test_results_wider_than_operands_count() -> None:
    m, n = 2, 5_064_704
    assert of_pieces(widened(), m, n, [m * n, 2 * m, 4 * n, 4 * m * n]) < 0.95


def test_results_stay_in_l2() -> None:
    """Where all of it is more than L2, what is read once leaves it alone; the row that all share stays there too."""
    graph = build(lambda k, x, row: k.store(x + row), x="fp32[M, N]", row="fp32[N]")
    below, past = (instance(graph, CHIP, m, 512) for m in (400, 760))
    assert not any(loads_past_l2(below))
    assert sorted(loads_past_l2(past)) == [False, False, True]
    sizes = 4 * 760 * 512, 4 * 512, 4 * 760 * 512
    windows = [(512 + (at << 21), size) for at, size in enumerate(sizes)]
    addresses = [address for address, _ in windows]
    run = simulate(CHIP, the_isa(), past, addresses=addresses, windows=windows, data=False)
    assert run.bytes["hbm_write"] == 0
