"""Scenario files: the shipped ones load, and everything wrong in one is said with file, line and field."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from npuvm.hw.errors import ConfigError
from npuvm.isa.resources import data_root
from npuvm.runtime.scenarios import schema

SHIPPED = sorted((data_root() / "configs").glob("*.yaml"))

GOOD = """\
name: small
title: a scenario for a test
kind: kernels
chip: edge
cases:
  - op: add
    dtypes: [fp16]
    shapes: [[1], [3, 4]]
"""


def _load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    return schema.load_scenario(path)


def test_another_buffering_is_for_all_launches(tmp_path: Path) -> None:
    pins = "pins: {cores: 1, buffering: double}"
    text = GOOD.replace("cases:", f"{pins}\ncases:").replace("op: add", f"op: add\n    {pins}")
    loaded = _load(tmp_path, text)
    assert isinstance(loaded, schema.KernelScenario)
    single = schema.with_buffering(loaded, "single")
    assert isinstance(single, schema.KernelScenario)
    for pinned in (single.pins, *(case.pins for case in single.cases)):
        assert pinned.model_dump(exclude_unset=True) == {"cores": 1, "buffering": "single"}
    assert schema.with_buffering(loaded, None) == loaded


def test_good_text_loads(tmp_path: Path) -> None:
    loaded = _load(tmp_path, GOOD)
    assert isinstance(loaded, schema.KernelScenario)
    case = loaded.cases[0]
    assert isinstance(case, schema.ElementwiseCase)
    assert case.shapes == ((1,), (3, 4))
    assert loaded.pins.cores is None


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("op: add", "op: adds", 6, r"cases\[0\]\.op: 'adds'; allowed are add, sub, .*, matmul$"),
        ("op: add", "ops: add", 6, r"cases\[0\]\.op: missing; allowed are add, .*, where$"),
        ("[fp16]", "[fp16, fp7]", 7, r"cases\[0\]\.dtypes\[1\]: must be 'fp32', .*, not 'fp7'"),
        (
            "dtypes:",
            "dtyps:",
            7,
            r"cases\[0\]\.dtyps: no such field; did you mean dtypes\?; allowed here: tolerance, pins, op, dtypes, shapes$",
        ),
        (
            "op: add",
            "op: softmax\n    pins: 3",
            7,
            r"cases\[0\]\.pins: 3; allowed is a mapping with cores, tile, l1_depth, ",
        ),
        ("op: add", "op: matmul", 8, r"cases\[0\]\.shapes\[0\]: \[1\]; allowed is a mapping with m, n, k, batch$"),
        (
            "add\n    dtypes: [fp16]\n    shapes: [[1], [3, 4]]",
            "max\n    dtypes: [fp16]\n    shapes: [[3, 4, 5]]",
            8,
            r"cases\[0\]\.shapes\[0\]: 3 entries; allowed are at most 2$",
        ),
        ("[fp16]", "[]", 7, r"cases\[0\]\.dtypes: 0 entries; allowed are at least 1$"),
        ("[fp16]", "[fp16, int32]\n    op: exp", 8, "duplicate key"),
        (
            "add\n    dtypes: [fp16]",
            "exp\n    dtypes: [int32]",
            6,
            r"cases\[0\]: exp takes no int32; allowed are fp32, fp16, bf16",
        ),
        ("[3, 4]", "[3, -4]", 8, r"cases\[0\]\.shapes\[1\]\[1\]: .*greater than or equal to 0, not -4"),
        (
            "[3, 4]",
            "[1, 2, 3, 4, 5]",
            8,
            r"cases\[0\]\.shapes: shape \[1, 2, 3, 4, 5\] has 5 dimensions, allowed are 1 to 4",
        ),
        ("chip: edge", "chip: edgy", 4, r"chip: no chip named 'edgy'; shipped are: .*edge"),
        ("chip: edge", "chip: npu/edgy.yaml", 4, r"chip: no such file: .*npu/edgy.yaml"),
        ("title:", "titel:", 2, r"titel: no such field; did you mean title\?; allowed here: name, title, "),
        ("kind: kernels\n", "", 1, r"kind: missing; allowed are kernels, minilm, model$"),
        ("name: small", "name: Small", 1, r"name: .*pattern.*, not 'Small'"),
        ("chip: edge", "chip: edge\nseed: -1", 5, r"seed: .*greater than or equal to 0, not -1"),
        ("chip: edge", "chip: edge\npins: {cores: 0}", 5, r"pins\.cores: .*greater than or equal to 1, not 0"),
        ("chip: edge", "chip: edge\npins: {tile: {l2: [1, 1]}}", 5, r"pins\.tile\.l2: .*'vector', 'l1' or 'l0'"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=message) as raised:
        _load(tmp_path, GOOD.replace(old, new))
    assert raised.value.where is not None
    assert f"s.yaml:{line}:" in raised.value.where
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_missing_field_is_placed_at_its_parent(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"s\.yaml:6:.*: cases\[0\]\.shapes: missing"):
        _load(tmp_path, GOOD.replace("    shapes: [[1], [3, 4]]\n", ""))


def test_chip_file_is_found_from_the_scenarios_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\n", encoding="utf-8")
    loaded = _load(tmp_path, GOOD.replace("chip: edge", "chip: mine.yaml"))
    assert isinstance(loaded, schema.KernelScenario)
    assert loaded.chip == str(tmp_path / "mine.yaml")


def test_a_list_is_no_scenario(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a scenario is a mapping of fields"):
        _load(tmp_path, "- 1\n")


def test_missing_file() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        schema.load_scenario("nowhere.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_load_and_fit_the_schema(path: Path) -> None:
    loaded = schema.load_scenario(path)
    assert loaded.name == path.stem
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema.scenario_schema())


def test_schema_refuses_what_the_loader_refuses() -> None:
    bad = yaml.safe_load(GOOD.replace("[fp16]", "[fp7]"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema.scenario_schema())


def test_shipped_names() -> None:
    assert {path.stem for path in SHIPPED} >= {"elementwise", "gemm", "minilm", "minilm_onnx", "softmax_layernorm"}
