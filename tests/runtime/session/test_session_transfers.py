"""Transfers of runs: what crosses, how long it takes, and that both are the same without data."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from tests.runtime.session.models import floats, parsed

from npuvm.hw.config import load_chip
from npuvm.hw.errors import DeviceError, OutOfMemoryError
from npuvm.runtime import Device
from npuvm.runtime.session import RunReport, Session, SessionStats, TransferUse, side_by_side
from npuvm.runtime.session.arena import ArenaPool
from npuvm.runtime.session.errors import SessionError

CHIP = ["host.link.to_device_gbps=2", "host.link.to_host_gbps=4", "host.link.latency_us=3"]

ONES = ", ".join(["1"] * 64 * 32)
LINEAR = f"m (float[B, 64] x) => (float[B, 32] y) <float[64, 32] w = {{{ONES}}}> {{ y = MatMul(x, w) }}"

HOSTED = """m (float[B, 64] x) => (float[B, 64] y) {
  t = Tanh(x)
  f = RandomUniformLike(t)
  y = Exp(f)
}"""

ROWS = """m (float[S, B, 5] x, float[B, 5] h0) => (float[B, 5] hn, float[S, B, 5] ys) {
  hn, ys = Scan <num_scan_inputs = 1, body = b (float[B, 5] h, float[B, 5] row) => (float[B, 5] next, float[B, 5] y) {
    s = Add(h, row)  next = Tanh(s)  y = Exp(next)
  }> (h0, x)
}"""


def session(text: str, **options: Any) -> Session:
    return Session(parsed(text), "edge", CHIP, **options)


def crossed(report: RunReport) -> dict[str, Any]:
    """All that a report says of transfers."""
    assert report.calls is not None
    hosts = {
        name: (use.calls, use.to_host_bytes, use.to_device_bytes, use.to_host_us, use.to_device_us)
        for name, use in report.hosts.items()
    }
    names = ("upload_bytes", "upload_us", "download_bytes", "download_us", "weight_upload_bytes", "weight_upload_us")
    return {
        **{name: getattr(report, name) for name in names},
        "hosts": hosts,
        "with": report.with_transfers_us,
        "kinds": [(each.kind, each.nbytes, each.resident) for each in report.calls.operations if each.kind != "wait"],
    }


def test_a_run_by_hand() -> None:
    """32 x 64 floats up take 3 + 8192 / 2000 us, 32 x 32 down 3 + 4096 / 4000; the upload is done before the launch starts."""
    opened = session(LINEAR)
    opened.run({"x": floats(32, 64)})
    report = opened.last
    assert (report.upload_bytes, report.download_bytes, report.weight_upload_bytes) == (8192, 4096, 8192)
    assert (report.upload_us, report.download_us) == pytest.approx((7.096, 4.024))
    chip = opened.device.chip
    dispatch = float(chip.host.launch_us + chip.host.start_latency_us)
    assert report.simulated_us > dispatch
    hidden = min(report.upload_us, dispatch)
    assert report.with_transfers_us == pytest.approx(
        report.simulated_us + report.upload_us - hidden + report.download_us
    )


def test_constants_cross_once_and_stand_apart() -> None:
    opened = session(LINEAR)
    first, again = [(opened.run({"x": floats(3, 64)}), opened.last)[1] for _ in range(2)]
    assert (first.weight_upload_bytes, again.weight_upload_bytes) == (8192, 0)
    assert first.weight_upload_us == pytest.approx(7.096)
    assert again.weight_upload_us == 0
    assert first.upload_us == again.upload_us == pytest.approx(3 + 3 * 64 * 4 / 2000)
    uses = {(each.value, each.constant) for each in Session.profile_transfers(opened)}
    assert uses == {("x", False), ("y", False)}


class Twice:
    """Runs an operator that nobody knows."""

    name = "twice"

    def run(self, node: bytes, inputs: Any) -> list[Any]:
        return [inputs[0] * np.float32(2)]


@pytest.mark.parametrize(
    ("text", "feeds"),
    [(LINEAR, {"x": (7, 64)}), (ROWS, {"x": (4, 3, 5), "h0": (3, 5)}), (HOSTED, {"x": (5, 64)})],
    ids=["linear", "scan with slices of the host", "operator of the host"],
)
def test_the_same_without_data(text: str, feeds: dict[str, tuple[int, ...]]) -> None:
    with_data, timed = session(text, provider=Twice()), session(text, provider=Twice(), timing_only=True)
    with_data.run({name: floats(*shape) for name, shape in feeds.items()})
    timed.time(feeds)
    assert timed.last.cycles == with_data.last.cycles
    assert timed.last.simulated_us == with_data.last.simulated_us
    assert crossed(timed.last) == crossed(with_data.last)


def test_an_operator_of_the_host_is_not_free() -> None:
    opened = session(HOSTED, provider=Twice())
    made = opened.run({"x": floats(16, 64)})
    np.testing.assert_allclose(made["y"], np.exp(2 * np.tanh(floats(16, 64))), rtol=1e-5)
    (use,) = opened.last.hosts.values()
    assert (use.to_host_bytes, use.to_device_bytes) == (4096, 4096)
    assert (use.to_host_us, use.to_device_us) == pytest.approx((3 + 1.024, 3 + 2.048))
    report = opened.last
    assert report.with_transfers_us > report.simulated_us + use.to_host_us


def test_a_faster_link_changes_transfers_alone() -> None:
    slow, fast = session(HOSTED, provider=Twice()), Session(parsed(HOSTED), "edge", provider=Twice())
    for each in (slow, fast):
        each.run({"x": floats(16, 64)})
    assert slow.last.simulated_us == fast.last.simulated_us
    assert slow.last.cycles == fast.last.cycles
    assert fast.last.simulated_us < fast.last.with_transfers_us < slow.last.with_transfers_us


def test_launches_of_a_run_alone_take_what_the_report_says() -> None:
    opened = session(HOSTED, provider=Twice())
    opened.run({"x": floats(16, 64)})
    (alone,) = side_by_side(opened.device.chip, [opened.last]).ends_us
    (all_of_it,) = side_by_side(opened.device.chip, [opened.last], transfers=True).ends_us
    assert alone == pytest.approx(opened.last.simulated_us)
    assert all_of_it == pytest.approx(opened.last.with_transfers_us)


def test_runs_side_by_side_share_the_link() -> None:
    opened = session(LINEAR)
    opened.run({"x": floats(4000, 64)})
    report, chip = opened.last, opened.device.chip
    times = side_by_side(chip, [report] * 3, transfers=True)
    least = 3 * report.upload_bytes / 2000
    assert least < times.total_us < 3 * report.with_transfers_us


def served(streams: tuple[str, ...], wait: bool, **options: Any) -> tuple[Device, Session]:
    """Four runs of a session on a device that others may use too."""
    device = Device("edge", CHIP, **options)
    opened = Session(parsed(LINEAR), device)
    with_data = not device.timing_only
    x = floats(2000, 64)
    for number in range(5):
        stream = streams[number % len(streams)] if number else ""
        if with_data:
            np.testing.assert_allclose(
                opened.run({"x": x}, stream=stream, wait=wait)["y"],
                np.tile(x.sum(1, keepdims=True), 32),
                rtol=1e-3,
                atol=1e-3,
            )
        else:
            opened.time({"x": x.shape}, stream=stream, wait=wait)
        if not number:
            device.operations.clear()
    device.synchronise()
    return device, opened


def test_runs_on_streams_overlap() -> None:
    (one, alone), (two, beside) = served(("",), True), served(("a", "b"), False)
    assert alone.last.with_transfers_us == pytest.approx(beside.last.with_transfers_us, rel=0.05)
    timeline = two.timeline()
    busy = max(timeline.busy_us(kind) for kind in ("launch", "to_device", "to_host"))
    assert busy <= timeline.total_us < 0.8 * one.timeline().total_us
    assert one.timeline().total_us == pytest.approx(4 * alone.last.with_transfers_us, rel=0.05)


def test_runs_on_streams_without_data() -> None:
    found, expected = (
        served(("a", "b"), False, timing_only=timing_only)[0].timeline() for timing_only in (True, False)
    )
    assert [(each.start_us, each.end_us) for each in found.entries] == [
        (each.start_us, each.end_us) for each in expected.entries
    ]


def test_streams_have_memory_of_their_own() -> None:
    device, opened = served(("a", "b"), False)
    places = {each.stream: each.writes for each in device.operations if each.kind == "to_device"}
    assert places["a"] != places["b"]
    opened.close()
    assert device.memory_in_use_bytes == 0


def test_what_another_stream_keeps_makes_room() -> None:
    """The chip has 2 GiB."""
    device = Device("edge", timing_only=True)
    pool = ArenaPool(device)
    with device.on_stream("a"):
        first = pool.take(3 << 29)
    with device.on_stream("b"):
        with pytest.raises(OutOfMemoryError, match="out of device memory"):
            pool.take(3 << 29)
        del first
        assert pool.take(3 << 29).memory.nbytes == 3 << 29


def test_a_stream_has_a_name() -> None:
    opened, number = session(LINEAR), 3
    with pytest.raises(DeviceError, match="stream 3 is of type int; allowed: a text that names it"):
        opened.run({"x": floats(1, 64)}, stream=number)  # type: ignore[arg-type]


def test_a_profile_of_transfers() -> None:
    opened = session(HOSTED, provider=Twice())
    opened.run({"x": floats(16, 64)})
    found = opened.profile_transfers()
    assert found[0] == TransferUse("x", "to_device", False, 1, 4096, float(Fraction(4096, 2000) + 3))
    assert [(each.value, str(each.direction)) for each in found] == [
        ("x", "to_device"),
        ("f", "to_device"),
        ("t", "to_host"),
        ("y", "to_host"),
    ]
    assert [each.us for each in found] == pytest.approx([5.048, 5.048, 4.024, 4.024])


def test_bytes_without_simulated_time() -> None:
    opened = session(LINEAR, engine="functional")
    opened.run({"x": floats(3, 64)})
    report = opened.last
    assert (report.upload_bytes, report.download_bytes) == (3 * 64 * 4, 3 * 32 * 4)
    assert (report.upload_us, report.download_us, report.with_transfers_us) == (0, 0, 0)
    with pytest.raises(SessionError, match="no transfers of a run with simulated time; allowed: run first"):
        opened.profile_transfers()
    with pytest.raises(SessionError, match="allowed: another engine than 'functional'"):
        side_by_side(load_chip("edge"), [report], transfers=True)


def test_logs_do_not_grow_from_run_to_run() -> None:
    opened = session(LINEAR)
    for _ in range(3):
        opened.run({"x": floats(3, 64)})
    assert len(opened.device.operations) == 4
    assert isinstance(opened.stats, SessionStats)
