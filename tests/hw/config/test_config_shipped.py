from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from npuvm.hw.config import chip_json_schema, load_chip
from npuvm.isa.resources import find_resource, list_resources

CHIPS = list_resources("chip")
TRUSTS = {"high", "medium", "low", "assumed"}


@cache
def data_of(name: str) -> Any:
    """A chip's file laid over the one it builds on; merged here without npuvm's own layers."""
    data = yaml.safe_load(Path(find_resource("chip", name)).read_text())
    base = data.pop("base", None)
    return data if base is None else merged(data_of(base), data)


def merged(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)) or "value" in above:
        return above
    return {key: merged(below.get(key), above.get(key, below.get(key))) for key in {**below, **above}}


def numbers(node: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Dotted path -> node of every number, plain or with its origin; found here without npuvm's own walk."""
    if isinstance(node, dict) and "value" not in node:
        return {name: leaf for key, child in node.items() for name, leaf in numbers(child, (*path, key)).items()}
    is_number = isinstance(node, dict) or (isinstance(node, (int, float)) and not isinstance(node, bool))
    return {".".join(path): node} if is_number else {}


def test_the_chips() -> None:
    assert set(CHIPS) == {"ascend_910a", "ascend_910b1", "ascend_910b2", "ascend_950pr", "ascend_a3", "edge"}


@pytest.mark.parametrize("name", CHIPS)
def test_every_number_carries_source_and_trust(name: str) -> None:
    found = numbers(data_of(name))
    chip = load_chip(name)
    assert chip.name == name
    assert set(chip.provenance) == set(found)
    for path, node in found.items():
        assert isinstance(node, dict), f"{path} stands without its origin"
        assert set(node) - {"error_pct"} == {"value", "source", "trust"}, path
        assert node["trust"] in TRUSTS, path
        assert len(node["source"].strip()) >= 3, path
        assert (chip.provenance[path].source, chip.provenance[path].trust) == (node["source"], node["trust"])


@pytest.mark.parametrize("name", CHIPS)
def test_assumed_and_derived_numbers_say_so(name: str) -> None:
    for path, node in numbers(data_of(name)).items():
        source = node["source"]
        assert (node["trust"] == "assumed") == source.startswith("assumed"), f"{path}: {source}"
        if re.search(r"GiB/s|\d \* |\bless\b|\btimes\b", source) and node["trust"] != "assumed":
            assert "derived" in source, f"{path}: {source}"


COSTLESS = {
    "core.ub_banks": None,
    "host.link": None,
    "memory.address_hash": False,
    "memory.l2.access_bytes": 1,
    "memory.l2.same_line_cycles": 0,
    "memory.l2.sector_bytes": 0,
    "memory.l2.unaligned_reads": "cached",
    "memory.hbm.burst_bytes": 1,
    "memory.hbm.row_bytes": 0,
    "memory.hbm.row_miss_cycles": 0,
    "memory.hbm.banks": 16,
    "memory.hbm.turnaround_cycles": 0,
    "memory.hbm.same_line_cycles": 0,
}
"""Fields with the value at which they change no cycle (without rows the number of banks changes none)."""


def get(chip: Any, path: str) -> Any:
    for name in path.split("."):
        chip = getattr(chip, name)
    return chip


def leaf_paths(node: Any, path: tuple[str, ...] = ()) -> set[str]:
    if isinstance(node, dict):
        return {leaf for key, child in node.items() for leaf in leaf_paths(child, (*path, key))}
    return {".".join(path)}


def switches(node: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Dotted path -> value of what is no number: it has no origin."""
    if isinstance(node, dict):
        return {name: leaf for key, child in node.items() for name, leaf in switches(child, (*path, key)).items()}
    return {".".join(path): node} if isinstance(node, bool | str) else {}


@pytest.mark.parametrize("name", CHIPS)
def test_no_number_is_left_to_a_default(name: str) -> None:
    """A default has no origin. Only these may stay unsaid: what costs nothing unless it is given, loads into L1 as those into
    UB, and one vector unit in a unified core."""
    chip = load_chip(name)
    fields = leaf_paths(chip.model_dump(exclude={"name", "description", "isa"})) - {"core.kind"}
    silent = {path for path in fields - set(chip.provenance) if not path.endswith(".row_cycles")}
    silent -= {"core.load.l1_startup_cycles", "core.load.l1_row_cycles"}
    silent -= {path for path, value in switches(data_of(name)).items() if value is not None}
    costless = {path: value for path, value in COSTLESS.items() if path in silent}
    assert {path: get(chip, path) for path in costless} == costless
    assert silent - set(costless) == ({"core.vector_per_group"} if chip.core.kind == "unified" else set())


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = chip_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", CHIPS)
def test_shipped_files_satisfy_the_json_schema(name: str, validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(data_of(name))


@pytest.mark.parametrize("name", CHIPS)
def test_the_costs_cover_the_instruction_set(name: str) -> None:
    chip = load_chip(name)
    names = timing_classes(chip.isa.base)
    assert names
    assert names <= set(chip.core.vector.classes)


@cache
def timing_classes(isa: str) -> set[str]:
    """Timing classes of the vector unit that the instructions of a set name."""
    data = yaml.safe_load(Path(find_resource("isa", isa)).read_text())
    return {entry["timing"] for entry in data["instructions"] if entry.get("timing", "").startswith("v")}


def test_the_published_910b_figures() -> None:
    """Peak rates that the maker states follow from the fields: 363.7 TF of fp16 matmul, 11.37 TF of fp16 add."""
    chip = load_chip("ascend_910b1")
    cube = chip.core.cube
    per_cycle = cube.m * cube.n * (cube.k_bytes // 2) * 2 / cube.cycles_per_block["fp16"]
    assert chip.core.count * per_cycle * float(chip.clock_ghz) / 1e3 == pytest.approx(363.7, abs=0.05)
    adds = chip.core_types().count("vector") * chip.core.vector.repeat_bytes / 2
    assert adds * float(chip.clock_ghz) / 1e3 == pytest.approx(11.37, abs=0.005)


@pytest.mark.parametrize(
    ("field", "gib_per_second"),
    [
        ("fixpipe.l1_bytes_per_cycle", 128),
        ("move.l0a_bytes_per_cycle", 441),
        ("move.l0b_bytes_per_cycle", 220.5),
        ("move.l0c_bytes_per_cycle", 32),
    ],
)
def test_the_910b_rates_follow_from_the_quoted_gib_per_second(field: str, gib_per_second: float) -> None:
    chip = load_chip("ascend_910b1")
    section, name = field.split(".")
    assert getattr(getattr(chip.core, section), name) == round(gib_per_second * 2**30 / 1.85e9)


@pytest.mark.parametrize(
    ("timing_class", "rows", "cols", "cycles"),
    [
        ("valu", 64, 64, 88.4),  # asc-devkit bank_conflict_ub, conflict-free, 64 repeats
        ("valu", 32, 64, 57),  # PTO board count of TADDS
        ("vexp", 64, 64, 159),  # PTO board count of TEXP
        ("vsqrt", 64, 64, 160),  # PTO board count of TSQRT
        ("vbrc", 64, 64, 0.219 * 4096 + 37),  # PTO fit of ROWEXPAND
        ("vredl", 64, 64, 0.109 * 4096 + 44),  # PTO fit of ROWSUM
        ("vredf", 64, 64, 0.305 * 4096 + 15),  # PTO fit of COLSUM
    ],
)
def test_the_910b_vector_costs_meet_the_published_counts(
    timing_class: str, rows: int, cols: int, cycles: float
) -> None:
    """fp32 tiles of one repeat a row; start to visible result, within 1.5 percent of what was published."""
    cost = load_chip("ascend_910b1").core.vector.classes[timing_class]
    repeats = rows * cols * 4 // 256
    total = cost.startup_cycles + repeats * cost.cycles_per_repeat + rows * cost.row_cycles + cost.latency_cycles
    assert float(total) == pytest.approx(cycles, rel=0.015)


def test_the_proportions_of_the_edge_chip() -> None:
    """The comment at the head of edge.yaml."""
    small, large = (load_chip(name).core for name in ("edge", "ascend_910b1"))
    assert large.cube.m * large.cube.n * large.cube.k_bytes == 4 * small.cube.m * small.cube.n * small.cube.k_bytes
    assert large.vector.repeat_bytes == 2 * small.vector.repeat_bytes
