"""The report page: one file, whole, safe, the same for the same run, and its tables say what the run found."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from tests.browser.report_kit import SCENARIO, observe, small_page, small_run

from npuvm.hw.config import load_chip
from npuvm.hw.config.fields import leaf_paths
from npuvm.hw.energy import EnergyReport, estimate_area, estimate_energy, load_technology
from npuvm.hw.errors import ConfigError, DeviceError
from npuvm.runtime.html import ReportInputs, ReportRecorder, render_report
from npuvm.runtime.html.page import plotly_script
from npuvm.runtime.html.tables import config_sections, trust_counts
from npuvm.runtime.scenarios.report import KindRow, ScenarioReport, SentenceRow, Totals

ROOT = Path(__file__).resolve().parents[3]
NASTY = "</script><script>alert('x')</script> & <b>"


class Page(HTMLParser):
    """Elements that are open at the end, identifiers, references to them, what would be fetched, and the rows of tables."""

    VOID = ("meta", "link", "br", "input", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.fetched: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        self.references |= {found[name] for name in ("aria-labelledby", "aria-describedby", "for") if name in found}
        if found.get("href", "").startswith("#"):
            self.references.add(found["href"][1:])
        self.fetched += [found[name] for name in ("src", "srcset", "href", "data", "action", "poster") if name in found]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table_with(self, heading: str) -> list[dict[str, str]]:
        """The rows below the head of the first table that has this heading."""
        table = next(table for table in self.tables if heading in table[0])
        return [dict(zip(table[0], row, strict=True)) for row in table[1:]]


def own_part(page: str) -> str:
    """The page without the script of plotly."""
    return page.replace(plotly_script(), "")


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(small_page())


def test_the_page_is_well_formed_and_needs_nothing_else(page: Page) -> None:
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.references <= set(page.ids)
    assert [url for url in page.fetched if not url.startswith("#")] == ["data:,"]
    assert not re.findall(r"https?:", own_part(small_page()))
    assert not re.findall(r"@import|url\(", own_part(small_page()))
    assert "default-src 'none'" in small_page()
    assert small_page().count(plotly_script()) == 1


def test_sections_are_there_and_in_the_navigation(page: Page) -> None:
    for name in ("summary", "roofline", "breakdown", "timeline", "kernels", "bytes", "energy", "chip", "run"):
        assert name in page.ids
        assert f"#{name}" in page.fetched


def test_the_table_of_operators_has_the_numbers_of_the_report(page: Page) -> None:
    report = small_run()[0].report
    table = page.table_with("of roofline")
    assert [row["#"] for row in table] == ["1", "2", "3", "4", ""]
    for row, case in zip(table, report.cases, strict=False):
        totals = case.totals
        assert case.errors is not None
        assert totals.of_bound is not None
        assert row["operator"] == f"{case.operator} {case.dtype} {case.shape}"
        assert row["cycles"] == f"{totals.cycles:,}"
        assert row["share"] == f"{100 * totals.cycles / report.totals.cycles:.1f} %"
        assert (row["bound"], row["of bound"]) == (totals.bound, f"{100 * totals.of_bound:.1f} %")
        error = f"{case.errors.absolute:.1e}" if case.errors.absolute else "0"
        assert (row["largest error"], row["result"]) == (error, "right")
    assert table[-1]["cycles"] == f"{report.totals.cycles:,}"
    assert table[3]["achieved"] == "0 op/s"


def test_every_cause_is_in_the_table_of_causes(page: Page) -> None:
    table = page.table_with("cycles of cores")
    sums: dict[str, int] = {}
    for row in table:
        sums[row["operator"]] = sums.get(row["operator"], 0) + int(row["cycles of cores"].replace(",", ""))
    report = small_run()[0].report
    names = [f"{i}. {case.operator} {case.dtype} {case.shape}" for i, case in enumerate(report.cases, 1)]
    cycles = [case.totals.cycles for case in report.cases]
    assert sums == dict(zip(["all launches", *names], [sum(cycles), *cycles], strict=True))


def test_estimates_are_called_so_and_are_those_of_the_technology(page: Page) -> None:
    inputs = small_run()[0]
    technology = load_technology("n7")
    assert "Energy and area estimates" in " ".join(page.text.split())
    parts = [estimate_energy(record.result, record.chip, technology) for record in inputs.launches[:1]]
    row = page.table_with("pJ/op")[0]
    assert float(row["total"]) == pytest.approx(EnergyReport.sum(parts).total.value * 1e-6, rel=1e-2)
    area = estimate_area(inputs.launches[0].chip, technology)
    assert page.table_with("mm²")[-1]["mm²"] == f"{area.total.value:.1f}"


def test_every_number_of_the_chip_has_its_origin(page: Page) -> None:
    chip = small_run()[0].launches[0].chip
    shown = {row["field"]: row for table in page.tables if "field" in table[0] for row in page_rows(table)}
    values = chip.model_dump(mode="python")
    for path in leaf_paths(values):
        node: Any = values
        for key in path.split("."):
            node = node[key] if isinstance(node, dict) else None
        assert (path in shown) == (node is not None)
    for path, origin in chip.provenance.items():
        assert (shown[path]["source"], shown[path]["trust"]) == (origin.source, origin.trust)
        assert shown[path]["error bar"] == f"± {origin.error_pct:g} %"


def page_rows(table: list[list[str]]) -> list[dict[str, str]]:
    return [dict(zip(table[0], row, strict=True)) for row in table[1:]]


def test_values_of_the_chip_are_written_as_in_its_file() -> None:
    chip = load_chip("ascend_910b1", ["core.load.row_cycles=1/3", "core.ub_kib=96", "isa.extensions=[fma]"])
    rows = {row.path: row for section in config_sections(chip).values() for row in section}
    assert rows["core.load.row_cycles"].value == "1/3"
    assert (rows["core.ub_kib"].value, rows["core.ub_kib"].source) == ("96", "override core.ub_kib=96")
    assert rows["isa.extensions"].value == "fma"
    assert (rows["core.kind"].value, rows["core.kind"].source, rows["core.kind"].trust) == ("split", "", "")
    assert rows["memory.address_hash"].value in ("true", "false")
    assert sum(trust_counts(chip).values()) == len(chip.provenance)


def test_the_data_of_the_figures_is_one_json_value() -> None:
    data = json.loads(
        re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', small_page(), re.S)[0]
    )
    assert list(data) == ["roofline", "breakdown", "timelines", "units"]
    assert len(data["timelines"]) == 3


def test_what_a_scenario_says_is_text_and_no_markup() -> None:
    inputs, _ = small_run()
    header = replace(inputs.report.header, title=NASTY, options={NASTY: NASTY})
    cases = tuple(replace(case, operator=NASTY) for case in inputs.report.cases)
    page = render_report(replace(inputs, report=replace(inputs.report, header=header, cases=cases), generated=NASTY))
    assert NASTY not in page
    assert Page(page).open == []
    assert own_part(page).count("<script") == 3
    assert Page(page).table_with("of roofline")[0]["operator"].startswith(NASTY)


def test_a_wrong_result_and_an_unchecked_one_are_told() -> None:
    inputs, _ = small_run()
    (first, *others) = inputs.report.cases
    assert first.errors is not None
    wrong = replace(first, errors=replace(first.errors, of_allowed=7.0))
    page = Page(render_report(replace(inputs, report=replace(inputs.report, cases=(wrong, *others)))))
    assert "1 results wrong." in page.text
    assert page.table_with("of roofline")[0]["result"] == "WRONG"
    timing = Page(render_report(observe(SCENARIO, ReportRecorder(timelines=0), timing_only=True)))
    assert "Timing only: no tensor data, results were not checked." in timing.text
    assert {row["result"] for row in timing.table_with("of roofline")[:-1]} == {"not checked"}
    assert "timeline" not in timing.ids


def model_run() -> ReportInputs:
    """The launches of the small run as those of a model: two kinds of operators, two sentences."""
    inputs, _ = small_run()
    tagged = tuple(replace(r, tag="sum" if r.kernel == "binary" else "other") for r in inputs.launches)
    cases = inputs.report.cases
    kinds = (
        KindRow("lookup", Totals(), host_us=1500.0),
        KindRow("sum", cases[2].totals),
        KindRow("other", Totals.sum(case.totals for case in (cases[0], cases[1], cases[3]))),
    )
    sentences = (
        SentenceRow("a <b> c", 3, Totals.sum(case.totals for case in cases[:2]), 0.999876543, True),
        SentenceRow("d", 1, Totals.sum(case.totals for case in cases[2:]), None, None),
    )
    report = ScenarioReport(inputs.report.header, 5.0, (), sentences, kinds, cosine_min=0.99)
    return replace(inputs, report=report, launches=tagged, technology=None)


def test_a_model_has_rows_by_kind_and_by_sentence() -> None:
    page = Page(render_report(model_run()))
    assert [row["operator"] for row in page.table_with("of roofline")[:-1]] == ["sum", "other"]
    first, second = page.table_with("neighbours")
    assert (first["sentence"], first["cosine"], first["neighbours"]) == ("a <b> c", "0.999877", "equal")
    assert (second["cosine"], second["neighbours"]) == ("-", "not checked")
    assert "lookup is done on the host: 1.50 ms (measured)." in page.text
    assert "energy" not in page.ids


def test_equal_runs_give_equal_bytes() -> None:
    inputs, _ = small_run()
    assert render_report(inputs) == small_page()
    script = (
        "import hashlib; from tests.runtime.html.test_html_page import unmeasured; "
        "from npuvm.runtime.html import ReportRecorder, render_report; from tests.browser.report_kit import SCENARIO, observe; "
        "page = render_report(unmeasured(observe(SCENARIO, ReportRecorder(timelines=3)))); "
        "print(hashlib.sha256(page.encode()).hexdigest())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    here = render_report(unmeasured(inputs))
    assert done.stdout.strip() == hashlib.sha256(here.encode()).hexdigest()


def unmeasured(inputs: ReportInputs) -> ReportInputs:
    """A run without what was measured on the host, which differs from run to run."""
    cases = tuple(replace(case, totals=replace(case.totals, compile_us=0.0)) for case in inputs.report.cases)
    return replace(inputs, report=replace(inputs.report, cases=cases), measured={})


def test_the_time_it_was_made_is_there_only_when_it_is_given() -> None:
    inputs, _ = small_run()
    assert ", made 2" not in own_part(small_page())
    assert ", made 2026-11-21 08:00 UTC" in render_report(replace(inputs, generated="2026-11-21 08:00 UTC"))


def test_without_plotly_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(resources, "files", missing)
    with pytest.raises(ConfigError, match=r"plotly, which is not installed; pip install 'npuvm\[report\]'"):
        render_report(small_run()[0])


def test_an_operator_on_empty_tensors_is_listed_without_energy() -> None:
    text = SCENARIO.replace("shapes: [[300, 500]]", "shapes: [[0, 500], [8, 500]]")
    page = Page(render_report(observe(text, ReportRecorder(timelines=0), timing_only=True)))
    assert [row["launches"] for row in page.table_with("host compile ms (measured)")].count("0") == 1
    energy = [row["operator"] for row in page.table_with("mean W")]
    assert "add fp16 8 x 500" in energy and "add fp16 0 x 500" not in energy


def test_nothing_launched_is_nothing_to_report() -> None:
    inputs, _ = small_run()
    with pytest.raises(DeviceError, match="nothing was launched"):
        render_report(replace(inputs, launches=()))
