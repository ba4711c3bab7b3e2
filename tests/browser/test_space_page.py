"""The page of a search in a real browser without a network: every figure is drawn, and points tell what they are."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.browser.conftest import NARROW, WIDE, OpenPage
from tests.explore.results.kit import entries_of, failed, mixed_entries, small_space

from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import front_entries
from npuvm.explore.results.html import render_space

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@cache
def three_objectives() -> str:
    return render_space(small_space(("latency_us", "area_mm2", "energy_uj")), mixed_entries())


def drawn(open_page: OpenPage, html: str, size: tuple[int, int] = WIDE, **settings: Any) -> Page:
    page = open_page(html, size, **settings)
    page.wait_for_selector("html[data-ready=true]", timeout=60_000)
    return page


@pytest.fixture(scope="module")
def page(open_shared: OpenPage) -> Page:
    """The page of two objectives, opened once."""
    return drawn(open_shared, render_space(small_space(), mixed_entries()))


def traces(page: Page, plot: str) -> dict[str, dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate("id => document.getElementById(id).data", plot)
    return {trace.get("name") or "line": trace for trace in found}


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_the_page_fits_every_width_and_scheme(
    open_page: OpenPage, screenshots: Path, size: tuple[int, int], scheme: str
) -> None:
    page = drawn(open_page, three_objectives(), size, color_scheme=scheme)
    page.screenshot(path=str(screenshots / f"space-{size[0]}-{scheme}.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    for plot in (
        "front-plot-0",
        "front-plot-1",
        "front-plot-2",
        "sensitivity-plot",
        "history-plot",
        "coordinates-plot",
    ):
        box = page.locator(f"#{plot} .main-svg").first.bounding_box()
        assert box is not None
        assert box["height"] > 150
        # Parallel coordinates need room, and are scrolled to on a phone.
        assert box["width"] <= (size[0] if plot != "coordinates-plot" else 1280)
    fill = page.locator("#history-plot .xtick text").first.evaluate("node => getComputedStyle(node).fill")
    assert (sum(map(float, fill[4:-1].split(","))) / 3 < 128) == (scheme == "light")


def test_the_front_has_a_mark_for_each_point_that_has_figures(page: Page) -> None:
    found = traces(page, "front-plot-0")
    front = {entry.number for entry in front_entries(small_space(), mixed_entries())}
    assert set(found["front"]["customdata"]) == front
    assert len(found["simulated whole"]["customdata"]) == 19 - len(front)
    assert found["over a budget"]["customdata"] == [23]
    assert found["pruned (at best here)"]["customdata"] == [9]
    marks = page.locator("#front-plot-0 .scatterlayer .points path.point")
    assert marks.count() == 21
    # From the fastest point on, the line goes right and then down.
    assert found["line"]["x"] == [16, 24, 40]
    assert found["line"]["line"]["shape"] == "hv"


def test_pointing_at_a_point_shows_its_parameters(page: Page) -> None:
    page.locator("#front-plot-0 .scatterlayer .trace").last.locator(".points path.point").first.hover(force=True)
    page.wait_for_selector("#front-plot-0 .hoverlayer .hovertext")
    text = page.locator("#front-plot-0 .hoverlayer").text_content() or ""
    number = traces(page, "front-plot-0")["front"]["customdata"][0]
    point = mixed_entries()[number].point
    assert f"point {number}, of the front" in text
    for name in ("core.count", "core.ub_kib", "compiler.fusion"):
        assert f"{name} = {point[name]}" in text
    page.mouse.move(0, 0)


def test_each_point_of_the_front_is_a_line_through_its_values(page: Page) -> None:
    data: list[dict[str, Any]] = page.evaluate("document.getElementById('coordinates-plot').data")
    lines = [trace for trace in data if trace["name"] == "front"]
    front = front_entries(small_space(), mixed_entries())
    assert {trace["customdata"][0] for trace in lines} == {entry.number for entry in front}
    for trace in lines:
        assert len(trace["y"]) == 6
        entry = mixed_entries()[trace["customdata"][0]]
        # Numbers of cores are at 0, 1/2 and 1, each with its lines a quarter of a place around it.
        assert trace["y"][0] == pytest.approx([1, 2, 4].index(int(entry.point["core.count"])) / 2, abs=0.13)
    labels = page.locator("#coordinates-plot .annotation-text").all_text_contents()
    assert labels == ["1", "2", "4", "128", "256", "none", "pattern", "false", "true", "16", "72", "3", "10.5"]
    titles = page.locator("#coordinates-plot .xtick text").all_text_contents()
    assert titles == ["count", "ub_kib", "fusion", "fma", "latency_us", "area_mm2"]


def test_points_with_a_value_can_be_marked(page: Page) -> None:
    assert "marked" not in traces(page, "front-plot-0")
    page.select_option("#mark", label="core.count = 4")
    entries = mixed_entries()
    wanted = {entry.number for entry in entries if entry.point["core.count"] == 4}
    assert set(traces(page, "front-plot-0")["marked"]["customdata"]) == wanted
    lines: list[dict[str, Any]] = page.evaluate("document.getElementById('coordinates-plot').data")
    front = {trace["customdata"][0]: trace["line"]["color"] for trace in lines if trace["name"] == "front"}
    colours = (
        {front[number] for number in front if number in wanted},
        {front[number] for number in front if number not in wanted},
    )
    assert [len(each) for each in colours] == [1, 1]
    assert colours[0] != colours[1]
    page.select_option("#mark", "")


def test_bars_stand_by_how_much_parameters_matter(page: Page) -> None:
    bars = traces(page, "sensitivity-plot")
    assert list(bars) == ["latency_us", "area_mm2"]
    assert bars["latency_us"]["y"][:2] == ["count", "fusion"]
    assert bars["latency_us"]["x"][0] > bars["latency_us"]["x"][1] > 5
    assert page.locator("#sensitivity-plot .barlayer .point path").count() == 8


def test_the_hypervolume_rises_to_the_whole(page: Page) -> None:
    line = page.evaluate("document.getElementById('history-plot').data[0]")
    assert len(line["y"]) == 24
    assert line["y"] == sorted(line["y"])
    assert line["y"][-1] == 1


def test_the_table_of_the_front_sorts_on_a_click(page: Page) -> None:
    rows = page.locator("#points tbody tr")
    before = rows.locator("td:nth-child(2)").all_text_contents()
    page.click("#points th:nth-child(2) button")
    assert rows.locator("td:nth-child(2)").all_text_contents() == before[::-1]


def test_one_objective_is_drawn_over_the_numbers_of_points(open_page: OpenPage) -> None:
    page = drawn(open_page, render_space(small_space(("latency_us",)), mixed_entries()))
    assert traces(page, "front-plot-0")["simulated whole"]["x"][0] == 0
    assert "line" not in traces(page, "front-plot-0")


def test_a_search_without_a_front_is_drawn_without_errors(open_page: OpenPage) -> None:
    entries = [Entry(entry.number, entry.point, failed("no")) for entry in entries_of()[:2]]
    page = drawn(open_page, render_space(small_space(), entries))
    assert page.locator("#sensitivity-plot").is_hidden()
