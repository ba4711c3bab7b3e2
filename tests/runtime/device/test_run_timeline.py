"""When launches and transfers happen, by hand.

The host spends 5 us on a launch, which starts 2 us later. The link has 2 GB/s up and 4 GB/s down, 3 us until the first byte.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.hw.config import load_chip
from npuvm.hw.link import HostLink
from npuvm.runtime.device.host_stream import HostStream
from npuvm.runtime.device.operations import Operation, OperationLog, TransferTotals
from npuvm.runtime.device.run_timeline import RunTimeline, run_timeline

_HOST = ["host.launch_us=5", "host.start_latency_us=2"]
_LINK = ["host.link.to_device_gbps=2", "host.link.to_host_gbps=4", "host.link.latency_us=3"]
CARD = load_chip("edge", [*_HOST, *_LINK])
SHARED = load_chip("edge", _HOST)
WAIT = Operation("wait", "")


def launch(us: float, stream: str = "", **touched: Any) -> Operation:
    return Operation("launch", stream, us, tag="kernel", **touched)


def copy(direction: Any, nbytes: int, stream: str = "", chip: Any = CARD, **touched: Any) -> Operation:
    us = float(HostLink.of(chip).occupied_us(direction, nbytes))
    return Operation(direction, stream, us, nbytes, "value", **touched)


def spans(timeline: RunTimeline) -> list[tuple[str, float, float]]:
    return [(each.operation.kind, each.start_us, each.end_us) for each in timeline.entries]


def test_a_stream_does_one_thing_after_the_other() -> None:
    calls = [copy("to_device", 8000), launch(10), copy("to_host", 8000), WAIT, launch(1)]
    timeline = run_timeline(CARD, calls)
    assert spans(timeline) == [("to_device", 3, 7), ("launch", 7, 17), ("to_host", 20, 22), ("launch", 29, 30)]
    assert [each.issued_us for each in timeline.entries] == [0, 5, 5, 27]
    assert timeline.total_us == 30


def test_a_short_upload_hides_behind_the_dispatch_of_its_launch() -> None:
    assert run_timeline(CARD, [copy("to_device", 2000), launch(10)]).total_us == 5 + 2 + 10


def test_transfers_run_beside_launches_of_another_stream() -> None:
    """The second upload goes while the first launch runs, and its launch follows at once."""
    one = [copy("to_device", 20_000), launch(20), copy("to_device", 20_000), launch(20)]
    two = [copy("to_device", 20_000, "a"), launch(20, "a"), copy("to_device", 20_000, "b"), launch(20, "b")]
    assert spans(run_timeline(CARD, one)) == [
        ("to_device", 3, 13),
        ("launch", 13, 33),
        ("to_device", 36, 46),
        ("launch", 46, 66),
    ]
    assert spans(run_timeline(CARD, two)) == [
        ("to_device", 3, 13),
        ("to_device", 13, 23),
        ("launch", 13, 33),
        ("launch", 33, 53),
    ]


def test_the_directions_of_a_link_do_not_wait_for_each_other() -> None:
    calls = [copy("to_device", 8000, "a"), copy("to_host", 8000, "b"), copy("to_host", 8000, "c")]
    assert spans(run_timeline(CARD, calls)) == [("to_host", 3, 5), ("to_device", 3, 7), ("to_host", 5, 7)]


def test_copies_in_one_memory_take_turns() -> None:
    calls = [copy("to_device", 64_000, "a", SHARED), copy("to_host", 64_000, "b", SHARED)]
    assert spans(run_timeline(SHARED, calls)) == [("to_device", 0, 10), ("to_host", 10, 20)]


def test_copies_in_the_memory_of_the_chip_take_turns_with_launches() -> None:
    """Both want its rate: beside each other they would be faster than the memory is."""
    calls = [copy("to_device", 64_000, "a", SHARED), launch(20, "b"), copy("to_device", 64_000, "a", SHARED)]
    assert spans(run_timeline(SHARED, calls)) == [("to_device", 0, 10), ("launch", 10, 30), ("to_device", 30, 40)]


def test_streams_wait_for_what_they_need_of_each_other() -> None:
    upload = copy("to_device", 20_000, "copies", writes=((4096, 20_000),))
    needs = launch(20, "kernels", reads=((4096, 512),), writes=((65_536, 512),))
    other = launch(20, "kernels", reads=((30_000, 512),), writes=((65_536, 512),))
    assert spans(run_timeline(CARD, [upload, needs])) == [("to_device", 3, 13), ("launch", 13, 33)]
    assert spans(run_timeline(CARD, [upload, other])) == [("to_device", 3, 13), ("launch", 7, 27)]
    # What is read is not overwritten before; two that read do not wait.
    again = copy("to_device", 2000, "copies", writes=((4200, 100),))
    assert spans(run_timeline(CARD, [needs, again])) == [("launch", 7, 27), ("to_device", 30, 31)]
    both = copy("to_host", 2000, "copies", reads=((4096, 512),))
    assert spans(run_timeline(CARD, [needs, both])) == [("launch", 7, 27), ("to_host", 8, 8.5)]


def test_the_host_waits_for_one_stream_or_for_all() -> None:
    calls = [launch(20, "a"), copy("to_host", 4000, "b")]
    one = run_timeline(CARD, [*calls, Operation("wait", "b"), launch(1, "b")])
    all_of_them = run_timeline(CARD, [*calls, Operation("wait", None), launch(1, "b")])
    assert [each.entries[-1].issued_us for each in (one, all_of_them)] == [9 + 5, 27 + 5]


def test_hosts_of_their_own_issue_at_the_same_time() -> None:
    timeline = run_timeline(CARD, [launch(1), launch(1)], [launch(1)])
    assert list(timeline.ends_us) == [13, 9]
    assert [(each.host, each.start_us) for each in timeline.entries] == [(0, 7), (1, 8), (0, 12)]


def test_nothing_takes_no_time() -> None:
    assert run_timeline(CARD).total_us == 0
    assert list(run_timeline(CARD, []).ends_us) == [0]
    assert not run_timeline(CARD, [WAIT, Operation("wait", None)]).entries


_CALLS = st.lists(
    st.one_of(
        st.builds(launch, st.floats(0, 100), st.sampled_from("ab")),
        st.builds(copy, st.sampled_from(["to_device", "to_host"]), st.integers(1, 100_000), st.sampled_from("ab")),
        st.sampled_from([Operation("wait", "a"), Operation("wait", "b"), Operation("wait", None)]),
    ),
    max_size=20,
)


@given(calls=_CALLS)
def test_nothing_is_faster_than_chip_and_link(calls: list[Operation]) -> None:
    timeline = run_timeline(CARD, calls)
    link = HostLink.of(CARD)
    for kind in ("launch", "to_device", "to_host"):
        lane = [each for each in timeline.entries if each.operation.kind == kind]
        assert all(a.end_us <= b.start_us + 1e-9 for a, b in pairwise(lane)), "one at a time"
        assert timeline.total_us >= timeline.busy_us(kind) - 1e-6
    for each in timeline.entries:
        if each.operation.kind in ("to_device", "to_host"):
            alone = link.transfer_us(each.operation.kind, each.operation.nbytes)
            assert each.end_us - each.issued_us >= float(alone) - 1e-6
        else:
            assert each.start_us - each.issued_us >= 2 - 1e-6
    for stream in "ab":
        mine = [each for each in timeline.entries if each.operation.stream == stream]
        assert all(a.end_us <= b.start_us + 1e-9 for a, b in pairwise(mine)), "in order"
    assert len(timeline.entries) == sum(each.kind != "wait" for each in calls)


@given(calls=st.lists(st.one_of(st.floats(0, 100), st.none()), max_size=20))
def test_launches_alone_take_what_a_stream_of_launches_does(calls: list[float | None]) -> None:
    stream = HostStream(5, 2)
    starts = []
    for us in calls:
        if us is None:
            stream.synchronise()
        else:
            starts.append(stream.launch(us).start_us)
    timeline = run_timeline(CARD, [WAIT if us is None else launch(us) for us in calls])
    assert [each.start_us for each in timeline.entries] == pytest.approx(starts)


def test_totals_are_by_direction_and_keep_what_stays_apart() -> None:
    log = OperationLog(CARD)
    log.transfer("to_device", 0, 4000, "w", resident=True)
    log.transfer("to_device", 4096, 2000, "x")
    log.transfer("to_device", 8192, 0, "nothing")
    log.launch(5, "kernel", (), ())
    log.transfer("to_host", 4096, 8000, "y")
    log.transfer("to_host", 4096, 4000, "y")
    assert TransferTotals.of(CARD, log.operations) == TransferTotals(2000, 4.0, 12_000, 9.0, 4000, 5.0)


def test_lanes_of_the_trace() -> None:
    calls = [copy("to_device", 8000), launch(10), copy("to_host", 8000)]
    events = run_timeline(CARD, calls).chrome_trace()["traceEvents"]
    lanes = {each["tid"]: each["args"]["name"] for each in events if each["name"] == "thread_name"}
    slices = [(lanes[each["tid"]], each["name"], each["ts"], each["dur"]) for each in events if each["ph"] == "X"]
    assert slices == [
        ("link to the device", "value", 3, 4),
        ("chip", "kernel", 7, 10),
        ("link to the host", "value", 20, 2),
    ]
