from __future__ import annotations

from npuvm.runtime.device.host_stream import HostStream


def test_long_kernels_hide_the_host() -> None:
    stream = HostStream(launch_us=2.0, start_latency_us=3.0)
    first = stream.launch(100.0)
    second = stream.launch(50.0)
    assert (first.issued_us, first.start_us, first.end_us, first.host_bound) == (2.0, 5.0, 105.0, True)
    assert (second.issued_us, second.start_us, second.end_us, second.host_bound) == (4.0, 105.0, 155.0, False)


def test_short_kernels_wait_for_the_host() -> None:
    stream = HostStream(launch_us=10.0, start_latency_us=1.0)
    assert stream.launch(1.0).start_us == 11.0
    again = stream.launch(1.0)
    assert (again.start_us, again.host_bound) == (21.0, True)


def test_synchronise_serialises_host_and_device() -> None:
    stream = HostStream(launch_us=1.0, start_latency_us=0.0)
    stream.launch(10.0)
    assert stream.synchronise() == 11.0
    assert stream.launch(1.0).start_us == 12.0
