"""Kernels that pick rows by index, on devices with data and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npuvm.compiler import KernelBuilder, ParamRef, Pins, kernel
from npuvm.hw.errors import SimulationError
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.runtime import Device
from npuvm.runtime.analysis.recording import replay


@kernel(table="fp16[V, D]", ids="int32[N]", base="fp32[V, D]")
def look_up_and_add(k: KernelBuilder, table: ParamRef, ids: ParamRef, base: ParamRef) -> None:
    rows = k.embedding(k.load(table), k.load(ids))
    k.store(rows)
    k.store(k.scatter_add(k.load(base), k.load(ids), k.cast(rows, "fp32") * 2.0))


SHAPES = {"table": ((300, 96), "fp16"), "ids": ((70,), "int32"), "base": ((300, 96), "fp32")}


def with_data(pins: Pins | None = None, chip: str = "ascend_910b1") -> Device:
    """A device that has run the kernel; results are checked."""
    rng = np.random.default_rng(3)
    device = Device(chip)
    table = rng.integers(-4, 5, (300, 96)).astype(np.float16)
    ids = rng.integers(-300, 300, 70).astype(np.int32)
    base = rng.integers(-4, 5, (300, 96)).astype(np.float32)
    inputs: dict[str, Any] = {"table": table, "ids": ids, "base": base}
    rows, added = device.run(look_up_and_add, {n: device.tensor(each) for n, each in inputs.items()}, pins).values()
    np.testing.assert_array_equal(device.read(rows), table[ids])
    expected = base.copy()
    np.add.at(expected, ids, 2 * table[ids].astype(np.float32))
    np.testing.assert_array_equal(device.read(added), expected)
    return device


@pytest.mark.parametrize("chip", ["ascend_910a", "ascend_910b1", "edge"])
def test_several_segments_in_one_launch(chip: str) -> None:
    assert len(with_data(Pins(stack="sequence"), chip).launches) == 1


def test_a_replay_picks_the_recorded_rows() -> None:
    device = with_data()
    assert any(record.result.indices for record in device.launches)
    again = replay(device.launches, device.chip)
    assert [each.cycles for each in again.results] == [record.result.cycles for record in device.launches]


def test_without_data_the_rows_must_be_declared() -> None:
    device = Device("edge", timing_only=True)
    with pytest.raises(SimulationError, match="picks rows by index; without data pass recorded vectors"):
        device.run(look_up_and_add, {name: device.empty(*each) for name, each in SHAPES.items()})
    cycles = []
    for kind in ("uniform", "sequential", "uniform"):
        device = Device("edge", timing_only=True, indices=IndexDistribution(kind))
        device.run(look_up_and_add, {name: device.empty(*each) for name, each in SHAPES.items()})
        cycles.append([record.result.cycles for record in device.launches])
        again = replay(device.launches, device.chip)
        assert [each.cycles for each in again.results] == cycles[-1]
    assert cycles[0] == cycles[2] != cycles[1]
