"""Tables and JSON of scenario reports."""

from __future__ import annotations

import json
import math

import pytest
from rich.console import Console

from npuvm.runtime.scenarios.oracles import Errors
from npuvm.runtime.scenarios.printing import render, to_json
from npuvm.runtime.scenarios.report import CaseRow, Header, KindRow, ScenarioReport, SentenceRow, Totals

HEADER = Header("small", "a test", "edge", "npu_v1 abc123", "0123abc", {"cores": "1"}, timing_only=False)
PART = Totals(
    launches=1,
    cycles=1000,
    microseconds=1.0,
    bytes={"hbm read": 1 << 20, "hbm write": 1 << 20, "l2 read": 1 << 21},
    busy={"vector": 500, "load": 900},
    available={"vector": 1000, "load": 1000},
    stalls={"wait ready": 30, "queue full": 70, "never": 0},
    bounds={"hbm": 800.0},
    roofline_cycles=250.0,
    compile_us=1500.0,
)


def _text(report: ScenarioReport) -> str:
    console = Console(width=200, record=True, file=None, quiet=False, no_color=True)
    with console.capture() as capture:
        console.print(render(report))
    return capture.get()


def _case(errors: Errors | None) -> ScenarioReport:
    return ScenarioReport(HEADER, cases=(CaseRow("add", "fp16", "3 x 4", PART, errors),))


def test_totals_add_up() -> None:
    other = Totals(launches=2, cycles=3000, busy={"vector": 100}, available={"vector": 3000}, bounds={"vector": 400.0})
    total = Totals.sum([PART, other])
    assert (total.launches, total.cycles) == (3, 4000)
    assert total.utilisation == {"load": 0.9, "vector": 600 / 4000}
    assert total.bound == "hbm"
    assert total.of_bound == pytest.approx(1200 / 4000)
    assert total.of_roofline == pytest.approx(250 / 4000)
    assert list(total.top_stalls) == ["queue full", "wait ready"]


def test_nothing_launched_has_no_roofline() -> None:
    assert Totals.sum([]).of_bound is None
    assert Totals.sum([]).of_roofline is None
    assert Totals.sum([]).bound == "-"


def test_table_says_what_it_is_about() -> None:
    text = _text(_case(Errors(1e-3, 0.5)))
    for part in (
        "edge",
        "npu_v1 abc123",
        "0123abc",
        "cores=1",
        "1,000",
        "2.00",
        "load 90%, vector 50%",
        "80.0%",
        "(measured)",
    ):
        assert part in text
    assert "queue full 70%, wait ready 30%" in text
    assert "all results right" in text


def test_wrong_result_is_a_fault_and_stands_out() -> None:
    report = _case(Errors(math.inf, math.inf))
    assert not report.ok
    assert "add fp16 3 x 4: wrong result, largest error inf" in report.faults[0]
    assert "WRONG" in _text(report)
    assert json.loads(json.dumps(to_json(report), allow_nan=False))["cases"][0]["max_error"] == "not finite"


def test_timing_only_checks_nothing() -> None:
    report = _case(None)
    assert report.ok
    assert to_json(report)["cases"][0]["ok"] is None


@pytest.mark.parametrize(
    ("cosine", "equal", "faults"),
    [(0.9999, True, 0), (0.5, True, 1), (math.nan, True, 1), (0.5, False, 2), (None, None, 0)],
)
def test_sentences_pass_by_cosine_and_order(cosine: float | None, equal: bool | None, faults: int) -> None:
    sentence = SentenceRow("A cat.", 5, PART, cosine, equal)
    kinds = (KindRow("embedding lookup (host)", Totals(), host_us=42.0), KindRow("softmax", PART))
    report = ScenarioReport(HEADER, sentences=(sentence,), kinds=kinds, cosine_min=0.999)
    assert len(report.faults) == faults
    assert "embedding lookup (host)" in _text(report)
    assert to_json(report)["operator_kinds"][0]["host_work_us_measured"] == 42.0
