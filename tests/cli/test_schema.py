from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from npuvm.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


def schema_of(kind: str, capsys: pytest.CaptureFixture[str]) -> object:
    assert main(["schema", kind]) == 0
    return json.loads(capsys.readouterr().out)


PATTERNS = {
    "chip": "configs/npu/*.yaml",
    "scenario": "configs/*.yaml",
    "technology": "configs/technology/*.yaml",
    "space": "configs/space/*.yaml",
}


@pytest.mark.parametrize(("kind", "pattern"), PATTERNS.items())
def test_shipped_files_satisfy_their_schema(kind: str, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    schema = schema_of(kind, capsys)
    files = sorted(ROOT.glob(pattern))
    assert files
    for file in files:
        data = json.loads(json.dumps(yaml.safe_load(file.read_text(encoding="utf-8"))))  # in JSON keys are text
        jsonschema.Draft202012Validator(schema).validate(data)


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_misspelt_field_is_refused(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    validator = jsonschema.Draft202012Validator(schema_of(kind, capsys))
    assert list(validator.iter_errors({"nmae": "x"}))


def test_default_is_the_chip_and_a_file_holds_the_same_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    printed = capsys.readouterr().out
    assert main(["schema", "chip", "-o", str(tmp_path / "chip.json")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "chip.json").read_text(encoding="utf-8") == printed
