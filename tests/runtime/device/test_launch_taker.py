"""Launches that another one takes in place of the device."""

from __future__ import annotations

import numpy as np
import pytest

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, kernel
from npuvm.hw.config import load_chip
from npuvm.hw.errors import DeviceError
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import simulate
from npuvm.isa import Image
from npuvm.runtime.device.device import Device

CHIP = load_chip("edge")


@kernel(x="fp16[N]")
def doubled(k: KernelBuilder, x: ParamRef) -> None:
    """Twice its input."""
    value = k.load(x)
    k.store(value + value)


class Kept:
    """Keeps what it is given, and simulates at once."""

    def __init__(self) -> None:
        self.taken: list[tuple[Image, tuple[int, ...], tuple[tuple[int, int], ...]]] = []
        self.isa = Device(CHIP).isa

    def take(self, image: Image, addresses: tuple[int, ...], discarded: tuple[tuple[int, int], ...]) -> RunResult:
        self.taken.append((image, addresses, discarded))
        return simulate(CHIP, self.isa, image, addresses=addresses, data=False)


def run_on(device: Device, made: Kernel) -> list[int]:
    x = device.tensor(np.zeros(1000, np.float16))
    device.run(made, {"x": x})
    return [record.result.cycles for record in device.launches]


def test_the_taker_gets_launches_and_the_device_keeps_what_it_says() -> None:
    taker = Kept()
    device = Device(CHIP, timing_only=True, taker=taker)
    cycles = run_on(device, doubled)
    assert cycles == run_on(Device(CHIP, timing_only=True), doubled)
    ((_, addresses, discarded),) = taker.taken
    assert len(addresses) == 2
    assert discarded == ((addresses[0], 2000),)
    assert device.verify_us == 0


def test_launches_with_data_are_not_taken() -> None:
    with pytest.raises(DeviceError, match="timing_only=True"):
        Device(CHIP, taker=Kept())
