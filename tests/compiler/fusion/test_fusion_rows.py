"""Rows that do not fit UB: only the operators that have them go without whole rows. Values are held against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.compiler.graphs import build
from tests.compiler.stack_run import run_compiled

from npuvm.compiler import Graph, Kernel, KernelBuilder, Pins, Value, compile_kernel
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.plan.launch_sources import launch_sources
from npuvm.compiler.plan.segments import PickSegment, VectorSegment
from npuvm.compiler.program.family import KernelFamily
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa
from npuvm.runtime import Device

CHIP, ISA = load_chip("edge"), load_isa()

Array = np.ndarray[Any, Any]


def softmax(k: KernelBuilder, x: Value, name: str) -> Value:
    with k.source(name):
        e = k.exp(x - k.max(x, axes=-1, keepdims=True))
        return e / k.sum(e, axes=-1, keepdims=True)


def two_widths() -> Graph:
    def body(k: KernelBuilder, x: Value, y: Value, z: Value) -> None:
        k.store(softmax(k, x, "long"), "long")
        k.store(softmax(k, y, "short"), "short")
        k.store(softmax(k, z, "long too"), "also")

    return build(body, x="fp32[M, N]", y="fp32[M, K]", z="fp32[M, N]")


def rows(x: Array) -> Array:
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    found: Array = e / e.sum(-1, keepdims=True)
    return found


def inputs_of(**shapes: tuple[int, ...]) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def forms(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    found = KernelFamily(graph, CHIP, ISA).looked(shapes)
    return [each.form for each in found.segments if isinstance(each, VectorSegment)]


def test_only_rows_that_do_not_fit_go_in_pieces() -> None:
    graph = two_widths()
    inputs = inputs_of(x=(3, 17_000), y=(3, 200), z=(3, 17_000))
    shapes = {name: each.shape for name, each in inputs.items()}
    assert sorted(forms(graph, shapes)) == ["accumulate"] * 4 + ["map"] * 2 + ["row"]
    outputs = run_compiled(compile_kernel(graph, shapes, CHIP, ISA), inputs, CHIP).outputs
    for name, source in (("long", "x"), ("short", "y"), ("also", "z")):
        np.testing.assert_allclose(outputs[name], rows(inputs[source]), rtol=1e-4, atol=1e-8)


def test_each_shape_has_the_rows_that_fit() -> None:
    """One family, in any order of shapes: none, one and the other too long, then all."""
    graph = two_widths()
    family = KernelFamily(graph, CHIP, ISA)
    for n, k, want in ((100, 200, 3), (100, 17_000, 2), (17_000, 100, 1), (17_000, 17_000, 0), (100, 300, 3)):
        found = family.looked({"x": (3, n), "y": (3, k), "z": (3, n)})
        assert sum(isinstance(each, VectorSegment) and each.form == "row" for each in found.segments) == want
        plan = list(family.plans_for({"x": (3, n), "y": (3, k), "z": (3, n)}))[1]
        assert [each.name for each in found.segments] == [each.name for each in plan.segments]


def test_sums_of_whole_rows_keep_their_bits() -> None:
    """A narrow sum of fp16 does not become a wide one since rows elsewhere are too long."""

    def body(k: KernelBuilder, x: Value, y: Value) -> None:
        k.store(k.sum(y, axes=-1), "alone")
        k.store(softmax(k, x, "long"), "long")

    graph = build(body, x="fp32[M, N]", y="fp16[M, K]")
    rng = np.random.default_rng(2)
    y = rng.standard_normal((4, 100)).astype(np.float16)
    results = []
    for n in (64, 17_000):
        inputs: dict[str, Array] = {"x": rng.standard_normal((4, n)).astype(np.float32), "y": y}
        made = compile_kernel(graph, {name: each.shape for name, each in inputs.items()}, CHIP, ISA)
        results.append(run_compiled(made, inputs, CHIP).outputs["alone"])
    np.testing.assert_array_equal(results[0], results[1])


def test_a_lookup_of_long_rows_leaves_another_in_place() -> None:
    def body(k: KernelBuilder, words: Value, i: Value, x: Value, j: Value) -> None:
        with k.source("long"):
            wide = k.cast(k.embedding(words, i), "fp32")
            k.store(wide / k.sum(wide, axes=-1, keepdims=True), "long")
        with k.source("short"):
            k.store(k.embedding(x, j) * 2.0, "short")

    graph = build(body, words="fp16[V, D]", i="int32[S]", x="fp16[W, E]", j="int32[S]")
    inputs: dict[str, Array] = {
        "words": np.random.default_rng(1).random((3, 17_000)).astype(np.float16),
        "i": np.array([1, 2], np.int32),
        "x": np.random.default_rng(1).random((5, 64)).astype(np.float16),
        "j": np.array([4, 0], np.int32),
    }
    shapes = {name: each.shape for name, each in inputs.items()}
    found = KernelFamily(graph, CHIP, ISA).looked(shapes)
    assert sum(isinstance(each, PickSegment) for each in found.segments) == 1
    device = Device(CHIP)
    given = {name: device.tensor(each) for name, each in inputs.items()}
    outputs = {name: each.numpy() for name, each in device.run(Kernel(graph), given).items()}
    wide = inputs["words"][[1, 2]].astype(np.float64)
    np.testing.assert_allclose(outputs["long"], wide / wide.sum(-1, keepdims=True), rtol=1e-4)
    np.testing.assert_array_equal(outputs["short"], inputs["x"][[4, 0]] * np.float16(2))


def test_phases_and_operators_are_those_of_the_plan_of_the_shape() -> None:
    graph = two_widths()
    shapes = {"x": (3, 17_000), "y": (3, 200), "z": (3, 17_000)}
    found = inspect_kernel(graph, shapes, CHIP, ISA)
    assert not found.whole_rows
    kept = [each for each in found.plan.segments if isinstance(each, VectorSegment)]
    assert sum(each.form == "row" for each in kept) == 1
    assert {name for each in launch_sources(graph, found.compiled.launches, CHIP, ISA) for name in each} == {
        "long",
        "short",
        "long too",
    }
    pinned = inspect_kernel(graph, shapes, CHIP, ISA, Pins(cores=1))
    assert [launch.segment for launch in pinned.compiled.launches] == [each.name for each in pinned.segments]
