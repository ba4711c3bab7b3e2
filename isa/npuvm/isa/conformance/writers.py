"""A report as text for other programs and for people: JSON, JUnit XML, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined, Template

from npuvm.isa.conformance.report import LevelReport, Report, coverage_by_field

__all__ = ["render_html", "render_json", "render_junit"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, even escaped."""


def render_json(report: Report) -> str:
    """The whole report, as `Report.as_json` describes it."""
    return json.dumps(report.as_json(), indent=1) + "\n"


def render_junit(report: Report) -> str:
    """JUnit XML: a test suite for each level, a test case for each instruction or program."""
    root = ElementTree.Element(
        "testsuites",
        name=f"npuvm conformance, {report.target}",
        tests=str(_groups(report)),
        failures=str(_failed(report)),
    )
    for level in report.levels:
        _junit_level(root, report, level)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def render_html(report: Report) -> str:
    """One page with the totals, the failures, coverage by instruction and field, and the bins that are not covered."""
    coverage = {level.level.value: coverage_by_field(level) for level in report.levels if level.skipped is None}
    instructions = sorted({name for fields in coverage.values() for name in fields})
    return _template().render(report=report, coverage=coverage, instructions=instructions, total=_total)


def _groups(report: Report) -> int:
    return sum(_cases(level) for level in report.levels)


def _cases(level: LevelReport) -> int:
    return len(level.groups) + len(level.left_out) or 1


def _failed(report: Report) -> int:
    return sum(1 for level in report.levels for group in level.groups.values() if group.failed)


def _junit_level(root: ElementTree.Element, report: Report, level: LevelReport) -> None:
    failed = sum(1 for group in level.groups.values() if group.failed)
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=level.level.value,
        tests=str(_cases(level)),
        failures=str(failed),
        skipped=str(int(level.skipped is not None) + len(level.left_out)),
        time=f"{level.seconds:.3f}",
    )
    place = f"npuvm.conformance.{report.target}.{level.level.value}"
    if level.skipped is not None:
        case = ElementTree.SubElement(suite, "testcase", classname=place, name="level")
        ElementTree.SubElement(case, "skipped", message=_xml(level.skipped))
    for name, reason in level.left_out.items():
        case = ElementTree.SubElement(suite, "testcase", classname=place, name=_xml(name))
        ElementTree.SubElement(case, "skipped", message=_xml(reason))
    for name, group in level.groups.items():
        case = ElementTree.SubElement(suite, "testcase", classname=place, name=_xml(name))
        if group.failed:
            wrong = [failure for failure in level.failures if failure.group == name]
            text = "\n".join(f"{f.case}\n  expected: {f.expected}\n  got:      {f.got}" for f in wrong)
            message = f"{group.failed} of {group.cases} cases failed"
            ElementTree.SubElement(case, "failure", message=message).text = _xml(text)


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)


def _total(fields: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Covered and all bins of an instruction, over its fields."""
    return sum(covered for covered, _ in fields.values()), sum(total for _, total in fields.values())


@cache
def _template() -> Template:
    source = files("npuvm.isa.conformance").joinpath("report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        source
    )
