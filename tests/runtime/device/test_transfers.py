"""Copies between host and device take simulated time, with data and without, whatever engine simulates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.hw.errors import DeviceError
from npuvm.runtime import Device

LINK = ["host.link.to_device_gbps=2", "host.link.to_host_gbps=4", "host.link.latency_us=3"]
HOST = ["host.launch_us=5", "host.start_latency_us=2"]


@kernel(x="fp32[M, N]")
def doubled(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.load(x) * 2.0)


def run_once(**options: Any) -> Device:
    """8000 bytes up, a launch, and as many down."""
    device = Device("edge", [*LINK, *HOST], **options)
    out = device.run(doubled, {"x": device.tensor(np.ones((20, 100), np.float32), "x")})["out0"]
    if device.timing_only:
        device.transfer(out, "to_host", wait=True)
    else:
        np.testing.assert_array_equal(out.numpy(), np.full((20, 100), 2, np.float32))
    return device


def test_a_copy_each_way_by_hand() -> None:
    device = run_once()
    (record,) = device.launches
    on_chip = record.times.end_us - record.times.start_us
    up, launch, down = device.timeline().entries
    assert (up.start_us, up.end_us) == (3, 7)
    assert (launch.start_us, launch.end_us) == pytest.approx((7, 7 + on_chip))
    assert (down.start_us, down.end_us) == pytest.approx((10 + on_chip, 12 + on_chip))
    assert [each.kind for each in device.operations] == ["to_device", "launch", "to_host", "wait"]


def test_times_of_launches_stay_without_transfers() -> None:
    (slow,), (fast,) = run_once().launches, run_once(timing_only=True).launches
    (other,) = Device("edge", HOST).launches or run_once(engine="functional_first").launches
    assert slow.times == fast.times == other.times
    assert slow.times.start_us == 7


@pytest.mark.parametrize(
    "options",
    [{"timing_only": True}, {"timing_only": True, "engine": "simpy"}, {"engine": "functional_first"}],
    ids=str,
)
def test_the_same_with_data_and_without(options: dict[str, Any]) -> None:
    found, expected = run_once(**options), run_once(engine="simpy")
    assert [(each.start_us, each.end_us) for each in found.timeline().entries] == [
        (each.start_us, each.end_us) for each in expected.timeline().entries
    ]


def test_what_simulates_no_time_logs_nothing() -> None:
    device = run_once(engine="functional")
    assert device.operations == []
    assert device.transfer_us("to_device", 8000) == 0


def batches(device: Device, streams: tuple[str, ...]) -> float:
    """Six batches that are uploaded, computed and read back, on streams in turn."""
    arrays = [np.full((2000, 100), number, np.float32) for number in range(6)]
    for number, array in enumerate(arrays):
        with device.on_stream(streams[number % len(streams)]):
            out = device.run(doubled, {"x": device.tensor(array)})["out0"]
            np.testing.assert_array_equal(device.read(out, wait=False), array * 2)
    device.synchronise()
    return device.timeline().total_us


def test_two_streams_hide_transfers_behind_launches_and_each_other() -> None:
    one, two = Device("edge", [*LINK, *HOST]), Device("edge", [*LINK, *HOST])
    alone, beside = batches(one, ("",)), batches(two, ("a", "b"))
    timeline = two.timeline()
    uploads = timeline.busy_us("to_device")
    assert uploads == 6 * 800_000 / 2000
    assert uploads <= beside < alone
    assert alone >= uploads + timeline.busy_us("launch") + timeline.busy_us("to_host")


def test_a_stream_waits_for_the_upload_on_another() -> None:
    device = Device("edge", [*LINK, *HOST])
    with device.on_stream("copies"):
        x = device.tensor(np.ones((2000, 100), np.float32))
    with device.on_stream("kernels"):
        out = device.run(doubled, {"x": x})["out0"]
    with device.on_stream("copies"):
        out.numpy()
    up, launch, down = device.timeline().entries
    assert up.end_us == 3 + 400
    assert launch.start_us == up.end_us
    assert down.start_us == pytest.approx(launch.end_us + 3)


def test_a_stream_that_fails_is_left() -> None:
    device = Device("edge")
    with pytest.raises(DeviceError, match="no data type"), device.on_stream("a"):
        device.tensor(np.zeros(3, ">f4"))
    device.tensor(np.zeros(3, np.float32))
    assert device.operations[-1].stream == ""


def test_reading_without_data_says_what_to_ask() -> None:
    device = Device("edge", timing_only=True)
    with pytest.raises(DeviceError, match=r"holds no data; allowed: transfer\(tensor, 'to_host'\)"):
        device.tensor(np.zeros(3, np.float32)).numpy()


def test_a_transfer_has_a_direction() -> None:
    device = Device("edge", timing_only=True)
    way: Any = "up"
    with pytest.raises(DeviceError, match="a transfer 'up'; allowed: to_device, to_host"):
        device.transfer(device.empty((3,), "fp32"), way)
