"""The technology file: what it must hold, what its errors say, and that the shipped ones price all that can run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import log

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from npuvm.hw.config import load_chip
from npuvm.hw.energy import Number, estimate_area, load_technology, parse_technology, technology_json_schema
from npuvm.hw.energy.technology import KIND_OF_PRIMITIVE
from npuvm.hw.errors import ConfigError
from npuvm.isa import load_isa
from npuvm.isa.resources import data_root, list_resources
from npuvm.isa.semantics import primitives

SHIPPED = list_resources("technology")
ISA = load_isa("npu_v1", list_resources("extension"))
TEXT = (data_root() / "configs/technology/n7.yaml").read_text(encoding="utf-8")
SCHEMA = jsonschema.Draft202012Validator(technology_json_schema())


def numbers(node: object, path: str = "") -> Iterator[tuple[str, Number]]:
    """Dotted path and number of everything that a technology prices."""
    if isinstance(node, Number):
        yield path.removeprefix("."), node
    elif isinstance(node, BaseModel):
        for name in type(node).model_fields:
            yield from numbers(getattr(node, name), f"{path}.{name}")
    elif isinstance(node, Mapping):
        for key, child in node.items():
            yield from numbers(child, f"{path}.{key}")


def as_json(text: str) -> object:
    """A technology file as an editor hands it to a validator: keys are text."""
    return json.loads(json.dumps(yaml.safe_load(text)))


def test_two_technologies_are_shipped() -> None:
    assert SHIPPED == ("n45", "n7")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_technologies_price_every_vector_instruction(name: str) -> None:
    technology = load_technology(name)
    checked = 0
    for instruction in ISA.instructions.values():
        if instruction.unit != "vector" or instruction.semantics is None:
            continue
        for primitive in primitives(instruction.semantics, tuple(each.name for each in instruction.operands)):
            for dtype, _ in instruction.dtypes:
                checked += 1
                assert technology.operation(primitive, ISA.dtypes[dtype].compute).value > 0, instruction.name
    assert checked > 100


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_technologies_price_the_cube_of_every_shipped_chip(name: str) -> None:
    technology = load_technology(name)
    for chip in list_resources("chip"):
        for dtype in load_chip(chip).core.cube.cycles_per_block:
            assert technology.multiply_add(dtype).value > 0
            assert technology.multiply_add_area(dtype).value > 0


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_technologies_price_what_shipped_extensions_need_on_every_chip(name: str) -> None:
    technology = load_technology(name)
    for chip in list_resources("chip"):
        base = estimate_area(load_chip(chip), technology).total.value
        for extension in ("fma", "activation", "fp8"):
            added = load_chip(chip, [f"isa.extensions=[{extension}]"])
            assert base < estimate_area(added, technology).total.value < 1.1 * base


def test_every_primitive_has_a_kind() -> None:
    assert set(ISA.primitive_timing) <= set(KIND_OF_PRIMITIVE)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_number_says_where_it_comes_from(name: str) -> None:
    priced = dict(numbers(load_technology(name)))
    assert len(priced) > 40
    assert {"energy.operation_pj.add.fp32", "energy.sram_pj_per_byte.8", "area.memory_phy_mm2"} <= set(priced)
    for path, number in priced.items():
        assert len(number.source) >= 7, path
        assert (number.trust == "assumed") == number.source.startswith("assumed") or path.startswith("area."), path


def test_the_older_process_costs_more_for_everything_but_an_idle_millimetre() -> None:
    old, new = (dict(numbers(load_technology(name))) for name in ("n45", "n7"))
    assert set(old) == set(new)
    physical = [path for path in old if path.endswith(("um2", "mm2", "mib")) or "_pj" in path or "um2" in path]
    cheaper = [path for path in physical if old[path].value < new[path].value]
    assert cheaper == ["energy.static_w_per_mm2", "area.memory_phy_mm2"]  # a DDR3 channel is less than an HBM stack


def test_an_array_costs_by_its_capacity() -> None:
    technology = load_technology("n7")
    # 7.5, 8.5 and 14 pJ for 8 bytes at 8, 32 and 1024 KiB
    assert [technology.sram_byte(kib).value for kib in (1, 8, 32, 1024)] == pytest.approx(
        [7.5 / 8, 7.5 / 8, 8.5 / 8, 14 / 8]
    )
    middle = technology.sram_byte((32 * 1024) ** 0.5).value  # half way in the logarithm: the geometric mean
    assert middle == pytest.approx((8.5 / 8 * 14 / 8) ** 0.5)
    slope = log(14 / 8.5) / log(1024 / 32)
    assert technology.sram_byte(4096).value == pytest.approx(14 / 8 * 4**slope)


def test_an_error_bar_follows_the_trust_unless_it_is_given() -> None:
    assert Number(value=1, source="there", trust="low").error == 0.3
    assert Number(value=1, source="there", trust="low", error_pct=7).error == 0.07


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("word_pj: {value: 8.5,", "word_pj: {value: -1,", r"energy\.word_pj\.value = -1.*greater than or equal to 0"),
        ("word_pj:", "words_pj:", r"energy\.words_pj.*not permitted"),
        ("trust: high", "trust: sure", r"trust = 'sure'.*'high', 'medium', 'low' or 'assumed'"),
        ('source: "assumed: as exp"', 'source: ""', r"energy\.operation_pj\.log\.fp32\.source = ''"),
        (
            "memory_phy_gbps: {value: 307.2",
            "memory_phy_gbps: {value: 0",
            r"area\.memory_phy_gbps\.value = 0.*greater than 0",
        ),
        ("    8: {value: 0.9375", "    8: {value: 0", r"energy\.sram_pj_per_byte\.8\.value = 0.*greater than 0"),
        ("    add:\n", "    plus:\n", r"energy\.operation_pj\.plus"),
        ("word_pj: {value: 8.5, source", "word_pj: {worth: 8.5, source", r"energy\.word_pj\.value: Field required"),
        ("    8: {", "    0: {", r"energy\.sram_pj_per_byte\.0.*greater than or equal to 1"),
    ],
)
def test_faults_name_the_place_and_the_field(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError, match=rf"tech\.yaml:\d+:\d+: {message}|tech\.yaml:\d+:\d+: .*{message}"):
        parse_technology(TEXT.replace(old, new), "tech.yaml")
    assert not SCHEMA.is_valid(as_json(TEXT.replace(old, new)))


def test_a_number_is_finite() -> None:
    with pytest.raises(ConfigError, match=r"area\.core_mm2\.value = inf"):
        parse_technology(TEXT.replace("core_mm2: {value: 0.5,", "core_mm2: {value: .inf,"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_technologies_satisfy_their_schema(name: str) -> None:
    SCHEMA.validate(as_json((data_root() / f"configs/technology/{name}.yaml").read_text(encoding="utf-8")))


def test_what_is_not_priced_is_an_error() -> None:
    technology = load_technology("n7")
    with pytest.raises(ConfigError, match=r"operation_pj\.div prices no int32; it prices: fp32"):
        technology.operation("div", "int32")
    with pytest.raises(ConfigError, match="primitive 'gelu' has no kind"):
        technology.operation("gelu", "fp32")
    with pytest.raises(ConfigError, match="multiply_add_pj prices no int4"):
        technology.multiply_add("int4")
    with pytest.raises(ConfigError, match="no technology named 'n3'; shipped are: n45, n7"):
        load_technology("n3")
