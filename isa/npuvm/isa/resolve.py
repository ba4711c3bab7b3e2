"""Resolve step: YAML documents -> one plain dictionary with inheritance, defaults and bit positions written out.

The result is what `resolved.json` publishes; nothing in it depends on the order or the layout of the source.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

from npuvm.isa.errors import IsaError
from npuvm.isa.shape import BASE, EXTENSION, check_shape
from npuvm.isa.yaml_strict import Document, YamlPath

__all__ = ["resolve"]

_FIELD = re.compile(r"(?:([0-7]):)?(\d{1,2}):(\d{1,2})")


class _Source:
    """A document plus a place in it, for errors."""

    def __init__(self, document: Document, path: YamlPath = ()) -> None:
        self.document = document
        self.path = path

    def __truediv__(self, key: str | int) -> _Source:
        return _Source(self.document, (*self.path, key))

    def fail(self, message: str) -> IsaError:
        dotted = ".".join(str(part) for part in self.path)
        return IsaError(f"{dotted}: {message}" if dotted else message, self.document.where(self.path))


def resolve(base: Document, extensions: list[Document]) -> dict[str, Any]:
    """One dictionary from a base and its extensions; IsaError on unknown keys, wrong types, name clashes."""
    source = _Source(base)
    check_shape(BASE, base)
    data = base.data
    merged = copy.deepcopy(data)
    instruction_sources = {i: source / "instructions" / i for i in range(len(data["instructions"]))}
    format_sources = {name: source / "formats" / name for name in data["formats"]}
    names = []
    for document in extensions:
        names.append(_overlay(merged, document, instruction_sources, format_sources))
    formats = {name: _format(name, merged["formats"], format_sources) for name in merged["formats"]}
    instructions = [
        _instruction(entry, formats, merged, instruction_sources[i]) for i, entry in enumerate(merged["instructions"])
    ]
    result = {key: merged[key] for key in data if key not in ("formats", "instructions", "head")}
    result["head"] = {name: _bits(source / "head" / name, text, None) for name, text in merged["head"].items()}
    result["instructions"] = sorted(instructions, key=lambda entry: entry["opcode"])
    result["extensions"] = names
    return result


def _overlay(
    merged: dict[str, Any], document: Document, instructions: dict[int, _Source], formats: dict[str, _Source]
) -> str:
    source = _Source(document)
    check_shape(EXTENSION, document)
    data = document.data
    wanted = f"{merged['isa']} {merged['version']}"
    if data["extends"] != wanted:
        raise (source / "extends").fail(f"is {data['extends']!r}; the base is {wanted!r}")
    for section in ("formats", "features", "primitive_timing"):
        for name, value in data.get(section, {}).items():
            if name in merged[section]:
                raise (source / section / name).fail("exists already; an extension adds, it does not change")
            merged[section][name] = value
            if section == "formats":
                formats[name] = source / section / name
    for index, entry in enumerate(data["instructions"]):
        instructions[len(merged["instructions"])] = source / "instructions" / index
        merged["instructions"].append(entry)
    return f"{data['extension']} {data['version']}"


def _format(
    name: str, formats: dict[str, Any], sources: dict[str, _Source], seen: tuple[str, ...] = ()
) -> dict[str, Any]:
    source = sources[name]
    raw = formats[name]
    if name in seen:
        raise source.fail(f"inherits from itself: {' -> '.join((*seen, name))}")
    parent: dict[str, Any] = {"dtyped": True, "dtype2": None, "operands": {}}
    if "inherits" in raw:
        if raw["inherits"] not in formats:
            raise (source / "inherits").fail(f"no format {raw['inherits']!r}")
        parent = _format(raw["inherits"], formats, sources, (*seen, name))
    operands = copy.deepcopy(parent["operands"])
    for operand, spec in raw.get("operands", {}).items():
        operands[operand] = {**operands.get(operand, {}), **spec}
    result = {**parent, **{k: v for k, v in raw.items() if k != "inherits"}, "operands": operands}
    for key in ("unit", "words"):
        if key not in result:
            raise source.fail(f"key {key!r} is missing and not inherited")
    if result["dtype2"] and _bits(source, result["dtype2"], 0)[0] != 0:
        raise (source / "dtype2").fail(f"bits {result['dtype2']!r}: the second type stands in the head, word 0")
    return result


def _instruction(
    raw: dict[str, Any], formats: dict[str, Any], merged: dict[str, Any], source: _Source
) -> dict[str, Any]:
    if raw["format"] not in formats:
        raise (source / "format").fail(f"no format {raw['format']!r}; there are: {', '.join(sorted(formats))}")
    layout = formats[raw["format"]]
    changes = raw.get("operands", {})
    operands = {name: {**spec, **changes.get(name, {})} for name, spec in layout["operands"].items()}
    for name in changes:
        if name not in operands:
            raise (source / "operands" / name).fail(f"format {raw['format']} has no such operand")
    resolved = [_operand(source / "operands" / n, n, spec, merged, layout["words"]) for n, spec in operands.items()]
    return {
        "name": raw["name"],
        "opcode": raw["opcode"],
        "format": raw["format"],
        "unit": raw.get("unit", layout["unit"]),
        "words": layout["words"],
        "operands": resolved,
        "dtypes": [_dtype_pair(source, text, layout, merged) for text in raw.get("dtypes", [])],
        "dtype2_bits": _bits(source, layout["dtype2"], 0) if layout["dtype2"] else None,
        "dtyped": layout["dtyped"],
        "timing": raw.get("timing"),
        "semantics": raw.get("semantics"),
        "function": raw.get("function"),
        "traps": raw.get("traps", ["buffer_range", "alignment"] if layout["unit"] == "vector" else []),
        "feature": raw.get("feature", "base"),
        "doc": raw["doc"],
    }


def _operand(source: _Source, name: str, spec: dict[str, Any], merged: dict[str, Any], words: int) -> dict[str, Any]:
    kinds = merged["operand_kinds"]
    if spec.get("kind") not in kinds:
        raise source.fail(f"kind {spec.get('kind')!r} is unknown; allowed: {', '.join(sorted(kinds))}")
    bits = _bits(source, spec.get("bits"), None)
    if bits[0] > words:
        raise source.fail(f"bits {spec['bits']!r} name word {bits[0]}; the format has words 0 to {words}")
    kind = kinds[spec["kind"]]
    if kind["repr"] == "index" and kind.get("table") not in merged["limits"]:
        raise source.fail(
            f"kind {spec['kind']} names table {kind.get('table')!r}; there are: {', '.join(merged['limits'])}"
        )
    if kind["repr"] == "enum" and not spec.get("values"):
        raise source.fail("an enum needs values")
    low, high = _range(kind, spec, bits[2], merged["limits"])
    return {
        "name": name,
        "bits": bits,
        "kind": spec["kind"],
        "min": low,
        "max": high,
        "default": spec.get("default"),
        "values": spec.get("values", {}),
        "role": spec.get("role"),
        "spaces": spec.get("spaces", []),
        "shape": spec.get("shape", []),
        "dtype": spec.get("dtype", "dtype"),
    }


def _range(kind: dict[str, Any], spec: dict[str, Any], width: int, limits: dict[str, int]) -> tuple[int, int]:
    """Smallest and largest value an operand may have, inclusive."""
    bounds: dict[str, Callable[[], tuple[int, int]]] = {
        "index": lambda: (0, min(limits[kind["table"]], 1 << width) - 1),
        "uint": lambda: (0, (1 << width) - 1),
        "hex": lambda: (0, (1 << width) - 1),
        "sint": lambda: (-(1 << (width - 1)), (1 << (width - 1)) - 1),
        "enum": lambda: (min(spec["values"].values()), max(spec["values"].values())),
    }
    low, high = bounds[kind["repr"]]()
    return max(low, spec.get("min", low)), min(high, spec.get("max", high))


def _dtype_pair(source: _Source, text: str, layout: dict[str, Any], merged: dict[str, Any]) -> list[str | None]:
    first, arrow, second = text.partition("->")
    for part in (first, second) if arrow else (first,):
        if part not in merged["dtypes"]:
            raise (source / "dtypes").fail(f"no data type {part!r}; there are: {', '.join(merged['dtypes'])}")
    if bool(arrow) != bool(layout["dtype2"]):
        raise (source / "dtypes").fail(f"{text!r}: a pair 'a->b' is for formats with dtype2, and only for those")
    return [first, second if arrow else None]


def _bits(source: _Source, text: Any, word: int | None) -> list[int]:
    """'word:high:low' or 'high:low' (head) -> [word, low, width]."""
    match = _FIELD.fullmatch(str(text))
    if not match:
        raise source.fail(f"bits {text!r} must read 'word:high:low'")
    high, low = int(match[2]), int(match[3])
    if not 0 <= low <= high <= 63:
        raise source.fail(f"bits {text!r}: need 63 >= high >= low >= 0")
    return [int(match[1] or word or 0), low, high - low + 1]
