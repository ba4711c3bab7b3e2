"""Shape step: which keys an instruction set file and an extension have, and what kind of value each takes.

Shapes say nothing about how parts fit together; `npuvm.isa.resolve` and `npuvm.isa.check` do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from npuvm.isa.control import SCOPES
from npuvm.isa.errors import IsaError
from npuvm.isa.yaml_strict import Document, YamlPath

__all__ = ["BASE", "EXTENSION", "Fields", "Flag", "Int", "Items", "Names", "Shape", "Text", "check_shape"]

_MAX = (1 << 63) - 1


@dataclass(frozen=True)
class Text:
    """Text that matches `pattern` wholly; `what` describes it."""

    pattern: str = r"(?s).*"
    what: str = "text"


@dataclass(frozen=True)
class Int:
    """An integer from `low` to `high`."""

    low: int = 0
    high: int = _MAX


@dataclass(frozen=True)
class Flag:
    """true or false."""


@dataclass(frozen=True)
class Items:
    """A list of `low` to `high` items of one shape."""

    of: Shape
    low: int = 0
    high: int = _MAX


@dataclass(frozen=True)
class Names:
    """A mapping from names to values of one shape."""

    of: Shape


@dataclass(frozen=True)
class Fields:
    """A mapping with these keys."""

    required: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)


Shape: TypeAlias = Text | Int | Flag | Items | Names | Fields | tuple["Shape", ...]
"""A tuple holds alternatives."""

_NAME_TEXT = r"[A-Za-z_][A-Za-z0-9_]*"
NAME = Text(_NAME_TEXT, "a name of letters, digits and _")
_STANZA_NAME = Text(r"[a-z][a-z0-9_]*", "a name of lower-case letters, digits and _")
_BITS = Text(r"(?:[0-7]:)?\d{1,2}:\d{1,2}", "bits 'word:high:low', or 'high:low' in the head")
_VERSION = Text(r"\d+(\.\d+)*", 'a version in quotes, like "1.0"')
_DTYPES = Items(Text(rf"{_NAME_TEXT}(->{_NAME_TEXT})?", "a data type, or a pair 'a->b'"), low=1)
_OPERAND = Fields(
    {},
    {
        "bits": _BITS,
        "kind": NAME,
        "role": Text("read|write|readwrite", "one of read, write, readwrite"),
        "spaces": Items(NAME, low=1),
        "shape": Items((NAME, Int(1, 1)), 2, 2),
        "dtype": NAME,
        "default": Int(-_MAX),
        "min": Int(-_MAX),
        "max": Int(-_MAX),
        "values": Names(Int()),
    },
)
_OVERRIDE = Fields({}, {key: _OPERAND.optional[key] for key in ("role", "spaces", "shape", "dtype", "min", "max")})
_FORMAT = Fields(
    {},
    {
        "inherits": NAME,
        "unit": NAME,
        "words": Int(0, 7),
        "dtyped": Flag(),
        "dtype2": _BITS,
        "operands": Names(_OPERAND),
    },
)
_INSTRUCTION = Fields(
    {"name": _STANZA_NAME, "opcode": Int(1, 255), "format": NAME, "doc": Text()},
    {
        "unit": NAME,
        "dtypes": _DTYPES,
        "operands": Names(_OVERRIDE),
        "timing": NAME,
        "semantics": Text(),
        "function": NAME,
        "traps": Items(NAME),
        "feature": NAME,
    },
)
_FEATURE = Fields({"default": Flag(), "doc": Text()})
_DTYPE = Fields(
    {
        "code": Int(0, 255),
        "bits": Int(8, 64),
        "kind": Text("float|int|bool", "one of float, int, bool"),
        "numpy": NAME,
        "compute": NAME,
    },
    {"acc": NAME},
)
_OPERAND_KIND = Fields(
    {"repr": Text("index|uint|sint|hex|enum", "one of index, uint, sint, hex, enum")}, {"table": NAME, "prefix": NAME}
)
_HEAD = ("opcode", "length", "dtype", "wait0", "wait1", "set0", "set1", "pred", "mask", "order")
_PREDICATES = ("always", "first", "last", "not_first", "not_last", "changed", "changes")
_TABLES = ("loops", "sizes", "descriptors", "rings", "registers", "semaphores")

BASE = Fields(
    {
        "isa": NAME,
        "version": _VERSION,
        "word_bits": Int(64, 64),
        "max_operand_words": Int(0, 7),
        "limits": Fields({name: Int(1, 1 << 16) for name in _TABLES}),
        "semaphore_scopes": Fields({name: Items(Int(), 2, 2) for name in SCOPES}),
        "dtypes": Names(_DTYPE),
        "spaces": Names(Fields({"code": Int(0, 255), "align_bytes": Int(0, 4096), "doc": Text()})),
        "units": Names(Fields({"code": Int(0, 255), "doc": Text()})),
        "head": Fields(dict.fromkeys(_HEAD, _BITS)),
        "predicates": Fields({name: Int(0, 255) for name in _PREDICATES}),
        "operand_kinds": Names(_OPERAND_KIND),
        "formats": Names(_FORMAT),
        "features": Names(_FEATURE),
        "instructions": Items(_INSTRUCTION, low=1),
        "custom_opcodes": Items(Int(1, 255), 2, 2),
        "primitive_timing": Names(NAME),
        "traps": Names(Text()),
    }
)
"""A base instruction set."""

EXTENSION = Fields(
    {"extension": NAME, "version": _VERSION, "extends": Text(), "instructions": Items(_INSTRUCTION, low=1)},
    {"formats": Names(_FORMAT), "features": Names(_FEATURE), "primitive_timing": Names(NAME), "doc": Text()},
)
"""What is laid over a base."""


def check_shape(shape: Shape, document: Document) -> None:
    """IsaError with file, line, path and what is allowed for the first part of a document that does not fit."""
    _check(shape, document.data, document, ())


def _check(shape: Shape, value: Any, document: Document, path: YamlPath) -> None:
    if isinstance(shape, tuple):
        shape = next((each for each in shape if _same_kind(each, value)), shape[0])
    if not _fits(shape, value):
        dotted = ".".join(str(part) for part in path)
        problem = (
            f"{dotted}: is {_shown(value)}; allowed: {_describe(shape)}" if path else f"must be {_describe(shape)}"
        )
        raise IsaError(problem, document.where(path))
    if isinstance(shape, Items):
        for index, item in enumerate(value):
            _check(shape.of, item, document, (*path, index))
    elif isinstance(shape, Names):
        for name, item in value.items():
            _check(NAME, name, document, (*path, name))
            _check(shape.of, item, document, (*path, name))
    elif isinstance(shape, Fields):
        _check_fields(shape, value, document, path)


def _check_fields(shape: Fields, value: Mapping[Any, Any], document: Document, path: YamlPath) -> None:
    known = {**shape.required, **shape.optional}
    for key in value:
        if key not in known:
            dotted = ".".join(str(part) for part in (*path, key))
            raise IsaError(f"{dotted}: unknown key; allowed: {', '.join(sorted(known))}", document.where((*path, key)))
    for key in shape.required:
        if key not in value:
            dotted = ".".join(str(part) for part in path)
            raise IsaError(
                f"{dotted}: key {key!r} is missing" if path else f"key {key!r} is missing", document.where(path)
            )
    for key, item in value.items():
        _check(known[key], item, document, (*path, key))


def _same_kind(shape: Shape, value: Any) -> bool:
    kinds: dict[type[Any], type[Any]] = {Text: str, Int: int, Flag: bool, Items: list, Names: dict, Fields: dict}
    return type(value) is kinds[type(shape)]


def _fits(shape: Shape, value: Any) -> bool:
    if not _same_kind(shape, value):
        return False
    if isinstance(shape, Text):
        return re.fullmatch(shape.pattern, value) is not None
    if isinstance(shape, Int):
        return bool(shape.low <= value <= shape.high)
    return not isinstance(shape, Items) or shape.low <= len(value) <= shape.high


def _describe(shape: Shape) -> str:
    if isinstance(shape, Text):
        return shape.what
    if isinstance(shape, Int):
        return f"an integer from {shape.low} to {shape.high}" if shape.high < _MAX else "an integer"
    if isinstance(shape, Flag):
        return "true or false"
    if isinstance(shape, Items):
        return f"a list of {shape.low}" + (" or more" if shape.high == _MAX else "")
    return "a mapping"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
