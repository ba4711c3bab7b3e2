"""All artifacts together: the committed ones are current, each holds the hash, and a stale or missing one is told."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.isa.generate.sets import BASE, ROOT, SETS, TINY
from tests.isa.off import isa_without

from npuvm.isa import IsaError, load_isa
from npuvm.isa.generate import (
    OpcodeState,
    artifacts,
    free_ranges,
    opcode_uses,
    opcodes_markdown,
    resolved_document,
    resolved_schema,
    stale_files,
)

FILES = {
    "hw/rtl/npu_isa_pkg.sv",
    "hw/rtl/npu_decoder.sv",
    "isa/generated/npu_v1.h",
    "isa/generated/npu_v1.resolved.json",
    "isa/generated/resolved.schema.json",
    "docs/reference/isa.md",
    "docs/reference/opcodes.md",
}


def test_committed_files_are_current() -> None:
    wanted = artifacts(BASE)
    assert {path.as_posix() for path in wanted} == FILES
    assert stale_files(ROOT, wanted) == [], "run `npuvm isa generate`"


@pytest.mark.parametrize("name", SETS)
def test_every_artifact_holds_the_hash_of_its_set(name: str) -> None:
    isa = SETS[name]
    for path, text in artifacts(isa).items():
        assert re.findall(r"\b[0-9a-f]{64}\b", text), path
        assert set(re.findall(r"\b[0-9a-f]{64}\b", text.replace("256'h", ""))) == {isa.hash}, path


def test_stale_and_missing_files_are_told_with_what_differs(tmp_path: Path) -> None:
    wanted = {Path("a.txt"): "one\ntwo\n", Path("b/c.txt"): "x\n", Path("d.txt"): "".join(f"{i}\n" for i in range(50))}
    (tmp_path / "a.txt").write_text("one\n2\n", encoding="utf-8")
    (tmp_path / "d.txt").write_text("other\n" * 50, encoding="utf-8")
    first, second, third = stale_files(tmp_path, wanted)
    assert (first.path, second.path, third.path) == tuple(wanted)
    assert "-2" in first.difference.splitlines()
    assert "+two" in first.difference.splitlines()
    assert second.difference == "does not exist"
    assert re.search(r"\n\.\.\. \d+ more lines$", third.difference)
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n")
    assert stale_files(tmp_path, {Path("a.txt"): wanted[Path("a.txt")]}) == []
    (tmp_path / "a.txt").write_bytes(b"one\ntwo")
    (told,) = stale_files(tmp_path, {Path("a.txt"): wanted[Path("a.txt")]})
    assert told.difference == "differs in its line ends only"


def test_no_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsaError, match="no files to check"):
        stale_files(tmp_path, {})


@pytest.mark.parametrize("name", SETS)
def test_resolved_file_satisfies_its_schema_and_hashes_to_the_set(name: str) -> None:
    isa = SETS[name]
    document = json.loads(resolved_document(isa))
    jsonschema.Draft202012Validator.check_schema(resolved_schema())
    jsonschema.Draft202012Validator(resolved_schema()).validate(document)
    canonical = json.dumps(document["resolved"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == document["hash"] == isa.hash
    committed = json.loads((ROOT / "isa/generated/resolved.schema.json").read_text(encoding="utf-8"))
    committed.pop("$comment")
    assert committed == resolved_schema()


def every_object(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of all objects of a JSON value whose keys are fixed: those that the schema must not let grow."""
    found = []
    if isinstance(value, dict):
        found.append(path)
        for key, item in value.items():
            found += every_object(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += every_object(item, (*path, index))
    return found


def test_schema_refuses_unknown_and_missing_keys_and_wrong_values() -> None:
    validator = jsonschema.Draft202012Validator(resolved_schema())
    text = resolved_document(TINY)

    def changed(*path: str | int, value: Any = None) -> Any:
        document = json.loads(text)
        node = document
        for step in path[:-1]:
            node = node[step]
        if value is None:
            del node[path[-1]]
        else:
            node[path[-1]] = value
        return document

    assert validator.is_valid(json.loads(text))
    open_to_names = {
        "dtypes",
        "spaces",
        "units",
        "predicates",
        "operand_kinds",
        "features",
        "primitive_timing",
        "traps",
    }
    for path in every_object(json.loads(text)):
        if path[-1:] and path[-1] not in {*open_to_names, "values"}:
            assert not validator.is_valid(changed(*path, "surprise", value=1)), path
    for path, wrong in (
        (("hash",), "abc"),
        (("format_version",), 2),
        (("resolved", "instructions", 0, "opcode"), 256),
        (("resolved", "instructions", 1, "operands", 0, "bits"), [0, 1]),
        (("resolved", "instructions", 1, "operands", 0, "bits"), [0, 1, 65]),
        (("resolved", "instructions", 1, "operands", 0, "role"), "own"),
        (("resolved", "head", "opcode"), None),
        (("resolved", "instructions", 0, "doc"), None),
        (("resolved", "limits", "loops"), 0),
    ):
        assert not validator.is_valid(changed(*path, value=wrong)), path


def test_opcode_map_counts_every_opcode_once() -> None:
    isa = load_isa(extensions=["fma"])
    uses = opcode_uses(isa)
    assert [use.opcode for use in uses] == list(range(256))
    assert {use.name: use.opcode for use in uses if use.name} == {i.name: i.opcode for i in isa.instructions.values()}
    states = {use.opcode: use.state for use in uses}
    assert states[0] is OpcodeState.NEVER
    assert states[0x58] is OpcodeState.TAKEN
    assert states[0xC0] is OpcodeState.TAKEN
    assert states[0xFF] is OpcodeState.CUSTOM
    assert states[0x1A] is OpcodeState.FREE
    assert {use.opcode: use.state for use in opcode_uses(isa_without("indexed"))}[0xA0] is OpcodeState.OFF
    spans = [span for state in OpcodeState for span in free_ranges(uses, state)]
    assert sorted(code for low, high in spans for code in range(low, high + 1)) == list(range(256))


def test_opcode_page_has_each_instruction_in_its_cell() -> None:
    rows = re.findall(r"^\| \*\*(\w)_\*\* \|(.*)\|$", opcodes_markdown(BASE), re.MULTILINE)
    cells = {f"{row}{column:x}": cell.strip() for row, text in rows for column, cell in enumerate(text.split("|"))}
    assert len(cells) == 256
    for instruction in BASE.instructions.values():
        assert cells[f"{instruction.opcode:02x}"].strip("*") == instruction.name
    assert (cells["00"], cells["c0"], cells["1f"], cells["a0"]) == ("never", "+", "", "ldx")
    assert "| *ldx* |" in opcodes_markdown(isa_without("indexed"))
