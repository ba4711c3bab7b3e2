"""Uncertainty of launches that are simulated for real."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.hw.uncertainty import Band
from npuvm.runtime import Device
from npuvm.runtime.analysis.uncertainty import RunUncertainty, propagate_launches, render_uncertainty, uncertainty_json


@kernel(x="fp16[M, N]", y="fp16[M, N]")
def added(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.load(x) + k.load(y))


@kernel(x="fp32[M, N]")
def powers(k: KernelBuilder, x: ParamRef) -> None:
    value = k.load(x)
    for _ in range(6):
        value = k.exp(value)
    k.store(value)


@kernel(a="fp16[M, K]", b="fp16[N, K]")
def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    k.store(k.matmul(k.load(a), k.load(b), transpose_b=True))


@pytest.fixture(scope="module")
def device() -> Device:
    """A kernel that main memory bounds and one that the vector unit bounds, on the edge chip."""
    device = Device("edge", timing_only=True, engine="simpy")
    device.run(added, {name: device.empty((64, 256), "fp16") for name in ("x", "y")})
    device.run(powers, {"x": device.empty((16, 256), "fp32")})
    return device


@pytest.fixture(scope="module")
def run(device: Device) -> RunUncertainty:
    return propagate_launches(device.launches, samples=8)


def test_the_nominal_chip_is_that_of_the_records(device: Device, run: RunUncertainty) -> None:
    cycles = [launch.result.cycles for launch in device.launches]
    assert [each.nominal for each in run.kernels.values()] == cycles
    assert run.whole.nominal == sum(cycles)


def test_bands_hold_the_nominal_time(run: RunUncertainty) -> None:
    for each in (*run.kernels.values(), run.whole):
        assert each.microseconds.p5 < each.nominal_us < each.microseconds.p95


def test_the_first_number_is_the_one_that_bounds_a_kernel(run: RunUncertainty) -> None:
    first = {name: each.influences[0].parameter.path for name, each in run.kernels.items()}
    assert first["added"] == "memory.hbm.bandwidth_gbps"
    influence = run.kernels["powers"].influences
    assert influence[0].parameter.path in ("clock_ghz", "core.vector.classes.vexp.cycles_per_repeat")
    assert "core.vector.classes.vexp.cycles_per_repeat" in [each.parameter.path for each in influence[:3]]


def test_what_no_instruction_uses_is_not_among_the_influences(run: RunUncertainty) -> None:
    paths = {influence.parameter.path for influence in run.whole.influences}
    assert not [path for path in paths if path.startswith("core.cube.") or ".vlog." in path]


def test_only_the_operand_types_in_use_are_tried() -> None:
    device = Device("edge", timing_only=True, engine="simpy")
    device.run(product, {name: device.empty((32, 32), "fp16") for name in ("a", "b")})
    tried: list[str] = []
    found = propagate_launches(device.launches, samples=0, progress=lambda _done, _total, label: tried.append(label))
    assert [path for path in tried if "cycles_per_block" in path] == ["core.cube.cycles_per_block.fp16"]
    assert not [path for path in tried if path.startswith("core.vector.classes")]
    assert found.whole.cycles == Band(*[found.whole.nominal] * 3)


def test_table_and_json(run: RunUncertainty) -> None:
    file = io.StringIO()
    Console(file=file, width=150).print(render_uncertainty(run, top=2))
    text = file.getvalue()
    assert text.startswith("uncertainty of edge: 8 samples")
    assert f"{run.whole.nominal:,}" in text
    assert "memory.hbm.bandwidth_gbps" in text
    document = json.loads(json.dumps(uncertainty_json(run), allow_nan=False))
    assert set(document["kernels"]) == {"added", "powers"}
    assert (document["samples"], document["seed"]) == (8, 1)
