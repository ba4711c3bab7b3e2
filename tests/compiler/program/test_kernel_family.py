"""A kernel planned once: shapes that were seen, shapes that were not, and shapes past any tensor that exists."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.compiler.graphs import build
from tests.compiler.vector_run import CHIPS, run_graph, the_chip, the_isa

from npuvm.compiler import CompileError, Graph, Pins, compile_kernel
from npuvm.compiler.program.family import KernelFamily
from npuvm.hw.config import load_chip
from npuvm.hw.simulator import simulate
from npuvm.isa import EvenEntries


def softmax() -> Graph:
    """Rows of fp32."""

    def body(k: Any, x: Any) -> None:
        value = x
        risen = k.exp(value - k.max(value, axes=-1, keepdims=True))
        k.store(risen / k.sum(risen, axes=-1, keepdims=True))

    return build(body, x="fp32[M, N]")


def add(**types: str) -> Graph:
    """Two tensors."""
    return build(lambda k, x, y: k.store(x + y), **types)


def test_the_same_shapes_give_the_same_programs() -> None:
    graph, chip = softmax(), the_chip("edge")
    first = compile_kernel(graph, {"x": (30, 70)}, chip, the_isa())
    assert compile_kernel(graph, {"x": [30, 70]}, chip, the_isa()) is first
    assert compile_kernel(graph, {"x": (30, 71)}, chip, the_isa()) is not first
    assert "plan" in first.seconds
    assert "plan" not in compile_kernel(graph, {"x": (31, 71)}, chip, the_isa()).seconds


def test_pins_do_not_share_programs_with_kernels_that_have_none() -> None:
    graph, chip = softmax(), the_chip("edge")
    free = compile_kernel(graph, {"x": (64, 64)}, chip, the_isa())
    pinned = compile_kernel(graph, {"x": (64, 64)}, chip, the_isa(), Pins(cores=1))
    assert len(pinned.launches[0].image.entries) == 1
    assert compile_kernel(graph, {"x": (64, 64)}, chip, the_isa()) is free


@pytest.mark.parametrize("chip", CHIPS)
def test_code_does_not_grow_with_the_tensor(chip: str) -> None:
    family = KernelFamily(softmax(), the_chip(chip), the_isa())
    words = {
        len(launch.image.words)
        for rows in (2, 77, 4096, 100_003)
        for launch in family.compile({"x": (rows, 512)}).launches
    }
    assert len(words) == 1


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("shape", [(3 << 30, 2), (2, 3 << 30), (70_000, 70_001)])
def test_more_elements_than_31_bits_count(chip: str, shape: tuple[int, int]) -> None:
    kernel = compile_kernel(add(x="fp16[M, N]", y="fp16[M, N]"), {"x": shape, "y": shape}, the_chip(chip), the_isa())
    (launch,) = kernel.launches
    tiles = max(stop for each in launch.image.entries for _, stop in each.ranges)
    assert tiles * 200_000 > shape[0] * shape[1]
    launch.image.relocate([0, 1 << 40, 1 << 41])


def test_a_size_beyond_a_field_is_an_error_of_the_compiler() -> None:
    shape = (1 << 40, 1 << 40)
    with pytest.raises(CompileError, match=r"v0: szt?c?: operand \w+ is \d+; allowed: 0 to 4294967295"):
        compile_kernel(add(x="fp16[M, N]", y="fp16[M, N]"), {"x": shape, "y": shape}, the_chip("edge"), the_isa())


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (3, 4)}, "no shape for parameter 'y'"),
        ({"x": (3, 4), "y": (3, 4), "z": (1,)}, "no parameter 'z'; parameters: x, y"),
        ({"x": (3, 4), "y": (3, 5)}, "N is 4 from x.1. but 5 from y.1."),
        ({"x": (3, 4, 1), "y": (3, 4)}, "parameter 'x' is .* got shape"),
        ({"x": (-3, 4), "y": (-3, 4)}, "is -3; a size is >= 0"),
        ({"x": (3.0, 4), "y": (3.0, 4)}, "is 3.0; a size is a whole number"),
        ({"x": ("3", 4), "y": ("3", 4)}, "is '3'; a size is a whole number"),
    ],
)
def test_wrong_shapes_are_told_apart(shapes: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compile_kernel(add(x="fp16[M, N]", y="fp16[M, N]"), shapes, the_chip("edge"), the_isa())


@pytest.mark.parametrize("rows", [4096, 100_000])
def test_single_columns_are_worked_on_as_rows(rows: int) -> None:
    """A tensor of single columns beside a row: its elements lie one after the other, so it need not take longer than a row."""
    chip = the_chip("ascend_910b1")
    graph = add(x="fp32[M, N]", y="fp32[N]")
    cycles = []
    for shapes in ({"x": (rows, 1), "y": (1,)}, {"x": (1, rows), "y": (rows,)}):
        (launch,) = compile_kernel(graph, shapes, chip, the_isa()).launches
        addresses = [index << 24 for index in range(launch.image.n_args)]
        windows = [(address, 1 << 23) for address in addresses]
        cycles.append(simulate(chip, the_isa(), launch.image, addresses=addresses, windows=windows, data=False).cycles)
    assert cycles[0] < 3 * cycles[1]


@pytest.mark.parametrize("chip", CHIPS)
def test_a_size_that_is_always_zero(chip: str) -> None:
    """Nothing is planned for it: sums over nothing are zeros, products over nothing the bias, and the rest needs no launch."""

    def body(k: Any, x: Any, a: Any, b: Any, c: Any) -> None:
        k.store(k.sum(x, axes=0), name="sums")
        k.store(x * 2.0, name="nothing")
        k.store(k.matmul(a, b, bias=c), name="biases")

    types = {"x": "fp32[0, N]", "a": "fp16[M, 0]", "b": "fp16[0, N]", "c": "fp16[N]"}
    rng = np.random.default_rng(0)
    inputs: dict[str, npt.NDArray[Any]] = {
        "x": np.zeros((0, 33), np.float32),
        "a": np.zeros((5, 0), np.float16),
        "b": np.zeros((0, 33), np.float16),
        "c": rng.standard_normal(33).astype(np.float16),
    }
    ran = run_graph(build(body, **types), inputs, the_chip(chip))
    assert (ran.outputs["sums"] == 0).all()
    assert ran.outputs["nothing"].shape == (0, 33)
    assert (ran.outputs["biases"] == inputs["c"]).all()
    kernel = compile_kernel(build(body, **types), {n: a.shape for n, a in inputs.items()}, the_chip(chip), the_isa())
    assert len(kernel.launches) == 2


@pytest.mark.parametrize(
    ("name", "rows", "cols"),
    [("ascend_910b1", 700, 528), ("ascend_910b1", 769, 528), ("ascend_910b1", 833, 528), ("edge", 333, 1040)],
)
def test_products_of_many_tiles_walk_them_in_bands(name: str, rows: int, cols: int) -> None:
    """Every tile of the result is computed once, also those of the last band, which is lower or ends in a lower tile.

    On the second chip all rows are one band: L2 has no room for the right operand.
    """
    settings = ["core.count=2"] if name == "ascend_910b1" else ["memory.l2.capacity_mib=1"]
    chip = load_chip(name, settings)
    inputs: dict[str, npt.NDArray[Any]] = {
        "a": np.repeat((np.arange(rows) % 7).astype(np.float16)[:, None], 608, axis=1),
        "b": np.repeat(np.arange(cols, dtype=np.float16)[None] / np.float16(512), 608, axis=0),
    }
    types = {"a": "fp16[M, K]", "b": "fp16[K, N]"}
    graph = build(lambda k, a, b: k.store(k.matmul(a, b, dtype="fp32")), **types)
    (launch,) = compile_kernel(graph, {name: each.shape for name, each in inputs.items()}, chip, the_isa()).launches
    entries = launch.image.entries
    assert isinstance(entries, EvenEntries)
    # What whole rounds leave has a grid of its own.
    assert len(launch.image.grids or ()) == 2 + entries.tail
    (got,) = run_graph(graph, inputs, chip).outputs.values()
    expected = inputs["a"].astype(np.float64) @ inputs["b"].astype(np.float64)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
