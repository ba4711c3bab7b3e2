"""The page of a search: what it draws and says against the points, and that no text of theirs becomes markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from tests.explore.results.kit import done, entries_of, failed, mixed_entries, small_space

from npuvm.explore.evaluation import Evaluation
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import front_entries, hypervolume_history
from npuvm.explore.results.html import render_space
from npuvm.explore.results.html.columns import page_columns, shown_values
from npuvm.explore.results.html.page import costs, failures
from npuvm.explore.results.sensitivity import sensitivities
from npuvm.explore.space import Parameter


def text_of(page: str) -> str:
    """What a reader sees of a page, scripts and styles left out."""
    plain = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(plain.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").replace("&amp;", "&").split())


@pytest.fixture(scope="module")
def columns() -> dict[str, Any]:
    space, entries = small_space(), mixed_entries()
    return page_columns(space, entries, sensitivities(space, entries))


def test_the_columns_are_the_points(columns: dict[str, Any]) -> None:
    entries = mixed_entries()
    points = columns["points"]
    assert points["number"] == [entry.number for entry in entries]
    assert [columns["parameters"][0]["values"][place] for place in points["values"][0]] == [
        str(entry.point["core.count"]) for entry in entries
    ]
    assert [each["short"] for each in columns["parameters"]] == ["count", "ub_kib", "fusion", "fma"]
    assert columns["parameters"][3]["values"] == ["false", "true"]
    latency = points["figures"][0]
    assert latency == [entry.evaluation.measures.get("latency_us") for entry in entries]
    assert [index for index, bound in enumerate(points["bounds"][0]) if bound] == [9]
    assert [points["state"][index] for index in (0, 1, 9, 23)] == [0, 3, 2, 1]
    front = {entry.number for entry in front_entries(small_space(), entries)}
    assert {number for number, is_front in zip(points["number"], points["front"], strict=True) if is_front} == front
    history = hypervolume_history(small_space(), entries)
    assert columns["history"] == pytest.approx([volume / history[-1] for volume in history], abs=1e-6)


def test_parameters_stand_by_how_much_they_matter(columns: dict[str, Any]) -> None:
    assert columns["sensitivity"]["parameters"][:2] == ["count", "fusion"]
    assert [each["name"] for each in columns["sensitivity"]["objectives"]] == ["latency_us", "area_mm2"]


def test_wide_ranges_are_logarithmic_and_numbers_rise() -> None:
    space = small_space(("latency_us", "area_mm2", "power_w"))
    point = entries_of()[0].point
    figures = (
        {"latency_us": 1.0, "area_mm2": 1.0, "power_w": 0.0},
        {"latency_us": 21.0, "area_mm2": 20.0, "power_w": 50.0},
    )
    entries = [Entry(n, point, Evaluation("done", each)) for n, each in enumerate(figures)]
    found = page_columns(space, entries, ())
    assert [each["log"] for each in found["objectives"]] == [True, False, False]
    assert found["pairs"] == [(0, 1), (0, 2), (1, 2)]
    assert shown_values(Parameter("core.count", "field", (16, 4, 8.5))) == (4, 8.5, 16)
    assert shown_values(Parameter("memory", "bundle", ("slow", "base"))) == ("slow", "base")


def test_the_page_says_what_was_found() -> None:
    page = render_space(small_space(), mixed_entries())
    text = text_of(page)
    assert "Evaluated 24 of 24 combinations" in text
    assert "Simulated whole 19 3 on the front" in text
    assert "Best latency_us 16 point 18" in text
    # 19 x 0.5 + 3 x 0.25 + 0.125 + 0.5 s for 24 points.
    assert "10.9 s, all processes together" in text
    assert "132" in text
    assert "44 simulated, 19 shared" in text
    assert "2 short: no room for <a tile> of 4 KiB in ub_kib = 128 1, 5" in text
    assert "constraint" not in text
    assert "a space & <its> points" in text


def test_the_page_says_which_code_evaluated_the_points() -> None:
    entries = [replace(entry, evaluation=replace(entry.evaluation, code="c0de")) for entry in mixed_entries()]
    text = text_of(render_space(small_space(), entries))
    assert "evaluated by code c0de : 24 points, the first is 0" in text
    assert "versions of the code" not in text
    text = text_of(render_space(small_space(), [*entries[:12], *mixed_entries()[12:]]))
    assert "Points were evaluated by 2 versions of the code" in text
    assert "evaluated by code c0de : 12 points, the first is 0" in text
    assert "evaluated by code unknown : 12 points, the first is 12" in text
    assert re.search(r"18 16 9 .* unknown ", text)


def test_no_text_of_a_space_becomes_markup() -> None:
    page = render_space(small_space(), mixed_entries())
    assert "<its>" not in page
    assert "<a tile>" not in page
    given = json.loads(
        re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)[0]
    )
    assert len(given["points"]["number"]) == 24


def test_equal_points_give_equal_pages_that_hold_plotly_once() -> None:
    page = render_space(small_space(), mixed_entries())
    assert page == render_space(small_space(), list(mixed_entries()))
    assert len(page) < 5_500_000
    assert page.count("plotly.js v") == 1


def test_a_search_without_a_front_has_a_page() -> None:
    entries = [replace(entry, evaluation=failed("")) for entry in entries_of()[:3]]
    text = text_of(render_space(small_space(), entries))
    assert "No point was simulated whole, so there is no front." in text
    assert "3 no reason was told 0, 1, 2" in text
    assert "0 points have a figure, too few" in text
    assert "Evaluated 0 of 24 combinations" in text_of(render_space(small_space(), []))


def test_a_bound_at_infinity_is_no_figure() -> None:
    space, point = small_space(("throughput_per_s",)), entries_of()[0].point
    bound = Evaluation("pruned", {"throughput_per_s": float("inf")}, ("throughput_per_s",))
    columns = page_columns(space, [Entry(0, point, bound)], ())
    assert columns["points"]["figures"] == [[None]]
    assert "Evaluated 1 of 24 combinations" in text_of(render_space(space, [Entry(0, point, bound)]))


def test_failures_are_told_by_reason_and_costs_add_up() -> None:
    found = failures(mixed_entries())
    assert [each.numbers for each in found] == [(1, 5), (6,)]
    cost = costs(mixed_entries())
    assert (cost.cpu_seconds, cost.simulated, cost.shared, cost.skipped) == (10.875, 44, 19, 9)
    assert cost.points_per_minute == pytest.approx(24 * 60 / 10.875)
    assert costs([]).points_per_minute is None


def test_measures_of_the_only_workload_are_told_once() -> None:
    point = entries_of()[0].point
    measures = {"latency_us": 9.0, "area_mm2": 1.0, "latency_us of short": 9.0, "power_w": 2.0}
    entries = [Entry(0, point, done(point, measures=measures))]
    space = small_space()
    assert "latency_us of short" in text_of(render_space(space, entries))
    only = replace(space, workloads=space.workloads[:1])
    assert "latency_us of short" not in text_of(render_space(only, entries))
