"""The report of a run in a real browser without a network: what is drawn, and what a reader can do with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.browser.conftest import NARROW, WIDE, OpenPage
from tests.browser.report_kit import small_page, small_run

from npuvm.runtime.html.kernels import kernel_rows

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def drawn(open_page: OpenPage, size: tuple[int, int] = WIDE, **settings: Any) -> Page:
    page = open_page(small_page(), size, **settings)
    page.wait_for_selector("html[data-ready=true]", timeout=60_000)
    return page


@pytest.fixture(scope="module")
def shared(open_shared: OpenPage) -> Page:
    """The report on a wide page, opened once."""
    return drawn(open_shared)


@pytest.fixture
def page(shared: Page) -> Page:
    """The shared report, with its whole first timeline in view and nothing pointed at."""
    shared.select_option("#timeline-choice", "0")
    shared.click("#zoom-all")
    shared.mouse.move(0, 0)
    return shared


def traces(page: Page, plot: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate("id => document.getElementById(id).data", plot)
    return found


def x_range(page: Page) -> tuple[float, float]:
    low, high = page.evaluate("document.getElementById('timeline-plot').layout.xaxis.range")
    return low, high


def hover_text(page: Page, plot: str) -> str:
    page.wait_for_selector(f"#{plot} .hoverlayer .hovertext")
    return page.locator(f"#{plot} .hoverlayer").text_content() or ""


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark")])
def test_the_page_fits_every_width_and_scheme(
    open_page: OpenPage, screenshots: Path, size: tuple[int, int], scheme: str
) -> None:
    page = drawn(open_page, size, color_scheme=scheme)
    page.screenshot(path=str(screenshots / f"report-{size[0]}-{scheme}.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (brightness(background) > 128) == (scheme == "light")
    assert abs(brightness(background) - tick_brightness(page)) > 120
    for plot in ("roofline-plot", "breakdown-plot", "timeline-plot"):
        box = page.locator(f"#{plot} .main-svg").first.bounding_box()
        assert box is not None
        assert box["width"] <= size[0]
        assert box["height"] > 200
    assert covered_labels(page) == []
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert tick_brightness(page) < 80, "paper is white"


def tick_brightness(page: Page) -> float:
    fill = page.locator("#roofline-plot .xtick text").first.evaluate("node => getComputedStyle(node).fill")
    return brightness(fill)


def covered_labels(page: Page) -> list[str]:
    """Pairs of texts of the roofline that lie over each other; the turned names of the diagonals have no box of their own."""
    kinds = (".annotation-text", ".textpoint text", ".xtick text", ".ytick text", ".xtitle", ".ytitle")
    boxes = page.evaluate(
        """kinds => [...document.querySelectorAll(kinds)].filter(node => node.textContent)
            .map(node => [node.textContent, node.getBoundingClientRect().toJSON()])""",
        ", ".join(f"#roofline-plot {kind}" for kind in kinds),
    )
    assert len(boxes) > 10
    upright = [(name, box) for name, box in boxes if name.split()[0] not in ("L2", "HBM")]
    return [f"{name} covers {other}" for i, (name, a) in enumerate(upright) for other, b in upright[:i] if meet(a, b)]


def meet(a: dict[str, float], b: dict[str, float]) -> bool:
    return a["left"] < b["right"] and b["left"] < a["right"] and a["top"] < b["bottom"] and b["top"] < a["bottom"]


def brightness(colour: str) -> float:
    channels = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    return sum(channels) / 3


def test_the_roofline_has_a_point_for_each_operator_that_computes(page: Page) -> None:
    wanted = {row.number for row in kernel_rows(small_run()[0]) if row.work.flops}
    points = [trace for trace in traces(page, "roofline-plot") if "customdata" in trace]
    assert {number for trace in points for number in trace["customdata"]} == wanted
    marks = page.locator("#roofline-plot .scatterlayer .points path.point")
    assert marks.count() == len(wanted)
    axes = page.locator("#roofline-plot .nsewdrag").bounding_box()
    assert axes is not None
    for index in range(marks.count()):
        box = marks.nth(index).bounding_box()
        assert box is not None
        assert axes["x"] <= box["x"] + box["width"] / 2 <= axes["x"] + axes["width"] + 1
        assert axes["y"] <= box["y"] + box["height"] / 2 <= axes["y"] + axes["height"] + 1
    labels = page.locator("#roofline-plot .annotation-text").all_text_contents()
    assert [label.split()[0] for label in labels] == ["cube", "vector", "vector", "L2", "HBM"]


def test_pointing_at_a_point_names_the_operator(page: Page) -> None:
    page.locator("#roofline-plot .scatterlayer .points path.point").first.hover(force=True)
    assert "1. matmul bias gelu fp16 m70 n96 k64" in hover_text(page, "roofline-plot")


def test_every_bar_ends_at_a_hundred_percent(page: Page) -> None:
    sums: dict[str, float] = {}
    for trace in traces(page, "breakdown-plot"):
        for name, share in zip(trace["y"], trace["x"], strict=True):
            sums[name] = sums.get(name, 0.0) + share
    assert sums == pytest.approx(dict.fromkeys(["all", "1", "2", "3", "4"], 100.0), abs=1e-3)
    ends = page.evaluate(
        """() => [...document.querySelectorAll("#breakdown-plot .barlayer .point path")]
            .map(node => node.getBoundingClientRect()).filter(box => box.width > 0).map(box => box.right)"""
    )
    axes = page.locator("#breakdown-plot .nsewdrag").bounding_box()
    assert axes is not None
    assert max(ends) == pytest.approx(axes["x"] + axes["width"], abs=2)


def test_the_timeline_zooms_by_buttons_and_by_dragging(page: Page) -> None:
    whole = x_range(page)
    cycles = small_run()[0].timelines[0].cycles
    assert whole == pytest.approx((0, cycles))
    page.click("#zoom-in")
    low, high = x_range(page)
    assert high - low == pytest.approx(cycles / 2)
    page.click("#earlier")
    assert x_range(page)[0] < low
    page.click("#later")
    page.click("#zoom-all")
    assert x_range(page) == whole
    page.locator("#timeline-plot").scroll_into_view_if_needed()
    box = page.locator("#timeline-plot .nsewdrag").first.bounding_box()
    assert box is not None
    y = box["y"] + 20
    page.mouse.move(box["x"] + box["width"] * 0.25, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=5)
    page.mouse.up()
    low, high = x_range(page)
    assert (low, high) == pytest.approx((cycles * 0.25, cycles * 0.5), rel=0.05)


def test_pointing_at_an_instruction_shows_its_text_and_its_stall(page: Page) -> None:
    timeline = small_run()[0].timelines[0]
    slowest = max(
        range(len(timeline.slices)), key=lambda index: timeline.slices[index].until - timeline.slices[index].start
    )
    found = timeline.slices[slowest]
    unit = timeline.rows[found.row][2]
    shown = [s for s in timeline.slices if timeline.rows[s.row][2] == unit]
    bars = page.locator("#timeline-plot .barlayer .trace.bars").nth(
        sorted({row[2] for row in timeline.rows}, key=list(small_run()[0].launches[0].isa.units).index).index(unit)
    )
    assert bars.locator(".point path").count() == len(shown)
    bars.locator(".point path").nth(shown.index(found)).hover(force=True)
    text = hover_text(page, "timeline-plot")
    assert timeline.texts[found.text] in text
    assert f"cycles {found.start:,} to {found.until:,}" in text


def test_no_button_sends_anything_anywhere(page: Page) -> None:
    titles = page.locator(".modebar-btn").evaluate_all(
        "nodes => nodes.map(node => node.dataset.title || node.ariaLabel)"
    )
    assert len(titles) >= 9
    assert not [
        title for title in titles if any(word in title.lower() for word in ("share", "cloud", "edit", "plotly"))
    ]


def test_another_launch_can_be_chosen(page: Page) -> None:
    page.click("#zoom-in")
    page.select_option("#timeline-choice", "2")
    timeline = small_run()[0].timelines[2]
    assert x_range(page) == (0, timeline.cycles)
    rows = {name for trace in traces(page, "timeline-plot") if trace["type"] == "bar" for name in trace["y"]}
    assert rows == {f"{core} {unit}" for core, _, unit in timeline.rows}
    notes = page.locator("[data-timeline]")
    assert [notes.nth(index).is_visible() for index in range(3)] == [False, False, True]


def test_tables_sort_up_and_down(page: Page) -> None:
    heads = page.locator("#kernels th button")
    cells = page.locator("#kernels tbody tr td:nth-child(4)")
    by_cycles = heads.filter(has_text="cycles").first
    by_cycles.click()
    falling = [int(text.replace(",", "")) for text in cells.all_inner_texts()]
    assert falling == sorted(falling, reverse=True)
    assert len(falling) == 4
    by_cycles.click()
    rising = [int(text.replace(",", "")) for text in cells.all_inner_texts()]
    assert rising == sorted(falling)
    assert page.locator("#kernels th[aria-sort=ascending]").inner_text().startswith("cycles")
    heads.filter(has_text="operator").click()
    names = page.locator("#kernels tbody tr td:nth-child(2)").all_inner_texts()
    assert names == sorted(names)


def test_print_opens_what_is_folded(page: Page, screenshots: Path) -> None:
    assert page.locator("details:not([open])").count() > 5
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert page.pdf(path=str(screenshots / "report.pdf"))[:4] == b"%PDF"


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.evaluate("document.activeElement.blur()")
    page.focus("a.skip")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.focus("#zoom-in")
    page.keyboard.press("Enter")
    assert x_range(page) != (0, small_run()[0].timelines[0].cycles)
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, select, [role=img], [role=region], nav")]
            .filter(node => !(node.textContent.trim() || node.getAttribute("aria-label") || node.labels?.length)).length"""
    )
    assert unnamed == 0


def test_without_scripts_the_tables_are_still_there(open_page: OpenPage) -> None:
    page = open_page(small_page(), java_script_enabled=False)
    assert page.locator("#kernels tbody tr").count() == 4
    assert "The figures need JavaScript" in page.locator("noscript").inner_text()
