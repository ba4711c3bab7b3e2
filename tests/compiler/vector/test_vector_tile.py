"""Tile choice: it fits, its estimate is near the simulator, and what it picks is near the best tile."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from tests.compiler.graphs import CASTS, build
from tests.compiler.vector_run import the_chip, the_isa

from npuvm.compiler import CompileError, KernelBuilder, ParamRef, Value, kernel
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.codegen import compile_vector
from npuvm.hw.simulator import simulate
from npuvm.runtime import Device


def softmax(k: KernelBuilder, x: Value) -> None:
    e = k.exp(x - k.max(x, -1, keepdims=True))
    k.store(e / k.sum(e, -1, keepdims=True))


def gelu(k: KernelBuilder, x: Value) -> None:
    k.store(k.gelu(x))


def column_sum(k: KernelBuilder, x: Value) -> None:
    k.store(k.sum(x, 0))


def cycles(
    body: Any, chip: str, shape: tuple[int, int], tile: tuple[int, int] | None = None
) -> tuple[int, float, tuple[int, int]]:
    """(simulated cycles, estimated cycles, tile), timing only."""
    graph = build(body, x="fp32[M, N]")
    (segment,) = make_plan(graph, CASTS).segments
    assert isinstance(segment, VectorSegment)
    pins = Pins(tile={"vector": tile} if tile else {})
    made = compile_vector(segment, dict(zip("MN", shape, strict=True)), the_chip(chip), the_isa(), pins)
    assert made is not None
    windows = [(4096, 1 << 22), (1 << 23, 1 << 22)]
    addresses = [base for base, _ in windows]
    run = simulate(the_chip(chip), the_isa(), made.image, addresses=addresses, windows=windows, data=False)
    return run.cycles, made.tile.cycles, (made.tile.rows, made.tile.cols)


CASES = [(softmax, (128, 200)), (softmax, (24, 512)), (gelu, (64, 512)), (column_sum, (256, 320))]


@pytest.mark.parametrize("chip", ["ascend_910b1", "edge"])
@pytest.mark.parametrize(("body", "shape"), CASES)
def test_the_choice_is_near_the_best(body: Any, shape: tuple[int, int], chip: str) -> None:
    chosen, _, tile = cycles(body, chip, shape)
    rows, cols = tile
    others = []
    for factor in (1, 2, 4, 8):
        others += [(max(1, rows // factor), cols), (min(shape[0], rows * factor), cols)]
        if body is not softmax:
            others += [(rows, max(64, cols // factor)), (rows, cols * factor)]
    capacity = the_chip(chip).capacity_bytes("ub") // 40
    best = chosen
    for each in others:
        if each[0] * each[1] <= capacity:
            with suppress(CompileError):  # it does not fit
                best = min(best, cycles(body, chip, shape, each)[0])
    assert chosen <= 1.3 * best


@pytest.mark.parametrize(("body", "shape"), [(softmax, (512, 200)), (gelu, (256, 512))])
def test_the_estimate_is_near_the_simulator(body: Any, shape: tuple[int, int]) -> None:
    simulated, estimated, _ = cycles(body, "edge", shape)
    assert estimated == pytest.approx(simulated, rel=0.15)


def test_all_cores_get_work() -> None:
    graph = build(gelu, x="fp32[M, N]")
    (segment,) = make_plan(graph, CASTS).segments
    assert isinstance(segment, VectorSegment)
    for chip in ("ascend_910a", "ascend_910b1"):
        made = compile_vector(segment, {"M": 128, "N": 768}, the_chip(chip), the_isa())
        assert made is not None
        assert len(made.image.entries) == {"ascend_910a": 32, "ascend_910b1": 48}[chip]
        counts = [sum(stop - start for start, stop in entry.ranges) for entry in made.image.entries]
        assert max(counts) - min(counts) <= 1


def test_cores_without_a_tile_take_no_share_of_the_memory() -> None:
    """Three tiles of columns are few for 48 cores: their loads get the port's rate, so slower memory hardly matters."""

    @kernel(x="fp32[M, N]")
    def total(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.sum(k.load(x), 0))

    took = []
    for bandwidth in (1600, 400):
        device = Device("ascend_910b1", [f"memory.hbm.bandwidth_gbps={bandwidth}"], timing_only=True)
        # With a pin of how a program is written, cores do not share what is summed.
        device.run(total, {"x": device.empty((1000, 192), "fp32")}, Pins(order="column"))
        took.append(device.launches[0].result.cycles)
    assert took[1] <= 1.2 * took[0]
