"""Level lint: what must hold of the resolved instruction set, checked without the loader's own checks.

Every check reads the plain dictionary `Isa.resolved`, and the frozen `Isa` only to compare with it.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from npuvm.isa.codec import classify
from npuvm.isa.conformance.bins import LINT_CHECKS
from npuvm.isa.conformance.cases import Check
from npuvm.isa.conformance.layout import WORD, Entry, Layout
from npuvm.isa.functions import FUNCTIONS
from npuvm.isa.model import Isa, WordClass

__all__ = ["lint_cases"]

_Raw = Mapping[str, Any]


def lint_cases(isa: Isa, layout: Layout) -> Iterator[Check]:
    """One case for each check of each instruction, and those of the whole set; what is wrong stands in `got`."""
    for raw in isa.resolved["instructions"]:
        for what in LINT_CHECKS:
            yield _check(f"lint/{raw['name']}/stanza/{what}", _CHECKS[what](raw, isa, layout))
    yield _check("lint/any/opcodes/unique", _unique_opcodes(isa))
    yield _check("lint/any/opcodes/custom-space", _custom_space(isa))
    yield _check("lint/any/opcodes/free", _free_space(isa))
    yield _check("lint/any/head/cover", _head(isa))
    yield _check("lint/any/dtypes/codes", _codes(isa, "dtypes", "dtype"))
    yield _check("lint/any/units/codes", _codes(isa, "units", None))
    yield _check("lint/any/spaces/codes", _codes(isa, "spaces", None))
    yield _check("lint/any/predicates/codes", _predicates(isa))
    yield _check("lint/any/scopes/cover", _scopes(isa))


def _check(name: str, problems: list[str]) -> Check:
    return Check(name, "nothing wrong", "; ".join(problems) or "nothing wrong", (name,))


def _cover(raw: _Raw, isa: Isa, _layout: Layout) -> list[str]:
    """Each bit of each word belongs to one field, or is one of the reserved bits that the frozen instruction names."""
    problems = []
    frozen = isa.instructions[raw["name"]].reserved
    for word in range(raw["words"] + 1):
        owners = Counter(
            bit for _, at, low, width in _fields(raw, isa) if at == word for bit in range(low, low + width)
        )
        free = sum(1 << bit for bit in range(64) if not owners[bit])
        twice = [bit for bit in range(64) if owners[bit] > 1]
        if twice:
            problems.append(f"word {word}: bits {twice} belong to more than one field")
        if max(owners, default=0) > 63:
            problems.append(f"word {word}: a field goes past bit 63")
        if word >= len(frozen) or frozen[word] != free:
            problems.append(
                f"word {word}: reserved bits are {free:#x}, the frozen instruction says {frozen[word : word + 1]}"
            )
    return problems


def _length(raw: _Raw, isa: Isa, _layout: Layout) -> list[str]:
    """The words are those that the fields need, all instructions of a format have as many, and the head can say so."""
    problems = []
    highest = max((word for _, word, _, _ in _fields(raw, isa)), default=0)
    if highest != raw["words"]:
        problems.append(f"{raw['words']} operand words; the last one with a field is {highest}")
    width = isa.resolved["head"]["length"][2]
    if raw["words"] > min(isa.resolved["max_operand_words"], (1 << width) - 1):
        problems.append(f"{raw['words']} operand words do not fit")
    same = {other["words"] for other in isa.resolved["instructions"] if other["format"] == raw["format"]}
    return problems + ([f"format {raw['format']} has lengths {sorted(same)}"] if len(same) > 1 else [])


def _names(raw: _Raw, isa: Isa, _layout: Layout) -> list[str]:
    """Operands have names of their own, which no head field has; the stanza is the one that its name and opcode find."""
    names = Counter(spec["name"] for spec in raw["operands"])
    taken = [name for name in names if names[name] > 1 or name in isa.resolved["head"] or name == "dtype2"]
    problems = [f"operand names {taken} are taken"] if taken else []
    by_name, by_opcode = isa.instructions.get(raw["name"]), isa.by_opcode.get(raw["opcode"])
    if by_name is None or by_name is not by_opcode:
        problems.append(f"opcode {raw['opcode']:#04x} finds {by_opcode.name if by_opcode else 'nothing'}")
    return problems + ([] if raw["doc"].strip() else ["no sentence says what it does"])


def _types(raw: _Raw, isa: Isa, _layout: Layout) -> list[str]:
    """It lists types if and only if its head has them; pairs are unique; an accumulator exists for each type that needs one."""
    problems = []
    if bool(raw["dtypes"]) != raw["dtyped"]:
        problems.append("it lists data types and its format has none, or the other way round")
    pairs = [tuple(pair) for pair in raw["dtypes"]]
    if len(set(pairs)) != len(pairs):
        problems.append("a data type is listed twice")
    if raw["dtype2_bits"] and 1 << raw["dtype2_bits"][2] <= max(d["code"] for d in isa.resolved["dtypes"].values()):
        problems.append("the second type field is too narrow for the codes")
    rules = {spec["dtype"] for spec in raw["operands"] if spec["role"]}
    lacking = [a for a, _ in pairs if "acc" in rules and not isa.resolved["dtypes"][a].get("acc")]
    if lacking:
        problems.append(f"{lacking} have no accumulator")
    if ("dtype2" in rules) != bool(raw["dtype2_bits"]):
        problems.append("a second type field without an operand of that type, or the other way round")
    return problems


def _operands(raw: _Raw, isa: Isa, _layout: Layout) -> list[str]:
    """Bounds fit the bits, defaults and enumerations the bounds; an index reaches its table and no further."""
    problems = []
    for spec in raw["operands"]:
        kind = isa.resolved["operand_kinds"][spec["kind"]]
        width = spec["bits"][2]
        lowest, highest = (-(1 << width - 1), (1 << width - 1) - 1) if kind["repr"] == "sint" else (0, (1 << width) - 1)
        if not lowest <= spec["min"] <= spec["max"] <= highest:
            problems.append(f"{spec['name']}: {spec['min']}..{spec['max']} do not fit {width} bits")
        values = list(spec["values"].values())
        if len(set(values)) != len(values) or any(not spec["min"] <= value <= spec["max"] for value in values):
            problems.append(f"{spec['name']}: values {values} are not unique or out of range")
        if spec["default"] is not None and spec["default"] not in (values or range(spec["min"], spec["max"] + 1)):
            problems.append(f"{spec['name']}: default {spec['default']} is not allowed")
        if kind["repr"] == "index" and (spec["min"], spec["max"]) != (0, isa.resolved["limits"][kind["table"]] - 1):
            problems.append(f"{spec['name']}: does not reach just the {kind['table']}")
    return problems


def _meaning(raw: _Raw, _isa: Isa, _layout: Layout) -> list[str]:
    """Its meaning uses its operands, all that it reads and no others but sizes, and is given once."""
    if raw["function"] is not None:
        known = raw["function"] in FUNCTIONS and raw["semantics"] is None
        return [] if known else [f"function {raw['function']!r} is unknown, or stands beside an expression"]
    if raw["semantics"] is None:
        control = raw["unit"] in ("seq", "any") or raw["feature"] != "base"
        return [] if control else ["nothing says what it does"]
    tree = ast.parse(raw["semantics"])
    statement = tree.body[0]
    if len(tree.body) != 1 or not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return ["the expression is no assignment"]
    read, written = _read_and_written(raw)
    used = _value_names(statement.value)
    problems = [f"{name} is read and the expression does not use it" for name in sorted(read - used)]
    sizes = {spec["name"] for spec in raw["operands"] if spec["kind"] == "size"}
    problems += [f"the expression uses {name}, which is not read" for name in sorted(used - read - sizes)]
    return problems + (
        [] if written == {statement.targets[0].id} else [f"writes {written}, not {statement.targets[0].id}"]
    )


def _read_and_written(raw: _Raw) -> tuple[set[str], set[str]]:
    if raw["unit"] == "seq":
        registers = {spec["name"] for spec in raw["operands"] if spec["kind"] == "reg"}
        values = {spec["name"] for spec in raw["operands"] if spec["kind"] == "sint"}
        return registers - {"rd"} | values, registers & {"rd"}
    roles = {spec["name"]: spec["role"] or "" for spec in raw["operands"]}
    values = {spec["name"] for spec in raw["operands"] if spec["kind"] == "bits32"}
    read = {name for name, role in roles.items() if role.startswith("read")} | values
    return read, {name for name, role in roles.items() if role.endswith("write")}


def _value_names(expression: ast.expr) -> set[str]:
    """Names of an expression that stand for values: neither those of functions nor those of axes."""
    others: set[ast.expr] = set()
    for node in ast.walk(expression):
        if isinstance(node, ast.Call):
            others |= {node.func, *(keyword.value for keyword in node.keywords if keyword.arg == "axis")}
    names = (node for node in ast.walk(expression) if isinstance(node, ast.Name) and node not in others)
    return {node.id for node in names}


def _reachable(raw: _Raw, isa: Isa, layout: Layout) -> list[str]:
    """Some words decode to it, or to its feature being off."""
    entry: Entry = layout.entries[raw["name"]]
    values = {field.name: field.values[0][1] if field.values else field.low for field in entry.operands}
    if entry.pairs:
        values["dtype"], values["dtype2"] = min(entry.pairs)
    words = layout.pack(entry, values)
    wanted = WordClass.LEGAL if entry.on else WordClass.FEATURE_OFF
    got = {layout.decode(words).word_class, classify(isa, words)}
    return [] if got == {wanted} else [f"{[f'{word:#x}' for word in words]} are {sorted(c.value for c in got)}"]


_CHECKS: Mapping[str, Callable[[_Raw, Isa, Layout], list[str]]] = {
    "cover": _cover,
    "length": _length,
    "names": _names,
    "types": _types,
    "operands": _operands,
    "meaning": _meaning,
    "reachable": _reachable,
}


def _fields(raw: _Raw, isa: Isa) -> Iterator[tuple[str, int, int, int]]:
    """(name, word, lowest bit, width) of every field of an instruction."""
    for name, (word, low, width) in isa.resolved["head"].items():
        if name != "dtype" or raw["dtyped"]:
            yield name, word, low, width
    if raw["dtype2_bits"]:
        yield ("dtype2", *raw["dtype2_bits"])
    for spec in raw["operands"]:
        yield (spec["name"], *spec["bits"])


def _unique_opcodes(isa: Isa) -> list[str]:
    count = Counter(raw["opcode"] for raw in isa.resolved["instructions"])
    return [f"opcode {opcode:#04x} is taken {times} times" for opcode, times in count.items() if times > 1]


def _custom_space(isa: Isa) -> list[str]:
    """Opcodes set aside for extensions are used by extensions only."""
    first, last = isa.resolved["custom_opcodes"]
    inside = [raw["name"] for raw in isa.resolved["instructions"] if first <= raw["opcode"] <= last]
    return [f"{inside} lie in the space of extensions, and there is none"] if inside and not isa.extensions else []


def _free_space(isa: Isa) -> list[str]:
    """An opcode is left for one more instruction, and opcodes fit their field."""
    opcodes = {raw["opcode"] for raw in isa.resolved["instructions"]}
    last = (1 << isa.resolved["head"]["opcode"][2]) - 1
    wide = [f"opcode {opcode:#x} does not fit" for opcode in sorted(opcodes) if not 0 <= opcode <= last]
    return wide + ([] if set(range(last + 1)) - opcodes else ["no opcode is free"])


def _head(isa: Isa) -> list[str]:
    used = 0
    problems = []
    for name, (word, low, width) in isa.resolved["head"].items():
        mask = ((1 << width) - 1) << low
        if word != 0 or mask & used or mask > WORD or width < 1:
            problems.append(f"{name} overlaps another field, or leaves word 0")
        used |= mask
    return problems


def _codes(isa: Isa, section: str, field: str | None) -> list[str]:
    codes = [entry["code"] for entry in isa.resolved[section].values()]
    problems = [] if len(set(codes)) == len(codes) else [f"codes of {section} are not unique: {sorted(codes)}"]
    if field is not None and max(codes) >> isa.resolved["head"][field][2]:
        problems.append(f"codes of {section} do not fit the field {field}")
    return problems


def _predicates(isa: Isa) -> list[str]:
    codes = list(isa.resolved["predicates"].values())
    unique = len(set(codes)) == len(codes) and not max(codes) >> isa.resolved["head"]["pred"][2]
    always = isa.resolved["predicates"].get("always") == 0
    return ([] if unique else ["codes are not unique or too wide"]) + ([] if always else ["always is not 0"])


def _scopes(isa: Isa) -> list[str]:
    """Every semaphore has one scope, and the head can name all of them beside none."""
    count = isa.resolved["limits"]["semaphores"]
    ranges = list(isa.resolved["semaphore_scopes"].values())
    owners = Counter(number for first, last in ranges for number in range(first, last + 1))
    problems = [] if owners == Counter(range(count)) else ["scopes leave a semaphore out, or have it twice"]
    narrow = [f for f in ("wait0", "wait1", "set0", "set1") if count >= 1 << isa.resolved["head"][f][2]]
    return problems + ([f"{narrow} cannot name {count} semaphores"] if narrow else [])
