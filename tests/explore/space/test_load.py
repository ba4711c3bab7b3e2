from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonschema
import pytest
import yaml

from npuvm.explore.space import Point, load, load_space, load_space_text, space_json_schema
from npuvm.hw.config import NpuConfig, chip_reader, load_chip
from npuvm.hw.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]

TEXT = f"""name: small
title: a space
chip: edge
parameters:
  core.count: [1, 2]
  core.ub_kib: {{from: 64, to: 256, factor: 2}}
  cube: {{choices: {{small: {{core.l0a_kib: 32}}, large: {{core.l0a_kib: 64, core.l0b_kib: 64}}}}}}
  isa.extensions: {{optional: [fma]}}
  compiler.fusion: [none, both]
constraints:
  - {{require: core.ub_kib >= 64, because: so}}
workloads:
  - {{name: add, scenario: {ROOT}/configs/elementwise.yaml}}
  - {{name: block, model: {ROOT}/configs/models/feed_forward.onnxtxt, sizes: {{tokens: [16, 64]}}}}
objectives:
  - {{measure: latency_us}}
budgets: {{area_mm2: 24}}
"""

ALLOWED = "allowed are numbers, texts, fields, + - * / // %, comparisons, in, and, or, not, if else, min, max, abs"
CHOICES = "choices that set fields need a name of their own: small letters, digits and _, no field's"
FORMS = "allowed is a list of values, a range {from, to, step or factor}, {choices: {..}} or {optional: [..]}"
SIZES = "allowed is a number, a list of numbers, {uniform: {least, most}} or {lognormal: {median, spread}}"
MEASURES = "allowed are latency_us, throughput_per_s, energy_uj, power_w, area_mm2, decoder_gates"
COUNT = "allowed is a whole number, at least 1, at most 4096"
FIELD = "no field of a chip"
BESIDE = "allowed beside them are compiler.fusion, compiler.buffering, isa.extensions"

WRONG = [
    ("name: small\n", "", "1:1: name: missing"),
    ("name: small", "name: Small one", "1:1: name: String should match pattern '^[a-z][a-z0-9_]*$', not 'Small one'"),
    ("title: a space", "title: a\ntitle: b", "3:1: duplicate key 'title'; it is already on line 2"),
    ("chip: edge", "chip: egde", "3:1: chip = 'egde': no chip named 'egde'; shipped are: ascend_910a"),
    ("chip: edge", "chip: own.yaml", f"3:1: chip = 'own.yaml': {ROOT}/configs/space/own.yaml: no such file"),
    ("chip: edge", "chip: edge\ntechnology: n8", "4:1: technology = 'n8': no technology named 'n8'; shipped are: n45"),
    ("core.count: [1, 2]", "core.cuont: [1]", f"5:16: core.cuont: {FIELD}; did you mean core.count"),
    ("core.count: [1, 2]", "name: [a]", f"5:10: name: {FIELD}"),
    ("core.count: [1, 2]", "core: [1]", f"5:10: core: {FIELD}"),
    ("core.count: [1, 2]", "core.count: [1, 1]", "5:3: core.count: the value 1 stands twice"),
    ("core.count: [1, 2]", "core.count: []", "5:3: parameters.core.count: 0 entries; allowed are at least 1"),
    ("core.count: [1, 2]", "core.count: [1, 0]", f"5:19: core.count = 0: {COUNT}"),
    ("core.count: [1, 2]", "core.count: [one]", f"5:16: core.count = 'one': {COUNT}"),
    ("core.count: [1, 2]", "core.count: [null]", "5:16: parameters.core.count[0]: must be a valid integer, not None"),
    ("core.count: [1, 2]", "core.count: [.nan]", "5:16: parameters.core.count[0]: must be a"),
    ("core.count: [1, 2]", "core.count: 3", f"5:3: parameters.core.count: {FORMS}, not 3"),
    ("{from: 64, to: 256, factor: 2}", "{from: 64, too: 256}", "6:27: parameters.core.ub_kib.too: no such field; did"),
    ("factor: 2", "factor: 1", "6:36: parameters.core.ub_kib.factor: must be greater than 1, not 1"),
    ("factor: 2", "factor: 2, step: 2", "6:3: parameters.core.ub_kib: step and factor exclude each other"),
    ("factor: 2", "step: 0", "6:36: parameters.core.ub_kib.step: must be greater than 0, not 0"),
    ("to: 256", "to: 32", "6:3: parameters.core.ub_kib: to: 32 is less than from: 64"),
    ("from: 64", "from: 0", "6:3: parameters.core.ub_kib: a range by a factor begins above 0, not at 0"),
    (
        "to: 256, factor: 2",
        "to: 99999999999",
        "6:3: core.ub_kib: more than 4096 values; allowed is a larger step or factor",
    ),
    ("factor: 2", "factor: 1.0000001", "6:3: core.ub_kib: more than 4096 values; allowed is a larger step or factor"),
    ("core.l0a_kib: 64", "core.l0x_kib: 64", f"7:55: core.l0x_kib: {FIELD}; did you mean core.l0c_kib"),
    ("core.l0a_kib: 64", "core.l0a_kib: -1", "7:55: core.l0a_kib = -1: allowed is a whole number of KiB, at least 1"),
    ("core.l0a_kib: 64", "core.count: 4", "7:3: cube: sets core.count, which core.count sets too"),
    ("  cube: {", "  Cube: {", f"7:3: Cube: {CHOICES}"),
    ("  cube: {", "  core.l1_kib: {", f"7:3: core.l1_kib: {CHOICES}"),
    (
        "small: {core.l0a_kib: 32}",
        "small: {compiler.fusion: none}",
        f"7:28: compiler.fusion: {FIELD}; choices set fields alone; options and extensions are parameters of their own",
    ),
    ("[fma]", "[fma, fma]", "8:36: an extension 'fma' is there already; names are used once"),
    ("[fma]", "[fmma]", "8:31: 'fmma' cannot be laid over npu_v1: no extension named 'fmma'; shipped are: activation"),
    ("[fma]", "[]", "8:20: parameters.isa.extensions.optional: 0 entries; allowed are at least 1"),
    ("{optional: [fma]}", "[fma]", "8:3: isa.extensions: allowed is {optional: [names of extensions]}"),
    ("isa.extensions:", "extensions:", "8:3: extensions: optional extensions stand under isa.extensions"),
    ("[none, both]", "[none, all]", "9:27: compiler.fusion = 'all'; allowed are none, pattern, stack, both"),
    ("compiler.fusion", "compiler.fusing", f"9:21: compiler.fusing: {FIELD}; {BESIDE}"),
    (
        "compiler.fusion: [none, both]",
        "compiler.buffering: [single, triple]",
        "9:32: compiler.buffering = 'triple'; allowed are auto, single, double",
    ),
    (
        "core.ub_kib >=",
        "core.ub_kb >=",
        "11:6: core.ub_kb: no parameter and no field of the chip; did you mean core.ub_kib",
    ),
    (
        "core.ub_kib >= 64",
        "core.cuont >= 64",
        "11:6: core.cuont:",
        "; did you mean core.count, core.cube.n, core.cube.m?",
    ),
    ("core.ub_kib >= 64", "core >= 64", "11:6: core: no parameter and no field of the chip"),
    ("core.ub_kib >= 64", "core.__class__ == 1", "11:6: core.__class__: no parameter and no field of the chip"),
    ("core.ub_kib >= 64", "core.ub_kib >=", f"11:6: 'core.ub_kib >=' is no expression (invalid syntax); {ALLOWED}"),
    ("core.ub_kib >= 64", "__import__('os')", f"11:6: \"__import__('os')\" is not allowed; {ALLOWED}"),
    ("require: core.ub_kib >= 64, ", "", "11:5: constraints[0].require: missing"),
    ("scenario:", "scenari:", "13:17: workloads[0].scenari: no such field; did you mean scenario?; allowed here: name"),
    ("elementwise.yaml", "none.yaml", f"13:17: scenario: no such file: {ROOT}/configs/none.yaml"),
    ("elementwise.yaml", "npu/edge.yaml", f"13:17: scenario: {ROOT}/configs/npu/edge.yaml:"),
    ("name: add", "name: block", "14:6: workload 'block' is there already; names are used once"),
    (
        "name: add,",
        "name: add, sizes: {x: 1},",
        "13:5: workloads[0]: sizes are for models; those of a scenario stand in",
    ),
    ("name: add,", "name: add, model: x.onnx,", "13:5: workloads[0]: give one of model, scenario"),
    ("name: add,", "name: add, weight: .inf,", "13:17: workloads[0].weight: must be a finite number, not inf"),
    ("[16, 64]", "{uniform: {least: 9, most: 3}}", "14:", "uniform: most = 3 is less than least = 9"),
    ("[16, 64]", "{lognormal: {median: 9, spread: 2, least: 10, most: 5}}", "14:", "most = 5 is less than least = 10"),
    ("[16, 64]", "1.5", "14:", f"workloads[1].sizes.tokens: {SIZES}, not 1.5"),
    ("[16, 64]", "{points: 3}", "14:", "workloads[1].sizes.tokens: give one of uniform, lognormal"),
    ("[16, 64]", "-1", "14:", "workloads[1].sizes.tokens: must be greater than or equal to 0, not -1"),
    (
        "{tokens: [16, 64]}",
        "[{at: {tokens: 1}, weight: 0}]",
        "14:",
        "sizes[0].weight: must be greater than or equal to 0.000000001, not 0",
    ),
    (
        "name: add,",
        "name: add, weight: 1.0e308,",
        "13:17: workloads[0].weight: must be less than or equal to 1000000000",
    ),
    ("latency_us", "latency_ms", f"16:6: objectives[0].measure: {MEASURES}, not 'latency_ms'"),
    (
        "measure: latency_us",
        "measure: latency_us of add",
        "16:6: objectives[0].measure: of one workload it is {measure: latency_us, workload: add}, not 'latency_us of add'",
    ),
    ("latency_us", "latency_us, workload: x", "16:27: no workload 'x'; there are add, block"),
    ("latency_us", "area_mm2, workload: add", "16:25: area_mm2 is of the chip, not of a workload"),
    ("  - {measure: latency_us}\n", 2 * "  - {measure: latency_us}\n", "17:5: latency_us is an objective already"),
    ("{area_mm2: 24}", "{area: 24}", f"17:1: budgets: no measure 'area'; {MEASURES}"),
    ("{area_mm2: 24}", "{area_mm2: 0}", "17:11: budgets.area_mm2: must be greater than 0, not 0"),
    ("budgets", "search: {sampler: x}\nbudgets", "17:10: search.sampler: must be 'grid', 'random', 'tpe' or 'nsga2'"),
    ("budgets", "search: {batch: 0}\nbudgets", "17:10: search.batch: must be greater than or equal to 1, not 0"),
    (TEXT, "- name", "1:1: a design space is a mapping of fields"),
]


@pytest.mark.parametrize(("here", "instead", "message"), [(each[0], each[1], each[2:]) for each in WRONG])
def test_what_is_wrong_is_told_with_its_line(here: str, instead: str, message: tuple[str, ...]) -> None:
    assert here in TEXT
    file = ROOT / "configs" / "space" / "small.yaml"
    with pytest.raises(ConfigError) as caught:
        load_space_text(TEXT.replace(here, instead, 1), file)
    assert str(caught.value).startswith(f"{file}:{message[0]}")
    assert all(part in str(caught.value) for part in message)


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        (
            "core.count",
            "{from: 1, to: 4200, step: 50}",
            "core.count = 4151: allowed is a whole number, at least 1, at most 4096",
        ),
        ("core.count", "{from: 0, to: 3}", "core.count = 0: allowed"),
        ("core.count", "{from: 1, to: 3, step: 0.5}", "core.count = 1.5: allowed"),
        ("core.cube.k_bytes", "{from: 32, to: 256, step: 6}", "core.cube.k_bytes = 38: allowed is .*, a multiple of 4"),
    ],
)
def test_of_evenly_spaced_values_a_few_tell_of_all(field: str, values: str, message: str) -> None:
    text = TEXT.replace("core.count: [1, 2]", f"{field}: {values}")
    with pytest.raises(ConfigError, match=message):
        load_space_text(text, ROOT / "configs" / "space" / "small.yaml")


def test_long_ranges_make_few_chips(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Sequence[str]] = []

    def counting(path: Path) -> Callable[[Sequence[str]], NpuConfig]:
        read = chip_reader(path)

        def counted(overrides: Sequence[str]) -> NpuConfig:
            made.append(overrides)
            return read(overrides)

        return counted

    monkeypatch.setattr(load, "chip_reader", counting)
    space = load_space_text(
        TEXT.replace("{from: 64, to: 256, factor: 2}", "{from: 64, to: 2063}"),
        ROOT / "configs" / "space" / "small.yaml",
    )
    assert len(space.parameters[1].values) == 2000
    assert len(made) < 20


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'none.yaml'}: no such file")):
        load_space(tmp_path / "none.yaml")


def test_points_are_all_combinations_and_make_chips() -> None:
    space = load_space_text(TEXT, ROOT / "configs" / "space" / "small.yaml")
    points = list(space.points())
    assert space.size == len(points) == len({space.key(point) for point in points}) == 2 * 3 * 2 * 2 * 2
    assert points[1] == {**points[0], "compiler.fusion": "both"}
    point: Point = {
        "core.count": 2,
        "core.ub_kib": 128,
        "cube": "large",
        "isa.extensions.fma": True,
        "compiler.fusion": "both",
    }
    overrides = ("core.count=2", "core.ub_kib=128", "core.l0a_kib=64", "core.l0b_kib=64", "isa.extensions=[fma]")
    assert space.setup(point).overrides == overrides
    assert space.setup(point).fusion == "both"
    assert space.setup(point).buffering is None
    deep = load_space_text(
        TEXT.replace("compiler.fusion: [none, both]", "compiler.buffering: [auto, single, double]"), space.path
    )
    assert [deep.setup(each).buffering for each in list(deep.points())[:3]] == ["auto", "single", "double"]
    assert space.chip(point) == load_chip("edge", overrides)
    assert space.fault(point) is None


def rule(require: str) -> str:
    return TEXT.replace("core.ub_kib >= 64", require)


@pytest.mark.parametrize(
    ("require", "holds"),
    [
        ("core.ub_kib * core.count == 256", True),
        ("cube == 'large'", True),
        ("core.l0a_kib == 64", True),
        ("core.l0b_kib == 32", False),
        ("isa.extensions.fma", True),
        ("'''fma''' in isa.extensions", True),
        ("'''fp8''' in isa.extensions", False),
        ("compiler.fusion == 'none'", False),
        ("core.l1_kib > 0", True),
    ],
)
def test_constraints_read_what_a_point_sets_and_what_the_chip_has(require: str, holds: bool) -> None:
    space = load_space_text(rule(f'"{require}"'), ROOT / "configs" / "space" / "small.yaml")
    point: Point = dict(zip((each.name for each in space.parameters), (2, 128, "large", True, "both"), strict=True))
    assert space.fault(point) == (None if holds else f"{require} (so)")


def test_chips_that_contradict_themselves_are_no_points() -> None:
    text = TEXT.replace("core.count: [1, 2]", "core.vector.repeat_bytes: [256, 65536]")
    text = text.replace("from: 64", "from: 32").replace("core.ub_kib >= 64", "core.ub_kib >= 1")
    space = load_space_text(text, ROOT / "configs" / "space" / "small.yaml")
    faults = {space.key(point)[:2]: space.fault(point) for point in space.points()}
    assert faults[256, 32] is None
    assert faults[65536, 64] is None
    assert "core.vector.repeat_bytes = 65536: must fit UB, which has 32768 bytes" in str(faults[65536, 32])


def test_the_example_of_the_reference_page_is_a_space() -> None:
    page = (ROOT / "docs" / "reference" / "explore.md").read_text(encoding="utf-8")
    text = page.split("```yaml\n")[1].split("```")[0]
    space = load_space_text(text, ROOT / "configs" / "space" / "example.yaml")
    jsonschema.Draft202012Validator(space_json_schema()).validate(yaml.safe_load(text))
    assert space.size == 3 * 4 * 4 * 2 * 4 * 3 * 2
    assert [len(workload.runs) for workload in space.workloads] == [4, 1]
