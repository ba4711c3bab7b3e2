from __future__ import annotations

from typing import Any

import pytest

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.hw.config import load_chip
from npuvm.hw.results.stats import RunResult
from npuvm.runtime import Device
from npuvm.runtime.analysis.repeats import address_period


@kernel(x="fp32[R, C]", y="fp32[R, C]")
def add(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    k.store(k.load(x) + k.load(y))


HASHED = "memory.address_hash=true"


def results(*overrides: str, moved: int = 0, **options: Any) -> list[RunResult]:
    """Three launches of a sum on new tensors; between the second and the third `moved` bytes are taken."""
    device = Device("edge", overrides, timing_only=True, **options)
    for turn in range(3):
        if turn == 2 and moved:
            device.empty((moved,), "int8")
        inputs = {name: device.empty((24, 200), "fp32") for name in ("x", "y")}
        (output,) = device.run(add, inputs).values()
        for tensor in (output, *inputs.values()):
            tensor.free()
    return [record.result for record in device.launches]


class TestLaunchesWithAnEmptyL2:
    def test_the_same_launch_is_simulated_once(self) -> None:
        first, second, third = results(cold_l2=True)
        assert first is second is third

    @pytest.mark.parametrize("cold", [False, True])
    def test_only_without_the_option_a_launch_finds_what_the_one_before_left(self, cold: bool) -> None:
        device = Device("edge", timing_only=True, cold_l2=cold)
        x = device.empty((24, 200), "fp32")
        for _ in range(2):
            device.run(add, {"x": x, "y": x})
        first, second = (record.result.bytes["hbm_read"] for record in device.launches)
        assert (second, first) == (first if cold else 0, 24 * 200 * 4)

    def test_addresses_may_move_by_what_maps_alike(self) -> None:
        period = address_period(load_chip("edge"))
        assert period is not None
        first, _, third = results(cold_l2=True, moved=period)
        assert third is first

    def test_other_addresses_are_simulated(self) -> None:
        first, second, third = results(cold_l2=True, moved=512)
        assert first is second
        assert third is not first

    def test_hashed_addresses_never_map_alike(self) -> None:
        period = address_period(load_chip("edge"))
        assert period is not None
        first, second, third = results(HASHED, cold_l2=True, moved=period)
        assert first is second
        assert third is not first

    @pytest.mark.parametrize("moved", [0, 512, 1 << 16])
    def test_a_known_result_is_that_of_a_simulation(self, moved: int) -> None:
        reused = results(cold_l2=True, moved=moved)
        alone = []
        for turn in range(3):
            device = Device("edge", timing_only=True, cold_l2=True)
            if turn == 2 and moved:
                device.empty((moved,), "int8")
            device.run(add, {name: device.empty((24, 200), "fp32") for name in ("x", "y")})
            alone.append(device.launches[0].result)
        assert reused == alone

    def test_with_data_every_launch_runs(self) -> None:
        import numpy as np

        device = Device("edge", cold_l2=True)
        x = device.tensor(np.ones((4, 8), np.float32))
        for _ in range(2):
            (output,) = device.run(add, {"x": x, "y": x}).values()
            assert (output.numpy() == 2).all()
        assert device.launches[0].result is not device.launches[1].result


SLICES = ("memory.l2.line_bytes=256", "memory.l2.slices=8", "memory.hbm.channels=3", "memory.hbm.interleave_bytes=512")
ROWS = ("memory.hbm.row_bytes=1024", "memory.hbm.row_miss_cycles=9", "memory.hbm.banks=5")


@pytest.mark.parametrize(
    ("overrides", "period"),
    [
        (SLICES, 2048 * 3),  # slices come again after 2048 bytes, channels after 1536
        ((*SLICES, *ROWS), 2048 * 3 * 5),  # open rows after 1024 x 3 x 5 = 15360
        ((*SLICES, HASHED), None),
    ],
)
def test_the_period_is_the_common_multiple_of_all_mappings(overrides: tuple[str, ...], period: int | None) -> None:
    assert address_period(load_chip("edge", overrides)) == period
