"""Runs side by side: the hosts of streams work at the same time, the device does one launch at a time."""

from __future__ import annotations

import pytest
from tests.runtime.session.models import floats, parsed

from npuvm.hw.config import load_chip
from npuvm.runtime.session import RunReport, Session, side_by_side

CHIP = load_chip("edge")
ISSUE, LATENCY = float(CHIP.host.launch_us), float(CHIP.host.start_latency_us)


def report(*groups: list[float]) -> RunReport:
    return RunReport({}, launch_groups_us=list(groups))


def test_one_stream_is_the_run_itself() -> None:
    text = "m (float[B, 64] x) => (int64[2, n] y, float[B, 64] z) { t = Tanh(x)  y = NonZero(t)  s = Softmax(t)  z = Exp(s) }"
    session = Session(parsed(text), "edge", fusion="none")
    session.run({"x": floats(8, 64)})
    assert session.last.launches == 3
    assert [len(each) for each in session.last.launch_groups_us] == [3]
    (end,) = side_by_side(CHIP, [session.last]).ends_us
    assert end == pytest.approx(session.last.simulated_us)


def test_the_host_waits_between_groups() -> None:
    times = side_by_side(CHIP, [report([5.0], [7.0])])
    assert times.ends_us == pytest.approx((2 * (ISSUE + LATENCY) + 12.0,))
    assert times.busy_us == 12.0


def test_short_launches_of_two_streams_do_not_wait_for_each_other() -> None:
    run = report([0.001] * 20)
    alone, both = side_by_side(CHIP, [run]), side_by_side(CHIP, [run, run])
    assert both.total_us < 1.1 * alone.total_us


def test_long_launches_take_turns() -> None:
    long = report([10 * ISSUE] * 4)
    alone, both = side_by_side(CHIP, [long]), side_by_side(CHIP, [long, long])
    assert both.busy_us == pytest.approx(80 * ISSUE)
    assert both.total_us == pytest.approx(alone.total_us + 40 * ISSUE)
    assert max(both.ends_us) - min(both.ends_us) == pytest.approx(10 * ISSUE)


def test_nothing_takes_no_time() -> None:
    assert side_by_side(CHIP, []).total_us == 0.0
    assert side_by_side(CHIP, [report()]).ends_us == (0.0,)
