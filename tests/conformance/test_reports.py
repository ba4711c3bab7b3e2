"""What a report counts and how it is written: JSON, JUnit XML, one HTML page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from npuvm.isa.conformance import Level, LevelReport, Report, SuiteOptions
from npuvm.isa.conformance.cases import Failure
from npuvm.isa.conformance.report import coverage_by_field
from npuvm.isa.conformance.writers import render_html, render_json, render_junit

NASTY = "<script>alert('x')</script> & \x01\x1b[31m"


@pytest.fixture
def report() -> Report:
    """Two cases of `vadd`, one of which fails, one of `vsub`; a level that did not run."""
    level = LevelReport(Level.ENCODING, words=6, seconds=0.5)
    level.add("vadd", ("encoding/vadd/rows/min", "encoding/vadd/dtype/fp32"), None)
    level.add(
        "vadd", ("encoding/vadd/rows/max", "encoding/vadd/dtype/fp32"), Failure("encoding/vadd/rows/max", "1", NASTY)
    )
    level.add("vsub", ("encoding/vsub/rows/min",), None)
    level.close(
        [
            f"encoding/{name}"
            for name in ("vadd/rows/min", "vadd/rows/max", "vadd/dtype/fp32", "vsub/rows/min", "vsub/b/min")
        ]
    )
    skipped = LevelReport(Level.TRAPS, skipped="target x does not run it")
    return Report("npu 1.0", "ab" * 32, ("fma 1.0",), "x", SuiteOptions(seed=3), (level, skipped), ("a note",))


def test_a_bin_is_covered_when_a_case_ran_and_none_failed(report: Report) -> None:
    level = report.level(Level.ENCODING)
    assert level.covered == {"encoding/vadd/rows/min", "encoding/vsub/rows/min"}
    assert level.uncovered == {
        "encoding/vadd/rows/max": "a case of it failed",
        "encoding/vadd/dtype/fp32": "a case of it failed",
        "encoding/vsub/b/min": "no case covers it",
    }
    assert (level.cases, level.passed, level.failed, level.bins) == (3, 2, 1, 5)
    assert coverage_by_field(level) == {
        "vadd": {"dtype": (0, 1), "rows": (1, 2)},
        "vsub": {"b": (0, 1), "rows": (1, 1)},
    }


def test_a_bin_that_no_list_has_is_told() -> None:
    level = LevelReport(Level.TRAPS)
    level.add("a", ("traps/any/unheard-of/x",), None)
    level.close([])
    assert level.unlisted == {"traps/any/unheard-of/x"}
    assert level.bins == 0


def test_bins_without_an_oracle_of_their_own_are_counted() -> None:
    level = LevelReport(Level.SEMANTICS)
    names = ["semantics/vfma/fp32/derived-nan", "semantics/vfma/fp32/derived-inf", "semantics/vadd/fp32/nan"]
    level.add("vfma", names[:1], None)
    level.close(names)
    assert (level.derived, level.bins) == (2, 3)


def test_nothing_ran_is_no_pass() -> None:
    ran = LevelReport(Level.LINT)
    ran.add("any", (), None)
    for levels, ok in (
        ((ran,), True),
        ((LevelReport(Level.LINT),), False),
        ((ran, LevelReport(Level.TRAPS)), False),
        ((), False),
    ):
        assert Report("npu 1.0", "", (), "x", SuiteOptions(), levels).ok is ok


def test_json(report: Report) -> None:
    data = json.loads(render_json(report))
    assert (data["format"], data["ok"], data["seed"], data["extensions"]) == (
        "npuvm-conformance-1",
        False,
        3,
        ["fma 1.0"],
    )
    encoding, traps = data["levels"]
    assert encoding["bins"] == {"covered": 2, "total": 5, "derived": 0}
    assert encoding["failures"] == [{"case": "encoding/vadd/rows/max", "expected": "1", "got": NASTY}]
    assert encoding["groups"]["vadd"] == {"cases": 2, "failed": 1}
    assert encoding["coverage"]["vadd"]["rows"] == [1, 2]
    assert (traps["skipped"], traps["cases"]) == ("target x does not run it", 0)


def test_junit(report: Report) -> None:
    root = ElementTree.fromstring(render_junit(report))
    suites = {suite.get("name"): suite for suite in root}
    assert root.get("tests") == "3"
    assert (suites["encoding"].get("tests"), suites["encoding"].get("failures")) == ("2", "1")
    cases = {case.get("name"): case for case in suites["encoding"]}
    failure = cases["vadd"].find("failure")
    assert failure is not None
    assert failure.get("message") == "1 of 2 cases failed"
    assert "<script>alert('x')</script> & ??[31m" in (failure.text or "")
    assert cases["vsub"].find("failure") is None
    skipped = suites["traps"].find("testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "target x does not run it"


class Page(HTMLParser):
    """Collects the tags that are open at the end, and what a page would fetch."""

    VOID = ("meta", "br", "link", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_escaped_and_fetches_nothing(report: Report) -> None:
    text = render_html(report)
    page = Page(text)
    assert page.open == []
    assert page.fetched == []
    assert "script" not in page.tags
    assert not re.search(r"@import|url\(|https?://", text)
    for shown in (
        "1 of 3 cases failed",
        "2 / 5",
        "encoding/vsub/b/min",
        "target x does not run it",
        "a note",
        "fma 1.0",
    ):
        assert shown in text


def test_html_of_a_report_without_failures() -> None:
    level = LevelReport(Level.LINT)
    level.add("any", ("lint/any/head/cover",), None)
    level.close(["lint/any/head/cover"])
    text = render_html(Report("npu 1.0", "00", (), "x", SuiteOptions(), (level,)))
    assert "passed" in text
    assert "<h2>Failures" not in text
    assert "None." in text
