"""Comparisons of two points against figures worked out by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from tests.explore.results.kit import done, entries_of, failed, pruned, run_of, small_space

from npuvm.explore.evaluation import Evaluation, RunRecord
from npuvm.explore.results.comparing import compare
from npuvm.explore.results.comparison import Comparison, Pair
from npuvm.explore.results.comparison_view import comparison_tables
from npuvm.explore.results.conclusions import instead
from npuvm.explore.results.entry import Entry
from npuvm.explore.space import MEASURES, Objective, Point

SLOW: Point = {"core.count": 1, "core.ub_kib": 128, "compiler.fusion": "none", "isa.extensions.fma": False}
FAST: Point = {"core.count": 2, "core.ub_kib": 128, "compiler.fusion": "pattern", "isa.extensions.fma": True}


def slow_runs() -> tuple[RunRecord, ...]:
    """At 1 GHz on one core: the vector unit is busy 60 of 100 us and waits 30."""
    stalls = {
        "vector: wait 3 (load)": 20_000,
        "vector: wait 4 (load)": 10_000,
        "vector: tail": 6_000,
        "vector: imbalance": 4_000,
        "load: queue_full:vector": 1_000,
        "seq: start": 500,
    }
    vector = {"busy": {"vector": 60_000, "load": 20_000}, "stalls": stalls}
    common: dict[str, Any] = {"cycles": 100_000, "seconds": 100e-6, **vector}
    return (
        run_of("short", 120.0, weight=0.5, launches=4, **common),
        run_of("short", 120.0, weight=0.5, launches=4, sizes={"tokens": 8}, **common),
        run_of("more", 9.0, cycles=4000, seconds=4e-6),
    )


def fast_runs(cycles: int = 55_000, seconds: float = 55e-6) -> tuple[RunRecord, ...]:
    """On two cores: 40 of 55 us busy a core, 10 waiting; half the launches."""
    vector = {
        "busy": {"vector": 80_000, "load": 20_000},
        "stalls": {"vector: wait 3 (load)": 20_000, "vector: idle": 10_000},
    }
    common: dict[str, Any] = {"cycles": cycles, "seconds": seconds, **vector, "bytes": {"hbm_read": 2048}}
    energy = {"cube": 0.5, "hbm": 0.25}
    return (
        run_of("short", 63.0, weight=0.5, launches=2, energy_uj=energy, **common),
        run_of("short", 63.0, weight=0.5, launches=2, energy_uj=energy, sizes={"tokens": 8}, **common),
        run_of("more", 8.0, cycles=4000, seconds=4e-6),
    )


def pair(objectives: tuple[str, ...] = ("latency_us", "area_mm2"), **changes: Any) -> Comparison:
    measures = [
        # By weight: a third of short, two of more.
        {"latency_us": (120 + 2 * 9) / 3, "throughput_per_s": 1e6 * 3 / 138, "energy_uj": 3.0, "power_w": 1.5},
        {"latency_us": (63 + 2 * 8) / 3, "throughput_per_s": 1e6 * 3 / 79, "energy_uj": 2.25, "power_w": 2.0},
    ]
    more = [{"area_mm2": 4.0, "decoder_gates": 1000.0}, {"area_mm2": 6.5, "decoder_gates": 1100.0}]
    areas = [{"cube": 3.0, "ub": 1.0}, {"cube": 5.0, "ub": 1.25, "fma": 0.25}]
    entries = [
        Entry(3, SLOW, done(SLOW, runs=slow_runs(), measures=measures[0] | more[0], area_mm2=areas[0])),
        Entry(8, FAST, done(FAST, runs=fast_runs(**changes), measures=measures[1] | more[1], area_mm2=areas[1])),
    ]
    return compare(small_space(objectives), *entries)


def test_what_differs_stands_side_by_side() -> None:
    found = pair()
    assert found.parameters == {
        "core.count": (1, 2),
        "compiler.fusion": ("none", "pattern"),
        "isa.extensions.fma": (False, True),
    }
    short, more = found.workloads
    assert (short.latency_us.change, short.device_us.b) == pytest.approx((-57.0, 55.0))
    assert (short.host_us.a, short.host_us.b) == pytest.approx((20.0, 8.0))
    assert (short.launches.a, short.launches.b) == (4, 2)
    units = {each.name: (each.a, each.b) for each in short.units}
    assert units["vector: busy"] == pytest.approx((60.0, 40.0))
    assert units["vector: waits for load"] == pytest.approx((30.0, 10.0))
    assert units["load: queue of vector full"] == pytest.approx((1.0, 0.0))
    assert short.critical == "vector"
    parts = {each.name: (each.a, each.b) for each in short.critical_parts}
    assert parts["vector: idle"] == pytest.approx((10.0, 5.0))
    assert sum(a for a, _ in parts.values()) == pytest.approx(100.0)
    assert sum(b for _, b in parts.values()) == pytest.approx(55.0)
    assert {each.name: each.change for each in short.bytes} == {"hbm_read": -2048, "hbm_write": -1024}
    assert {each.name: each.change for each in found.area_mm2} == {"cube": 2.0, "ub": 0.25, "fma": 0.25}
    assert more.device_us.change == 0.0


def test_sizes_count_by_their_weights() -> None:
    runs = (
        run_of("short", 10.0, weight=0.75, seconds=0.0, cycles=0),
        run_of("short", 50.0, weight=0.25, bytes={"l2": 8}),
    )
    found = compare(small_space(), Entry(0, SLOW, done(SLOW, runs=runs)), Entry(1, FAST, done(FAST, runs=runs)))
    (short,) = found.workloads
    assert short.latency_us == Pair("latency_us", 20.0, 20.0)
    assert {each.name: each.a for each in short.bytes} == {"hbm_read": 3072, "hbm_write": 768, "l2": 2}


def test_the_largest_contributor_of_each_objective_is_named() -> None:
    latency, area = pair().conclusions
    assert latency == (
        "latency_us: 8 has 26.3 instead of 46 (-42.8 %); most of it by short: of -57 us the device has -45 us, "
        "the host's dispatch -12 us, in 2 instead of 4 (-50.0 %) launches; "
        "of a mean core's vector: busy 40 instead of 60 (-33.3 %) us"
    )
    assert area == "area_mm2: 8 has 6.5 instead of 4 (+62.5 %); most of it in cube: +2 of +2.5 mm2"


def test_other_objectives_have_reasons_of_their_own() -> None:
    throughput, energy, power, gates = pair(("throughput_per_s", "energy_uj", "power_w", "decoder_gates")).conclusions
    assert (
        "; most of it by short: a run ends every 62 instead of 119 (-47.9 %) us, and takes the device 55" in throughput
    )
    # A third of 1.75 uJ.
    assert energy.endswith("; most of it in hbm: -0.583 of -0.75 uJ")
    # (0.75 + 2 x 3) / (3 + 2 x 3) of the energy in (55 + 8) / (100 + 8) of the time.
    assert power.endswith("; 0.75 times the energy in 0.583 times the device's time")
    assert gates.endswith("1,100 instead of 1,000 (+10.0 %); 8 has isa.extensions.fma=true")


def test_an_objective_of_one_workload_looks_at_that_alone() -> None:
    space = small_space()
    own = replace(
        space, objectives=(Objective(MEASURES["latency_us"], "more"), Objective(MEASURES["energy_uj"], "more"))
    )
    entries = [
        Entry(number, point, done(point, runs=runs, measures={"latency_us of more": us, "energy_uj of more": 3.0}))
        for number, point, runs, us in ((3, SLOW, slow_runs(), 9.0), (8, FAST, fast_runs(), 8.0))
    ]
    assert compare(own, *entries).conclusions == (
        "latency_us of more: 8 has 8 instead of 9 (-11.1 %); of -1 us the device has 0 us, the host's dispatch -1 us",
        "energy_uj of more: the same",
    )


def test_nothing_is_made_up_where_records_say_too_little() -> None:
    def conclusion(measure: str, *runs: RunRecord) -> str:
        sides = (tuple(runs[:1]), tuple(runs[1:]))
        entries = [Entry(n, SLOW, done(SLOW, runs=each, measures={measure: 1.0 + n})) for n, each in enumerate(sides)]
        return compare(small_space((measure,)), *entries).conclusions[-1]

    assert conclusion("latency_us") == "latency_us: 1 has 2 instead of 1 (+100.0 %)"
    idle: dict[str, Any] = {"busy": {}, "stalls": {}}
    assert conclusion("latency_us", run_of("short", 6.0, **idle), run_of("short", 8.0, **idle)).endswith(
        "of +2 us the device has +2 us, the host's dispatch 0 us"
    )
    still: dict[str, Any] = {"cycles": 0, "seconds": 0.0}
    assert conclusion("power_w", run_of("short", 6.0, **still), run_of("short", 8.0)) == (
        "power_w: 1 has 2 instead of 1 (+100.0 %)"
    )
    waits = {"vector: wait 1 (load)": 10}
    text = conclusion("latency_us", run_of("short", 6.0, **still), run_of("short", 8.0, stalls=waits))
    assert text.endswith("of a mean core's vector: busy 0.7 instead of 0 us")


def test_behind_a_wait_the_work_that_changed_is_told() -> None:
    def point(number: int, seconds: float, vector: int, waits: int) -> Entry:
        busy = {"load": 40_000, "vector": vector, "store": 8_000 + waits // 10}
        run = run_of("short", 1e6 * seconds, seconds=seconds, cycles=100_000, busy=busy, stalls={"load: queue": waits})
        return Entry(number, SLOW, done(SLOW, runs=(run,), measures={"latency_us": run.latency_us}))

    # At 1 GHz; the load unit is the busiest, and waits for what the vector unit has more to do.
    found = compare(small_space(("latency_us",)), point(0, 60e-6, 5_000, 10_000), point(1, 100e-6, 39_000, 50_000))
    assert found.conclusions[-1].endswith(
        "; of a mean core's load: queue 50 instead of 6 (+733.3 %) us; "
        "the work that changed most is vector: busy 39 instead of 3 (+1200.0 %) us; "
        "the clock has 1 instead of 1.67 (-40.0 %) GHz"
    )


def test_close_figures_have_more_digits() -> None:
    assert instead(Pair("area", 10.8267, 10.8012)) == "10.8012 instead of 10.8267 (-0.2 %)"


def test_another_clock_is_told() -> None:
    latency, _ = pair(cycles=110_000).conclusions
    assert latency.endswith("; the clock has 2 instead of 1 (+100.0 %) GHz")


def test_a_change_of_the_host_alone_leaves_the_device_out() -> None:
    runs = tuple(run_of("short", us, cycles=1000, seconds=1e-6) for us in (20.0, 10.0))
    entries = [
        Entry(n, SLOW, done(SLOW, runs=(run,), measures={"latency_us": run.latency_us})) for n, run in enumerate(runs)
    ]
    assert compare(small_space(), *entries).conclusions == (
        "0 and 1 have the same parameters",
        "latency_us: 1 has 10 instead of 20 (-50.0 %); of -10 us the device has 0 us, the host's dispatch -10 us",
        "area_mm2: no figure of both points",
    )


def test_points_without_figures_say_why() -> None:
    entry = entries_of()[0]
    found = compare(small_space(), Entry(1, SLOW, failed("no room")), Entry(2, FAST, pruned(FAST)))
    assert found.conclusions == (
        "1 failed: no room",
        "2 was pruned: a point of the front beats its bounds, so it was not simulated whole",
        "latency_us: no figure of both points",
        "area_mm2: 2 has 5.5 instead of 9 (-38.9 %)",
    )
    assert found.workloads == ()
    over = Entry(5, FAST, Evaluation("over_budget", entry.evaluation.measures, runs=entry.evaluation.runs))
    found = compare(small_space(), entry, over)
    assert found.conclusions == ("5 is over a budget", "latency_us: the same", "area_mm2: the same")
    assert len(found.workloads) == 1


def test_the_tables_show_all_of_it() -> None:
    console = Console(width=120, file=io.StringIO())
    for table in comparison_tables(pair()):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    for line in (
        "seq: starting 0.5 0 -100.0 %",
        "parameter 3 8",
        "compiler.fusion none pattern",
        "latency_us 46 26.3 -42.8 %",
        "time of short, us 3 8 change",
        "host's dispatch 20 8 -60.0 %",
        "vector: busy 60 40 -33.3 %",
        "launches 4 2 -50.0 %",
        "hbm read 4.00 KiB 2.00 KiB -50.0 %",
        "fma 0 0.25 new",
        "on the device 4 4 same",
    ):
        assert line in lines
    bounds = compare(small_space(), Entry(1, SLOW, failed("no")), Entry(2, FAST, pruned(FAST)))
    for table in comparison_tables(bounds):
        console.print(table)
    assert "latency_us - ≥ 18 -" in [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_values_are_shown_as_they_are() -> None:
    console = Console(width=120, file=io.StringIO())
    console.print(next(comparison_tables(replace(pair(), parameters={"isa.extensions.a[b]": ("[red]", "[/x]")}))))
    assert isinstance(console.file, io.StringIO)
    assert "isa.extensions.a[b] [red] [/x]" in [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_small_changes_of_units_are_counted_and_what_is_only_a_share_explains_no_area() -> None:
    units = {f"vector: cause{n}": 1000 * n for n in range(30)}
    runs = [run_of("short", 72.0, stalls={name: cycles * side for name, cycles in units.items()}) for side in (1, 2)]
    areas = [{"other": 3.0 * side, "cube": 1.0 * side} for side in (1, 2)]
    entries = [
        Entry(n, SLOW, done(SLOW, runs=(run,), measures={"area_mm2": sum(area.values())}, area_mm2=area))
        for n, (run, area) in enumerate(zip(runs, areas, strict=True))
    ]
    found = compare(small_space(("area_mm2",)), *entries)
    assert found.conclusions[-1].endswith("; most of it in cube: +1 of +4 mm2")
    console = Console(width=120, file=io.StringIO())
    for table in comparison_tables(found):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "vector: cause29" in text
    assert "vector: cause2 " not in text
    assert "17 others changed less" in text


def test_measures_of_the_only_workload_are_told_once() -> None:
    entry = Entry(0, SLOW, done(SLOW, measures={"latency_us": 9.0, "latency_us of short": 9.0}))
    space = small_space()
    one = replace(space, workloads=space.workloads[:1])
    assert [each.name for each in compare(one, entry, entry).measures] == ["latency_us", "area_mm2"]
    assert "latency_us of short" in [each.name for each in compare(space, entry, entry).measures]


def test_the_comparison_is_plain_json() -> None:
    data = json.loads(json.dumps(pair().to_json()))
    assert data["workloads"][0]["latency_us"] == {"name": "latency_us", "a": 120.0, "b": 63.0}
    assert data["parameters"]["core.count"] == [1, 2]
    assert len(data["conclusions"]) == 2
