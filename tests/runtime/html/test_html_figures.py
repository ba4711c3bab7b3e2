"""The figures of a report: what stands in them against the run, and the roofs against figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.browser.report_kit import small_run

from npuvm.hw.config import load_chip
from npuvm.hw.energy import Work
from npuvm.hw.explain import KINDS, sum_breakdowns
from npuvm.isa import load_isa
from npuvm.runtime.html.figures import GROUPS, MOST_BARS, breakdown_figure, roofline_figure
from npuvm.runtime.html.kernels import KernelRow, kernel_rows
from npuvm.runtime.html.placing import label_places
from npuvm.runtime.html.roofs import Roof, roofs_of
from npuvm.runtime.html.words import nbytes, percent, quantity, three_digits


@pytest.fixture(scope="module")
def rows() -> tuple[KernelRow, ...]:
    return kernel_rows(small_run()[0])


def points(figure: dict[str, Any]) -> dict[int, tuple[float, float]]:
    """Number of the row -> its place."""
    traces = [trace for trace in figure["data"] if "customdata" in trace]
    return {n: (x, y) for t in traces for n, x, y in zip(t["customdata"], t["x"], t["y"], strict=True)}


def test_roofs_of_the_910b1_are_those_that_its_data_sheet_gives() -> None:
    chip = load_chip(
        "ascend_910b1", ["clock_ghz=1.85", "memory.hbm.bandwidth_gbps=1490", "memory.l2.bandwidth_gbps=5200"]
    )
    isa = load_isa("npu_v1")
    roofs = {roof.name: roof for roof in roofs_of(chip, isa, Work({"bf16": 1, "int8": 1, "fp32": 1}))}
    assert list(roofs) == ["cube int8", "cube fp16, bf16", "cube fp32", "vector fp16", "vector fp32", "L2", "HBM"]
    # 24 cubes of 16 x 16 x 16 fp16 multiply-adds a cycle; int8 twice as deep, fp32 half as deep and every second cycle.
    assert roofs["cube fp16, bf16"].per_second == pytest.approx(24 * 4096 * 2 * 1.85e9)
    assert roofs["cube int8"].per_second == pytest.approx(24 * 8192 * 2 * 1.85e9)
    assert roofs["cube fp32"].per_second == pytest.approx(24 * 1024 * 2 * 1.85e9)
    # 48 vector units of 256 bytes a cycle.
    assert roofs["vector fp16"].per_second == pytest.approx(48 * 128 * 1.85e9)
    assert roofs["vector fp32"].per_second == pytest.approx(48 * 64 * 1.85e9)
    assert (roofs["L2"].per_second, roofs["HBM"].per_second) == (5.2e12, 1.49e12)


def test_an_instruction_of_two_operations_raises_the_vector_roof() -> None:
    chip = load_chip("ascend_910b1", ["isa.extensions=[fma]"])
    plain, fused = load_isa("npu_v1"), load_isa("npu_v1", ["fma"])
    per_cycle = chip.core.vector.classes["vfma"].cycles_per_repeat
    found = [next(r for r in roofs_of(chip, isa, Work()) if r.name == "vector fp32") for isa in (plain, fused)]
    assert found[1].per_second == pytest.approx(found[0].per_second * max(1.0, 2 / float(per_cycle)))


def test_each_row_that_computes_is_one_point_of_the_roofline(rows: tuple[KernelRow, ...]) -> None:
    chip, isa = small_run()[0].launches[0].chip, small_run()[0].launches[0].isa
    roofs = roofs_of(chip, isa, Work.sum(row.work for row in rows))
    found = points(roofline_figure(rows, roofs))
    assert [row.number for row in rows if not row.work.flops] == [4]
    assert sorted(found) == [1, 2, 3]
    add = rows[2].totals
    x, y = found[3]
    assert x == pytest.approx(300 * 500 / (add.bytes["hbm_read"] + add.bytes["hbm_write"]), rel=1e-5)
    assert y == pytest.approx(300 * 500 / (add.cycles / float(chip.clock_ghz) * 1e-9), rel=1e-5)
    product = rows[0]
    assert product.work.multiply_adds == {"fp16": 70 * 96 * 64 + 70 * 96}  # the bias is a product of depth 1
    hbm, top = float(chip.memory.hbm.bandwidth_gbps) * 1e9, max(r.per_second for r in roofs if r.kind == "compute")
    for x, y in found.values():
        assert y <= min(hbm * x, top) * 1.00001


def test_the_lines_of_the_roofline_meet_at_the_ridges(rows: tuple[KernelRow, ...]) -> None:
    roofs = (
        Roof("cube", "compute", 8e12),
        Roof("vector", "compute", 1e12),
        Roof("L2", "memory", 4e12),
        Roof("HBM", "memory", 1e12),
    )
    figure = roofline_figure(rows, roofs)
    lines = {
        t["name"].split()[0]: list(zip(t["x"], t["y"], strict=True)) for t in figure["data"] if t["mode"] == "lines"
    }
    assert lines["cube"][0] == (2, 8e12) == lines["L2"][1]
    assert lines["vector"][0] == (0.25, 1e12)
    assert lines["HBM"][1] == (8, 8e12)
    for line in lines.values():
        for x, y in line:
            low, high = (10**end for end in figure["layout"]["xaxis"]["range"])
            assert low * 0.999 <= x <= high * 1.001
            low, high = (10**end for end in figure["layout"]["yaxis"]["range"])
            assert low <= y <= high


def test_every_bar_has_all_cycles_of_its_cores(rows: tuple[KernelRow, ...]) -> None:
    whole = sum_breakdowns([row.breakdown for row in rows])
    figure = breakdown_figure(rows, whole)
    cycles: dict[str, int] = {}
    shares: dict[str, float] = {}
    for trace in figure["data"]:
        for name, share, n in zip(trace["y"], trace["x"], trace["customdata"], strict=True):
            cycles[name] = cycles.get(name, 0) + n
            shares[name] = shares.get(name, 0.0) + share
    cores = len(small_run()[0].launches[0].result.cores)
    assert cycles == {str(row.number): row.totals.cycles * cores for row in rows} | {"all": whole.core_cycles}
    assert all(share == pytest.approx(100, abs=1e-4) for share in shares.values())
    names = [trace["name"] for trace in figure["data"]]
    busy = [name for name in names if name.startswith("busy ")]
    assert names == busy + [name for name in GROUPS if name in names]


def test_every_cause_that_is_no_work_is_in_one_part_of_the_bars() -> None:
    listed = [kind for kinds in GROUPS.values() for kind in kinds]
    assert sorted(listed) == sorted(set(KINDS) - {"busy"})


def test_of_many_rows_the_longest_have_bars(rows: tuple[KernelRow, ...]) -> None:
    many = [
        replace(rows[0], number=number, totals=replace(rows[0].totals, cycles=1000 + number))
        for number in range(1, MOST_BARS + 6)
    ]
    bars = breakdown_figure(many, rows[0].breakdown)["layout"]["meta"]["short"]
    assert bars == ["all", *(str(number) for number in range(6, MOST_BARS + 6))]


def test_plotly_accepts_the_figures(rows: tuple[KernelRow, ...]) -> None:
    graph = pytest.importorskip("plotly.graph_objects", reason="plotly is missing")
    launch = small_run()[0].launches[0]
    whole = sum_breakdowns([row.breakdown for row in rows])
    for figure in (
        roofline_figure(rows, roofs_of(launch.chip, launch.isa, Work())),
        breakdown_figure(rows, whole),
    ):
        graph.Figure(data=figure["data"], layout=figure["layout"])


def test_labels_keep_out_of_each_others_way() -> None:
    assert label_places([(0, 0), (500, 0)], [5, 5], ["1", "2"]) == ["top center", "top center"]
    assert label_places([(0, 0), (0, 14)], [5, 5], ["1", "2"]) == ["bottom center", "top center"]
    crowd = [(x, y) for x in (0, 8, 16) for y in (0, 8, 16)]
    names = [str(number) for number in range(9)]
    assert None in label_places(crowd, [6] * 9, names, leave_out=True)
    assert None not in label_places(crowd, [6] * 9, names)


def test_numbers_in_words() -> None:
    assert [quantity(value, "op/s") for value in (0, 999.4, 999.6, 1.49e12)] == [
        "0 op/s",
        "999 op/s",
        "1 kop/s",
        "1.49 Top/s",
    ]
    assert [nbytes(count) for count in (0, 1023, 1024, 12.5 * 2**20, 700 * 2**30)] == [
        "0 B",
        "1,023 B",
        "1.00 KiB",
        "12.5 MiB",
        "700 GiB",
    ]
    assert [percent(share) for share in (None, 0.1234, 1)] == ["-", "12.3 %", "100.0 %"]
    assert [three_digits(value) for value in (0, 4e-8)] == ["0", "<0.0001"]
    assert [three_digits(value) for value in (0.00195, 9.876, 99.94, 99.96, 1067.2)] == [
        "0.00195",
        "9.88",
        "99.9",
        "100",
        "1,067",
    ]
