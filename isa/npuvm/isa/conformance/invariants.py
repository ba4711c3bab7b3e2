"""Invariants of an instruction set that stand in a file of their own, written apart from its description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from npuvm.isa.conformance.cases import Check
from npuvm.isa.model import Isa
from npuvm.isa.yaml_strict import load_yaml

__all__ = ["invariant_cases", "invariants_of"]


def invariants_of(isa: Isa, folder: Path) -> Mapping[str, Any] | None:
    """The content of `invariants.yaml` when it speaks of this instruction set and version; None when it does not."""
    data: dict[str, Any] = load_yaml(folder / "invariants.yaml").data
    return data if (data["isa"], data["version"]) == (isa.name, isa.version) else None


def invariant_cases(isa: Isa, rules: Mapping[str, Any]) -> Iterator[Check]:
    """One case for each line of the file that says something by itself."""
    resolved = isa.resolved
    instructions = {raw["name"]: raw for raw in resolved["instructions"]}
    sizes = {**resolved["limits"], **{key: resolved[key] for key in ("word_bits", "max_operand_words")}}
    yield from _equal("limits", rules["limits"], sizes)
    yield from _equal("head", rules["head"], {name: _text(bits) for name, bits in resolved["head"].items()})
    yield from _equal("predicates", rules["predicates"], resolved["predicates"])
    for section in ("units", "dtypes", "spaces"):
        yield from _equal(section, rules[section], {name: e["code"] for name, e in resolved[section].items()})
    yield from _equal("dtype_bits", rules["dtype_bits"], {name: e["bits"] for name, e in resolved["dtypes"].items()})
    alignments = {name: entry["align_bytes"] for name, entry in resolved["spaces"].items()}
    yield from _equal("align_bytes", rules["align_bytes"], alignments)
    yield from _equal("semaphore_scopes", rules["semaphore_scopes"], resolved["semaphore_scopes"])
    yield from _opcodes(rules, instructions, resolved["custom_opcodes"])
    yield from _abilities(rules, instructions)
    yield from _fields(rules, instructions)
    yield from _memories(rules, instructions)


def _equal(section: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Check]:
    """Each name has the value that the file gives; a name that the file does not know is a case that fails."""
    for name in sorted(wanted.keys() | found.keys()):
        yield _case(f"{section}/{name}", wanted.get(name, "not in invariants.yaml"), found.get(name, "missing"))


def _opcodes(rules: Mapping[str, Any], instructions: Mapping[str, Any], custom: list[int]) -> Iterator[Check]:
    first, last = rules["custom_opcodes"]
    base = {name: raw["opcode"] for name, raw in instructions.items() if not first <= raw["opcode"] <= last}
    yield from _equal("opcodes", rules["opcodes"], base)
    yield _case("custom_opcodes/range", rules["custom_opcodes"], custom)
    taken = {raw["opcode"] for raw in instructions.values()}
    for opcode in rules["unallocated"]:
        yield _case(f"unallocated/{opcode:#04x}", "free", "taken" if opcode in taken else "free")


def _abilities(rules: Mapping[str, Any], instructions: Mapping[str, Any]) -> Iterator[Check]:
    """Feature, traps in order and types of every instruction of the base set."""
    first, last = rules["custom_opcodes"]
    features = {name: feature for feature, names in rules["features"].items() for name in names}
    for name, raw in instructions.items():
        if first <= raw["opcode"] <= last:
            continue
        yield _case(f"{name}.feature/name", features.get(name, "base"), raw["feature"])
        yield _case(f"{name}.traps/order", _listed(rules["traps"], "traps", raw), raw["traps"])
        types = ["->".join(each for each in pair if each) for pair in raw["dtypes"]]
        yield _case(f"{name}.types/allowed", sorted(_listed(rules["types"], "types", raw)), sorted(types))


def _listed(lines: list[Mapping[str, Any]], what: str, raw: Mapping[str, Any]) -> list[str]:
    """What the line says that names an instruction, or its unit; nothing when none does."""
    return next((list(line[what]) for line in lines if raw["name"] in line["of"] or raw["unit"] in line["of"]), [])


def _fields(rules: Mapping[str, Any], instructions: Mapping[str, Any]) -> Iterator[Check]:
    for line in rules["fields"]:
        wanted = {name: bits for name, bits in line.items() if name != "of"}
        for name in (n for n, raw in instructions.items() if n in line["of"] or raw["unit"] in line["of"]):
            raw = instructions[name]
            found = {spec["name"]: _text(spec["bits"]) for spec in raw["operands"]}
            found |= {"dtype2": _text(raw["dtype2_bits"])} if raw["dtype2_bits"] else {}
            needed = wanted.keys() if name in line["of"] else wanted.keys() & found.keys()
            for operand in sorted(needed):
                yield _case(f"{name}.{operand}/bits", wanted[operand], found.get(operand, "missing"))


def _memories(rules: Mapping[str, Any], instructions: Mapping[str, Any]) -> Iterator[Check]:
    for name, raw in sorted(instructions.items()):
        regions = [spec for spec in raw["operands"] if spec["role"]]
        if not regions:
            continue
        allowed = rules["memories"][raw["unit"]]
        for direction in ("read", "write"):
            touched = {space for spec in regions if direction in spec["role"] for space in spec["spaces"]}
            atomic = {space for spec in regions if spec["role"] == "readwrite" for space in spec["spaces"]}
            beyond = touched - set(allowed[direction]) - (atomic if direction == "read" else set())
            yield _case(f"{name}.{direction}/memories", "allowed", f"also {sorted(beyond)}" if beyond else "allowed")
        both = any(spec["role"] == "readwrite" for spec in regions)
        yield _case(f"{name}.read_and_write/memories", name in rules["read_and_write"], both)


def _case(what: str, expected: object, got: object) -> Check:
    name = f"lint/invariants/{what}"
    return Check(name, str(expected), str(got), (name,))


def _text(bits: list[int]) -> str:
    word, low, width = bits
    return f"{word}:{low + width - 1}:{low}"
