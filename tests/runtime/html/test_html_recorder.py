"""What is kept of a run for its report, against the traces of the same run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tests.browser.report_kit import SCENARIO, observe, small_run

from npuvm.hw.errors import DeviceError
from npuvm.hw.launch import core_groups
from npuvm.isa import decode_at, format_insn
from npuvm.runtime.html import LaunchTimeline, ReportRecorder
from npuvm.runtime.html.kernels import kernel_rows
from npuvm.runtime.html.slices import COUNTER_STEPS, timeline_of
from npuvm.runtime.html.timeline_view import timeline_columns, timeline_label, timeline_note

TWICE = """
kind: kernels
name: twice
title: one program three times, another once
chip: edge
cases:
  - {op: exp, dtypes: [fp32], shapes: [[8, 16], [8, 16], [64, 64], [8, 16]]}
"""


def test_the_longest_programs_have_a_timeline_of_their_first_launch() -> None:
    inputs = observe(TWICE, ReportRecorder(timelines=1), timing_only=True)
    assert len(inputs.launches) == 4
    assert [timeline.launch for timeline in inputs.timelines] == [2]
    inputs = observe(TWICE, ReportRecorder(timelines=5), timing_only=True)
    assert [timeline.launch for timeline in inputs.timelines] == [2, 0]
    assert observe(TWICE, ReportRecorder(timelines=0), timing_only=True).timelines == ()


def test_launches_are_kept_without_their_traces() -> None:
    inputs, traces = small_run()
    assert [record.result.cycles for record in inputs.launches] == [r.result.cycles for r in traces.records]
    assert not any(record.result.trace for record in inputs.launches)
    assert all(record.result.trace for record in traces.records)


def test_slices_are_the_instructions_of_the_trace() -> None:
    inputs, traces = small_run()
    assert len(inputs.timelines) == 3
    for timeline in inputs.timelines:
        record = traces.records[timeline.launch]
        words = record.image.words.tolist()
        wanted = Counter(
            (e.core, e.unit, format_insn(record.isa, decode_at(record.isa, words, e.pc)[0]), *e[5:9], e.nbytes)
            for e in record.result.trace
        )
        found: Counter[tuple[int | str, ...]] = Counter()
        for s in timeline.slices:
            core, core_type, unit = timeline.rows[s.row]
            assert record.result.cores[core].core_type == core_type
            times = (s.dispatched, s.start, s.until, s.complete)
            found[(core, unit, timeline.texts[s.text], *times, s.nbytes)] += 1
        assert found == wanted
        assert timeline.instructions == len(timeline.slices) == len(record.result.trace)
        assert timeline.cut_at is None


def test_a_unit_is_free_since_its_instruction_before() -> None:
    for timeline in small_run()[0].timelines:
        for row in range(len(timeline.rows)):
            mine = [s for s in timeline.slices if s.row == row]
            assert [s.free for s in mine] == [0, *(s.until for s in mine[:-1])]
            assert all(max(s.free, s.dispatched, s.ready) <= s.start for s in mine)


def test_counters_add_up_to_busy_cycles_and_moved_bytes() -> None:
    inputs, traces = small_run()
    for timeline in inputs.timelines:
        result = traces.records[timeline.launch].result
        assert len(next(iter(timeline.busy.values()))) == -(-result.cycles // timeline.step) <= COUNTER_STEPS
        for unit, shares in timeline.busy.items():
            occupied = sum(e.occupied_until - e.start for e in result.trace if e.unit == unit)
            cores = sum(unit in core.units for core in result.cores)
            ends = [min(timeline.step, result.cycles - i * timeline.step) for i in range(len(shares))]
            cycles = sum(share * cores * length for share, length in zip(shares, ends, strict=True))
            assert cycles == pytest.approx(occupied, rel=2e-3)
            assert all(0 <= share <= 1 for share in shares)
        for unit, rates in timeline.moved.items():
            moved = sum(e.nbytes for e in result.trace if e.unit == unit)
            assert sum(rates) * timeline.step == pytest.approx(moved, rel=2e-3)
        assert set(timeline.moved) == {e.unit for e in result.trace if e.nbytes}


def test_what_does_not_fit_is_cut_at_a_cycle_and_the_note_says_so() -> None:
    inputs, traces = small_run()
    longest = inputs.timelines[0]
    record = traces.records[longest.launch]
    cut = timeline_of(record, longest.launch, 20)
    assert cut.cut_at is not None
    assert 0 < len(cut.slices) <= 20
    assert {(s.start, s.row) for s in cut.slices} == {(s.start, s.row) for s in longest.slices if s.start < cut.cut_at}
    assert timeline_note(cut) == (
        f"{len(cut.slices)} of {longest.instructions} instructions: those of core 0 that start before cycle {cut.cut_at:,}, "
        "of 1 core. The two curves count all instructions of all cores."
    )
    assert timeline_note(longest) == f"All {longest.instructions} instructions of the launch, on 1 of 1 core."
    assert cut.busy == longest.busy


def test_of_many_cores_the_group_that_ends_last_and_the_first_ones_are_shown() -> None:
    recorder, limited = ReportRecorder(timelines=1), ReportRecorder(timelines=1, slices=8)
    scenario = SCENARIO.replace("chip: edge", "chip: ascend_910b1")
    whole = observe(scenario, recorder, limited, timing_only=True)
    for inputs, several in ((whole, True), (limited.inputs(whole.report), False)):
        (timeline,) = inputs.timelines
        record = inputs.launches[timeline.launch]
        groups = core_groups(record.chip, record.image)
        halts = [core.cycles for core in record.result.cores]
        shown = {groups[core] for core, _, _ in timeline.rows}
        last = groups[halts.index(max(halts))]
        assert last in shown
        assert len(timeline.rows) <= 24
        if several:
            others = [group for group in dict.fromkeys(groups) if group != last]
            assert shown - {last} == set(others[: len(shown) - 1])
            assert len(shown) > 1
        assert f"of {len(record.result.cores)} cores" in timeline_note(timeline)


def test_a_timeline_is_named_by_its_row_and_its_launch() -> None:
    inputs, _ = small_run()
    rows = kernel_rows(inputs)
    named = {timeline.launch: timeline_label(rows, timeline) for timeline in inputs.timelines}
    assert named[2] == "3. add fp16 300 x 500"
    assert rows[0].launches == (0,)
    first = LaunchTimeline(0, 1, 1, (), (), (), 0, None, 1, {}, {})
    twice = [replace(rows[0], launches=(0, 1))]
    assert timeline_label(twice, first) == "1. matmul bias gelu fp16 m70 n96 k64, launch 1 of 2"


def test_columns_hold_every_field_of_the_slices() -> None:
    timeline = small_run()[0].timelines[0]
    columns = timeline_columns(timeline)
    assert len(columns["slices"]) == 9
    assert columns["slices"][5] == tuple(s.start for s in timeline.slices)
    assert columns["slices"][1] == tuple(s.text for s in timeline.slices)


def test_a_report_of_another_run_is_refused() -> None:
    inputs, _ = small_run()
    other = ReportRecorder(timelines=0)
    observe(TWICE, other, timing_only=True)
    with pytest.raises(DeviceError, match="pass the recorder that observed this run"):
        kernel_rows(other.inputs(inputs.report))


def test_launches_without_a_row_are_told() -> None:
    inputs, _ = small_run()
    more = replace(inputs, launches=(*inputs.launches, inputs.launches[0]))
    with pytest.raises(DeviceError, match="1 of 5 observed launches belong to no row"):
        kernel_rows(more)
