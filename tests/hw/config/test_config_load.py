from __future__ import annotations

import copy
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from npuvm.hw.config import NpuConfig, Provenance, chip_json_schema, chip_reader, load_chip, parse_chip
from npuvm.hw.errors import ConfigError
from npuvm.isa import load_isa
from npuvm.isa.errors import NpuvmError

EDGE = Path(__file__).resolve().parents[3] / "configs/npu/edge.yaml"


def plain(node: Any) -> Any:
    """The data of a chip file with each {value, source, trust} replaced by its value, made here without npuvm."""
    if isinstance(node, dict):
        return node["value"] if "value" in node else {key: plain(child) for key, child in node.items()}
    return node


FILE: dict[str, Any] = plain(yaml.safe_load(EDGE.read_text()))


def edge() -> dict[str, Any]:
    """The data of the edge chip's file, to be changed."""
    return copy.deepcopy(FILE)


def leaf_paths(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(node, dict):
        return [leaf for key, child in node.items() for leaf in leaf_paths(child, (*path, key))]
    return [path]


def put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    *sections, last = path
    node = data
    for key in sections:
        node = node[key]
    node[last] = value
    return data


def get(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def parse(data: Any) -> NpuConfig:
    """A chip from data, by way of text with one field a line."""
    return parse_chip(json.dumps(data, indent=1), "my.yaml")


def problems_of(data: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(data)
    return caught.value.problems


NUMERIC = [path for path in leaf_paths(edge()) if isinstance(get(edge(), path), (int, float))]
SCHEMA = jsonschema.Draft202012Validator(chip_json_schema())


def test_plain_and_annotated_numbers_give_the_same_chip() -> None:
    annotated, bare = load_chip("edge"), parse(edge())
    assert annotated.model_dump() == bare.model_dump()
    assert annotated.chip_hash == bare.chip_hash
    assert annotated.provenance
    assert not bare.provenance


def test_every_number_of_the_file_reaches_the_model() -> None:
    data, chip = edge(), load_chip("edge").model_dump()
    for path in NUMERIC:
        assert Fraction(get(chip, path)) == Fraction(str(get(data, path)))


@pytest.mark.parametrize("bad", [-1, "many", None, True, 10**12, [], {"value": 1}, {}])
def test_every_number_refuses_what_is_not_one(bad: object) -> None:
    """All numbers of a chip made wrong at once: each gets its own line, and the JSON Schema finds the same ones."""
    data = edge()
    for path in NUMERIC:
        put(data, path, bad)
    problems = problems_of(data)
    assert len(problems) == len(NUMERIC)
    lines = json.dumps(data, indent=1).splitlines()
    for path, problem in zip(NUMERIC, problems, strict=True):
        place, text = problem.split(": ", 1)
        file, line, _column = place.split(":")
        assert file == "my.yaml"
        assert lines[int(line) - 1].strip().startswith(f'"{path[-1]}":')
        assert text.startswith(".".join(path))
        assert "allowed is" in text
    assert {tuple(error.absolute_path) for error in SCHEMA.iter_errors(data)} == set(NUMERIC)


_MAY_BE_LEFT_OUT = (("description",), ("isa", "extensions"), ("host", "link"))


@pytest.mark.parametrize("path", [p for p in leaf_paths(edge()) if p not in _MAY_BE_LEFT_OUT])
def test_every_needed_field_is_asked_for(path: tuple[str, ...]) -> None:
    data = edge()
    del get(data, path[:-1])[path[-1]]
    if path[-1] == "row_cycles" and path[1] in ("vector", "move"):
        assert Fraction(get(parse(data).model_dump(), path)) == 0
    elif path[-2:-1] == ("cycles_per_block",):
        assert path[-1] not in parse(data).core.cube.cycles_per_block
    else:
        (problem,) = problems_of(data)
        assert f"{'.'.join(path)}: missing; needed is " in problem


@pytest.mark.parametrize(
    "section", [(), ("core",), ("core", "cube"), ("core", "vector", "classes", "valu"), ("memory", "l2"), ("isa",)]
)
def test_unknown_fields_are_refused(section: tuple[str, ...]) -> None:
    data = put(edge(), (*section, "extra"), 1)
    (problem,) = problems_of(data)
    assert f"{'.'.join((*section, 'extra'))}: no such field" in problem
    assert "allowed here: " in problem
    assert not SCHEMA.is_valid(data)


def test_a_misspelt_field_names_the_right_one() -> None:
    data = edge()
    data["core"]["ub_kb"] = data["core"].pop("ub_kib")
    missing, unknown = sorted(problems_of(data), key=lambda line: "no such" in line)
    assert "core.ub_kib: missing; needed is a whole number of KiB, at least 1, at most 1048576" in missing
    assert "core.ub_kb: no such field; did you mean ub_kib" in unknown


def test_all_faults_are_reported_one_a_line() -> None:
    data = edge()
    data["clock_ghz"] = 0
    data["core"]["kind"] = "both"
    data["memory"]["l2"]["line_bytes"] = 33
    lines = problems_of(data)
    assert len(lines) == 3
    assert lines[0] == (
        'my.yaml:8:2: clock_ghz = 0: allowed is a number of GHz (or "a/b"), more than 0, at most 100'
    )  # fmt: skip
    assert "core.kind = 'both': allowed is one of unified, split" in lines[1]
    assert "memory.l2.line_bytes = 33: allowed is a whole number of bytes, at least 32" in lines[2]
    assert "a multiple of 32" in lines[2]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"core.vector_per_group": 2}, "core.vector_per_group = 2: must be 1 on a unified chip"),
        ({"core.l0a_kib": 1, "core.cube.m": 64}, "core.l0a_kib = 1: must hold one cube block of 2048 bytes"),
        ({"core.l0b_kib": 1, "core.cube.n": 64}, "core.l0b_kib = 1: must hold one cube block of 2048 bytes"),
        ({"core.l0c_kib": 1, "core.cube.n": 64}, "core.l0c_kib = 1: must hold one cube block of 2048 bytes"),
        ({"core.ub_kib": 1, "core.vector.repeat_bytes": 2048}, "core.vector.repeat_bytes = 2048: must fit UB"),
        ({"core.load.min_burst_bytes": 256}, "core.load.min_burst_bytes = 256: must be at most chunk_bytes, which is 128"),
        ({"core.store.min_burst_bytes": 256}, "core.store.min_burst_bytes = 256: must be at most chunk_bytes"),
        ({"core.fixpipe.gm_bytes_per_cycle": 0, "core.fixpipe.ub_bytes_per_cycle": 0}, "could never leave the cube"),
        ({"core.kind": "split"}, "core.fixpipe.ub_bytes_per_cycle = 64: must be 0 on a split chip"),
        ({"memory.hbm.interleave_bytes": 64}, "memory.hbm.interleave_bytes = 64: must be a multiple of memory.l2.line"),
        ({"memory.l2.access_bytes": 256}, "memory.l2.access_bytes = 256: must be at most line_bytes, which is 128"),
        ({"memory.l2.sector_bytes": 96}, "memory.l2.sector_bytes = 96: must be 0 or divide line_bytes, which is 128"),
        ({"memory.hbm.row_bytes": 1536}, "memory.hbm.row_bytes = 1536: must be 0 or a multiple of interleave_bytes"),
        ({"memory.hbm.row_miss_cycles": 9}, "memory.hbm.row_miss_cycles = 9: must be 0 without rows"),
        ({"memory.l2.slices": 3}, "memory.l2.slices = 3: times line_bytes (128) must divide the capacity of 2 MiB"),
    ],
)  # fmt: skip
def test_fields_that_do_not_fit_together(change: dict[str, Any], part: str) -> None:
    data = edge()
    for path, value in change.items():
        put(data, tuple(path.split(".")), value)
    (problem,) = problems_of(data)
    assert part in problem
    with pytest.raises(ConfigError) as caught:
        load_chip("edge", [f"{path}={value}" for path, value in change.items()])
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[1, 2]", "a chip is a mapping of fields"),
        ("name: edge\nname: edge\n", "x.yaml:2:1: duplicate key 'name'"),
        ("name: &a edge\n", "anchor &a is not allowed"),
        ("clock_ghz: 010\n", "x.yaml:1:12: 010 looks octal"),
        ("1: 2\n", "x.yaml:1:1: 1"),
        ("name: Big Chip\n", "name = 'Big Chip': allowed is a name of a-z, 0-9 and _"),
        (
            "isa: {base: npu_v1, extensions: [fma, 3]}\n",
            "isa.extensions.1 = 3: allowed is a list of names or .yaml files",
        ),
        ("isa: {base: npu_v1, extensions: fma}\n", "isa.extensions = 'fma': allowed is a list of names or .yaml files"),
        ("core: 5\n", "core = 5: allowed is a section with kind, count"),
        ("core: {vector: {classes: {}}}\n", "core.vector.classes = {}: allowed is a mapping with at least one entry"),
        ("core: {vector: {classes: {V-Add: {}}}}\n", "core.vector.classes.V-Add: bad name"),
        ("core: {cube: {cycles_per_block: {fp16: 0}}}\n", "core.cube.cycles_per_block.fp16 = 0: allowed is a whole"),
        ("core: {vector: {classes: {v: {row_cycles: 1/0}}}}\n", "classes.v.row_cycles = '1/0': allowed is a number"),
        ("clock_ghz: .inf\n", "clock_ghz = inf: allowed is a number of GHz"),
        ("clock_ghz: .nan\n", "clock_ghz = nan: allowed is a number of GHz"),
        ("clock_ghz: {value: 1, source: '', trust: high}\n", "clock_ghz.source = ''; allowed is a text"),
        ("clock_ghz: {value: 1, source: x, trust: sure}\n", "clock_ghz.trust = 'sure'; allowed is one of high, medium"),
        ("clock_ghz: {value: 1, trust: high}\n", "has the keys value, trust; allowed is a number or {value, source"),
        ("name: {value: edge, source: x, trust: high}\n", "name = {'value'"),
    ],
)
def test_broken_files(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_chip(text, "x.yaml")
    assert part in str(caught.value)
    assert all(line.startswith("x.yaml:") for line in caught.value.problems)
    assert isinstance(caught.value, NpuvmError)
    assert caught.value.exit_code == 2


def test_overrides_replace_values_in_order() -> None:
    chip = load_chip(
        "ascend_910b1",
        ["core.ub_kib=0x100", "core.ub_kib=512", "memory.hbm.bandwidth_gbps=745.5", "isa.extensions=[fma, gelu]",
         "core.vector.classes.vexp.cycles_per_repeat=1/3", "name=mine"],
    )  # fmt: skip
    assert chip.core.ub_kib == 512
    assert float(chip.memory.hbm.bandwidth_gbps) == 745.5
    assert chip.isa.extensions == ("fma", "gelu")
    assert chip.core.vector.classes["vexp"].cycles_per_repeat * 3 == 1
    assert chip.name == "mine"
    assert chip.provenance["core.ub_kib"] == Provenance("override core.ub_kib=512", "assumed")
    assert chip.provenance["core.l1_kib"].trust == "high"
    assert chip.chip_hash != load_chip("ascend_910b1").chip_hash


def test_an_override_may_give_a_field_that_the_file_leaves_out() -> None:
    data = edge()
    del data["core"]["move"]["row_cycles"]
    assert parse_chip(json.dumps(data), overrides=["core.move.row_cycles=3"]).core.move.row_cycles == 3


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("isa.extensions=[[1]]", "isa.extensions.0 = [1]: allowed is a list of names or .yaml files"),
        ("core.ub_kb=3", "core.ub_kb: no such field; did you mean core.ub_kib"),
        ("ub_kib=3", "ub_kib: no such field; did you mean core.ub_kib?"),
        ("core.vector.classes.vexq.startup_cycles=3", "did you mean core.vector.classes.vexp.startup_cycles"),
        ("zzz=3", "zzz: no such field"),
        ("core.sync=3", "it is a section, set a field of it: set_to_visible_cycles, group_cycles, launch_cycles"),
        ("core.ub_kib", "allowed is field.path=value"),
        ("=3", "allowed is field.path=value"),
        ("core.ub_kib=", "core.ub_kib"),
        ("core.ub_kib=lots", "core.ub_kib = 'lots': allowed is a whole number of KiB"),
        ("core.ub_kib=1.5", "core.ub_kib = 1.5: allowed is a whole number of KiB"),
        ("core.ub_kib=1, 2", "allowed is one value"),
        ("core.ub_kib=010", "looks octal"),
        ("core.ub_kib=[", "not valid YAML"),
        ("core.count=0", "core.count = 0: allowed is a whole number, at least 1"),
    ],
)
def test_broken_overrides(override: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_chip("edge", [override])
    (problem,) = caught.value.problems
    assert problem.startswith(f"override {override!r}: ")
    assert part in problem


def test_extension_files_are_found_from_the_chip_files_folder(tmp_path: Path) -> None:
    stanza = "{name: vaxpy, opcode: 0xc8, format: vbin, dtypes: [fp32], semantics: 'dst = a * 2 + b', doc: 2a + b.}"
    text = f"extension: axpy\nversion: '1.0'\nextends: npu 1.0\ninstructions:\n  - {stanza}\n"
    (tmp_path / "axpy.yaml").write_text(text, encoding="utf-8")
    data = edge()
    data["isa"]["extensions"] = ["fma", "axpy.yaml"]
    (tmp_path / "mine.yaml").write_text(json.dumps(data), encoding="utf-8")
    chip = load_chip(tmp_path / "mine.yaml")
    assert chip.isa.extensions == ("fma", str(tmp_path / "axpy.yaml"))
    assert load_isa(chip.isa.base, chip.isa.extensions).instruction("vaxpy").opcode == 0xC8
    overridden = load_chip(tmp_path / "mine.yaml", [f"isa.extensions=[{tmp_path / 'other.yaml'}]"])
    with pytest.raises(NpuvmError, match=r"other\.yaml: no such file"):
        load_isa(overridden.isa.base, overridden.isa.extensions)


def test_names_and_paths(tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text(EDGE.read_text())
    assert load_chip(copy) == load_chip(str(copy)) == load_chip("edge")
    with pytest.raises(ConfigError, match=r"no chip named 'edgy'; shipped are: .*ascend_910a, ascend_910b1, .*edge"):
        load_chip("edgy")
    with pytest.raises(ConfigError, match="no such file"):
        load_chip(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load_chip("some/edge")


def test_a_chip_is_read_only() -> None:
    chip = load_chip("edge")
    with pytest.raises(ValueError, match="frozen"):
        chip.core.ub_kib = 3
    assert isinstance(hash(chip), int)
    assert isinstance(chip, NpuConfig)


BASED = """\
base: edge
name: wide
clock_ghz: {value: 1.2, source: "assumed: a faster process", trust: assumed, error_pct: 7.5}
core:
  ub_kib: 256
  vector:
    classes:
      valu: {startup_cycles: 3}
memory: {address_hash: true}
"""


def test_a_chip_may_build_on_another() -> None:
    """It is the base with the changed fields, and nothing of the base's origin is left where it gives a value."""
    base, chip = load_chip("edge"), parse_chip(BASED)
    expected = edge()
    expected["name"], expected["clock_ghz"], expected["core"]["ub_kib"] = "wide", 1.2, 256
    expected["core"]["vector"]["classes"]["valu"]["startup_cycles"] = 3
    expected["memory"]["address_hash"] = True
    assert chip.model_dump() == parse(expected).model_dump()
    own = {"clock_ghz", "core.ub_kib", "core.vector.classes.valu.startup_cycles"}
    assert set(base.provenance) - set(chip.provenance) == own - {"clock_ghz"}
    assert chip.provenance["clock_ghz"] == Provenance("assumed: a faster process", "assumed", 7.5)
    assert all(chip.provenance[path] == base.provenance[path] for path in set(chip.provenance) - own)
    assert SCHEMA.is_valid(yaml.safe_load(BASED))
    assert not SCHEMA.is_valid(yaml.safe_load(BASED.replace("base: edge\n", "")))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("core:\n  ub_kib: 0", "my.yaml:4:3: core.ub_kib = 0: allowed is a whole number"),
        ("core:\n  ub_kb: 1", "my.yaml:4:3: core.ub_kb: no such field"),
        ("core: 5", "my.yaml:3:1: core = 5: allowed is a section with kind"),
        ("clock_ghz: {value: 1, source: '', trust: high}", "my.yaml:3:23: clock_ghz.source = ''"),
        # UB of the base is too small for these repeats: both files have a part in it, the field at fault is this one's.
        (
            "core: {vector: {repeat_bytes: 65536}, ub_kib: 1}",
            "my.yaml:3:17: core.vector.repeat_bytes = 65536: must fit",
        ),
    ],
)
def test_faults_of_a_chip_with_a_base_are_placed_in_the_file_that_has_them(change: str, part: str) -> None:
    text = f"base: edge\nname: mine\n{change}\n"
    with pytest.raises(ConfigError) as caught:
        parse_chip(text, "my.yaml")
    assert part in str(caught.value)
    assert not SCHEMA.is_valid(yaml.safe_load(text)) or "must fit" in part


def test_a_fault_in_a_base_is_placed_there(tmp_path: Path) -> None:
    data = edge()
    data["core"]["ub_kib"] = 0
    (tmp_path / "low.yaml").write_text(json.dumps(data, indent=1), encoding="utf-8")
    (tmp_path / "top.yaml").write_text("base: low.yaml\nname: top\nclock_ghz: 0\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_chip(tmp_path / "top.yaml")
    low, top = sorted(caught.value.problems)
    assert low.startswith(f"{tmp_path / 'low.yaml'}:")
    assert "core.ub_kib = 0" in low
    assert top.startswith(f"{tmp_path / 'top.yaml'}:3:1: clock_ghz = 0")


def test_bases_build_on_bases_and_keep_their_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/low.yaml").write_text(
        "base: edge\nname: low\nisa: {extensions: [mine.yaml]}\ncore: {ub_kib: 64, l1_kib: 64}\n", encoding="utf-8"
    )
    (tmp_path / "top.yaml").write_text("base: sub/low.yaml\nname: top\ncore: {ub_kib: 32}\n", encoding="utf-8")
    chip = load_chip(tmp_path / "top.yaml", ["core.l0a_kib=48"])
    assert (chip.core.ub_kib, chip.core.l1_kib, chip.core.l0a_kib) == (32, 64, 48)
    assert chip.core.l0b_kib == load_chip("edge").core.l0b_kib
    assert chip.isa.extensions == (str(tmp_path / "sub/mine.yaml"),)


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"a": "base: a.yaml\nname: a\n"}, "a.yaml:1:1: base = 'a.yaml': a chip cannot build on itself"),
        ({"a": "base: b.yaml\nname: a\n", "b": "name: b\nbase: ./a.yaml\n"}, "b.yaml:2:1: base = './a.yaml': a chip cannot"),
        ({"a": "base: c.yaml\nname: a\n"}, "a.yaml:1:1: base = 'c.yaml': "),
        ({"a": "base: edgy\nname: a\n"}, "no chip named 'edgy'"),
        ({"a": "base: [edge]\nname: a\n"}, "a.yaml:1:1: base = ['edge']: allowed is a shipped chip's name"),
        ({"a": "base: b.yaml\nname: a\n", "b": "[1, 2]\n"}, "its file is no mapping of fields"),
        ({"a": "base: edge\n"}, "name: missing; a chip that builds on another one has a name of its own"),
    ],
)  # fmt: skip
def test_broken_bases(tmp_path: Path, files: dict[str, str], part: str) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_chip(tmp_path / "a.yaml")
    assert part in str(caught.value)


def test_error_bars_follow_trust_unless_stated() -> None:
    """The figures of docs/reference/chip-config.md: high 3, medium 10, low 30, assumed 50."""
    data = edge()
    for name, trust in {"ub_kib": "high", "l1_kib": "medium", "l0a_kib": "low", "l0b_kib": "assumed"}.items():
        data["core"][name] = {"value": data["core"][name], "source": "x", "trust": trust}
    data["core"]["l0c_kib"] = {"value": data["core"]["l0c_kib"], "source": "x", "trust": "high", "error_pct": 0}
    assert SCHEMA.is_valid(data)
    found = {path: origin.error_pct for path, origin in parse(data).provenance.items()}
    expected = {"ub_kib": 3, "l1_kib": 10, "l0a_kib": 30, "l0b_kib": 50, "l0c_kib": 0}
    assert found == {f"core.{name}": error for name, error in expected.items()}


@pytest.mark.parametrize("bad", [-1, 1001, "5", True, None, float("nan")])
def test_an_error_bar_is_a_number_of_percent(bad: object) -> None:
    data = edge()
    data["core"]["ub_kib"] = {"value": 128, "source": "x", "trust": "high", "error_pct": bad}
    (problem,) = problems_of(json.loads(json.dumps(data).replace("NaN", '".nan"')))
    assert "core.ub_kib.error_pct = " in problem
    assert "at least 0, at most 1000" in problem


BANKS = {"groups": 8, "banks_per_group": 2, "block_bytes": 32, "rows_per_bank": 64, "write_delay_cycles": 1}


def test_a_section_that_may_be_left_out_is_whole_where_it_stands() -> None:
    assert load_chip("edge").core.ub_banks is None
    data = edge()
    data["core"]["ub_banks"] = dict(BANKS)
    chip = parse(data)
    assert chip.core.ub_banks is not None
    assert chip.core.ub_banks.model_dump() == BANKS
    assert SCHEMA.is_valid(data)
    assert parse_chip(json.dumps(data), overrides=["core.ub_banks=null"]).chip_hash == load_chip("edge").chip_hash
    del data["core"]["ub_banks"]["groups"]
    (problem,) = problems_of(data)
    assert "core.ub_banks.groups: missing; needed is a whole number" in problem
    assert not SCHEMA.is_valid(data)
    with pytest.raises(ConfigError, match=r"core\.load: no such field; it is a section"):
        load_chip("edge", ["core.load=null"])


def test_loads_into_l1_are_issued_like_the_others_unless_said() -> None:
    chip = load_chip("edge", ["core.load.startup_cycles=9", "core.load.row_cycles=7/3"])
    assert (chip.core.load.l1_startup_cycles, chip.core.load.l1_row_cycles) == (9, Fraction(7, 3))
    own = load_chip("edge", ["core.load.l1_startup_cycles=4", "core.load.l1_row_cycles=0.5"]).core.load
    assert (own.l1_startup_cycles, own.l1_row_cycles) == (4, Fraction(1, 2))
    assert own.startup_cycles == load_chip("edge").core.load.startup_cycles


def test_a_reader_gives_the_chips_that_loading_gives_however_often_it_is_asked() -> None:
    read = chip_reader("edge")
    for overrides in (["core.ub_kib=192"], [], ["core.count=2", "core.ub_banks=null"], ["core.ub_kib=192"]):
        chip, loaded = read(overrides), load_chip("edge", overrides)
        assert (chip, chip.chip_hash) == (loaded, loaded.chip_hash)
    with pytest.raises(ConfigError, match=r"core.ub_kib = 'much'"):
        read(["core.ub_kib=much"])
    assert read([]) == load_chip("edge")
