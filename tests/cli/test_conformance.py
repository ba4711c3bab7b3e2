"""`npuvm conformance`: exit codes, what is printed, what is written."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.conformance.doubles import TEXT

from npuvm.cli.main import main

PUPIL = "tests.conformance.doubles:pupil"
WRONG = "tests.conformance.doubles:wrong_pupil"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_a_table_by_level_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert main(["conformance", "--target", PUPIL, "-l", "golden", "-l", "lint", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "pupil on npu 1.0" in printed
    assert "failed" in printed
    assert sorted(path.name for path in out.iterdir()) == ["junit.xml", "report.html", "report.json"]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["ok"]
    assert [level["level"] for level in report["levels"]] == ["lint", "golden"]
    assert f"{report['levels'][1]['cases']} " in printed
    suites = ElementTree.fromstring((out / "junit.xml").read_text(encoding="utf-8"))
    assert [suite.get("name") for suite in suites] == ["lint", "golden"]


def test_failures_are_listed_by_name_and_the_rest_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--target", WRONG, "-l", "encoding"]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if line.startswith("failed ")]
    assert len(failed) == 20
    assert failed[0].startswith("failed encoding/nop/")
    first = lines.index(failed[0])
    assert lines[first + 1].endswith(" order")
    assert lines[first + 2].startswith("  got:      legal, 1 words on seq: nop")
    assert not lines[first + 2].endswith(" order")
    assert any(line.startswith("and ") and line.endswith(" more failures") for line in lines)


def test_an_instruction_set_that_does_not_load_is_a_failure_of_lint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(TEXT.replace("name: vsub, opcode: 0x59", "name: vsub, opcode: 0x58"), encoding="utf-8")
    assert main(["conformance", "--target", PUPIL, "--isa", str(broken), "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "failed lint/any/file/loads" in printed
    assert "vsub: opcode 0x58 is taken by vadd" in printed
    assert f"{broken}:" in printed
    assert not json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["ok"]


def test_an_extension_that_does_not_fit_is_a_failure_of_lint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extension = tmp_path / "mine.yaml"
    extension.write_text(
        'extension: mine\nversion: "1.0"\nextends: npu 1.0\ndoc: "Mine."\ninstructions:\n'
        '  - {name: vmine, opcode: 0x58, format: vbin, dtypes: [fp32], semantics: "dst = a - b", doc: "Mine."}\n',
        encoding="utf-8",
    )
    assert main(["conformance", "--target", PUPIL, "--extension", str(extension), "-l", "lint"]) == 1
    assert "vmine: opcode 0x58 is taken by vadd" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "frobnicator"], "no target 'frobnicator'; there are: functional, rtl, simpy"),
        (["--target", "tests.conformance.doubles:without_tool"], "frobsim is not installed; apt-get install frobsim"),
        (["--target", PUPIL, "-l", "chips"], "target pupil: does not run level chips; it runs lint, golden"),
        (["--target", PUPIL, "--isa", "nope"], "no isa named 'nope'"),
        (["--target", PUPIL, "--isa", "nope.yaml"], "nope.yaml: no such file"),
        (["--target", PUPIL, "--extension", "nope"], "no extension named 'nope'"),
        ([], "Missing option '--target'"),
    ],
)
def test_wrong_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_an_extension_is_named_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "--target", PUPIL, "--extension", "fma", "-l", "lint"]) == 0
    assert "pupil on npu 1.0 with fma 1.0" in capsys.readouterr().out
