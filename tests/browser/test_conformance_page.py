"""The conformance report in a real browser without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.browser.conftest import NARROW, WIDE, OpenPage

from npuvm.isa.conformance import Level, LevelReport, Report, SuiteOptions
from npuvm.isa.conformance.cases import Failure
from npuvm.isa.conformance.writers import render_html

pytestmark = pytest.mark.browser


def report() -> Report:
    """Two cases of an instruction, one of which fails with text that looks like markup."""
    level = LevelReport(Level.ENCODING, words=6, seconds=0.5)
    level.add("vadd", ("encoding/vadd/rows/min",), None)
    level.add(
        "vadd", ("encoding/vadd/rows/max",), Failure("encoding/vadd/rows/max", "1", "<script>alert('x')</script>")
    )
    level.close(["encoding/vadd/rows/min", "encoding/vadd/rows/max", "encoding/vsub/b/min"])
    skipped = LevelReport(Level.TRAPS, skipped="target x does not run it")
    return Report("npu 1.0", "ab" * 32, ("fma 1.0",), "x", SuiteOptions(seed=3), (level, skipped), ("a note",))


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_conformance_report_opens_and_unfolds(
    open_page: OpenPage, screenshots: Path, size: tuple[int, int], scheme: str
) -> None:
    page = open_page(render_html(report()), size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    assert page.title() == "npuvm conformance: x"
    assert "1 of 2 cases failed" in page.locator("h1").inner_text()
    assert "<script>alert('x')</script>" in page.locator("pre").inner_text()
    folded = page.locator("details:not([open]) > summary").first
    folded.click()
    assert page.locator("details[open]").count() == 2
    page.screenshot(path=str(screenshots / f"conformance-{size[0]}-{scheme}.png"), full_page=True)
