"""Strict YAML: the subset in which a file means what it looks like.

Refused, with file, line and column: duplicate keys, octal-looking integers (`010`, `0o10`), anchors, aliases, tags, several
documents, keys that are neither text nor integers. Plain scalars are read as follows; every other plain scalar is text, and so
is every quoted one (`yes`, `no`, `on`, `off`, `12:30:00`, `2026-01-01` stay text):

* `true`, `false`; `null`, `~`, nothing
* integers: decimal, `0x` hex, `0b` binary, with an optional sign
* floats: decimal with a point or an exponent, `.inf`, `-.inf`, `.nan`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import yaml

from npuvm.isa.errors import IsaError, NpuvmError

__all__ = ["Document", "PathKey", "YamlPath", "load_yaml", "parse_yaml"]

PathKey: TypeAlias = str | int
YamlPath: TypeAlias = tuple[PathKey, ...]

MAX_DEPTH = 64
"""Deepest nesting accepted, so that hostile input gives an error and not a stack overflow."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS: dict[str, object] = {"true": True, "false": False, "null": None, "~": None, "": None}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_BASED = re.compile(r"([-+]?)(0x[0-9a-fA-F]+|0b[01]+)")
_OCTAL = re.compile(r"[-+]?(0[0-9]+|0o[0-7]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.inf|\.nan")


@dataclass(frozen=True)
class Document:
    """One parsed YAML document: plain `data` (dict, list, str, int, float, bool, None) and where each part stands.

    `positions` maps the path of a part (keys and list indices from the root) to its 1-based line and column; the place of a
    mapping entry is that of its key.
    """

    data: Any
    path: str
    positions: dict[YamlPath, tuple[int, int]] = field(default_factory=dict, repr=False)

    def position_of(self, path: YamlPath) -> tuple[int, int]:
        """1-based (line, column) of `path`, or of its nearest ancestor that is in the file."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.positions:
                return self.positions[path[:length]]
        return (1, 1)

    def line_of(self, path: YamlPath) -> int:
        """1-based line of `path`, or of its nearest ancestor that is in the file."""
        return self.position_of(path)[0]

    def where(self, path: YamlPath = ()) -> str:
        """The place of `path` for an error: "file:line:column"."""
        line, column = self.position_of(path)
        return f"{self.path}:{line}:{column}"


def load_yaml(path: str | Path, error: type[NpuvmError] = IsaError) -> Document:
    """Read and parse a UTF-8 YAML file; raise `error` when it is missing, unreadable, empty or not strict."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error("no such file", str(path)) from None
    except UnicodeDecodeError as exc:
        raise error(f"not UTF-8 text: byte {exc.start} is {exc.object[exc.start]:#04x}", str(path)) from None
    except OSError as exc:
        raise error(f"cannot be read: {exc.strerror}", str(path)) from None
    return parse_yaml(text, str(path), error)


def parse_yaml(text: str, name: str = "<text>", error: type[NpuvmError] = IsaError) -> Document:
    """Parse YAML text; `name` stands for the file in errors, which are of class `error`."""
    return _Parser(text, name, error).document()


class _Parser:
    """Builds plain data from the event stream, so that anchors, tags and duplicates are seen before they vanish."""

    def __init__(self, text: str, name: str, error: type[NpuvmError]) -> None:
        self._name = name
        self._error = error
        self._positions: dict[YamlPath, tuple[int, int]] = {}
        self._events: Iterator[Any] = self._guarded(text)

    def _guarded(self, text: str) -> Iterator[Any]:
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            problem = " ".join(part for part in (exc.context, exc.problem) if part)
            where = self._name if mark is None else f"{self._name}:{mark.line + 1}:{mark.column + 1}"
            raise self._error(f"not valid YAML: {problem}", where) from None
        except yaml.YAMLError as exc:
            raise self._error(f"not valid YAML: {' '.join(str(exc).split())}", self._name) from None

    def document(self) -> Document:
        next(self._events)  # stream start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise self._error("the file is empty", self._name)
        first = next(self._events)
        self._positions[()] = _place(first)
        data = self._value(first, ())
        next(self._events)  # document end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._fail(event, "more than one document; one file holds one document")
        return Document(data, self._name, self._positions)

    def _value(self, event: Any, path: YamlPath) -> Any:
        if isinstance(event, yaml.AliasEvent):
            self._fail(event, f"alias *{event.anchor} is not allowed; write the value out")
        if event.anchor is not None:
            self._fail(event, f"anchor &{event.anchor} is not allowed; write the value out")
        if event.tag is not None:
            self._fail(event, f"tag {event.tag} is not allowed; only plain values are")
        if len(path) > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _sequence(self, path: YamlPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item_path = (*path, len(items))
            self._positions[item_path] = _place(event)
            items.append(self._value(event, item_path))
        return items

    def _mapping(self, path: YamlPath) -> dict[PathKey, Any]:
        mapping: dict[PathKey, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            key_path = (*path, key)
            if key in mapping:
                line = self._positions[key_path][0]
                self._fail(event, f"duplicate key {key!r}; it is already on line {line}")
            self._positions[key_path] = _place(event)
            mapping[key] = self._value(next(self._events), key_path)
        return mapping

    def _key(self, event: Any, path: YamlPath) -> PathKey:
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._fail(event, "a key must be text or an integer, not a list or a mapping")
        key = self._value(event, path)
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            self._fail(event, f"key {event.value!r} reads as {type(key).__name__}; quote it to make it text")
        return key

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.style:  # quoted or block text
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _DECIMAL.fullmatch(text):
            return int(text)
        if based := _BASED.fullmatch(text):
            return int(based[1] + based[2], 0)
        if _OCTAL.fullmatch(text):
            self._fail(event, f"{text} looks octal; write a decimal, 0x or 0b integer, or quote it")
        if _FLOAT.fullmatch(text) or _SPECIAL.fullmatch(text):
            return float(text.replace(".inf", "inf").replace(".nan", "nan"))
        return text

    def _fail(self, event: Any, message: str) -> NoReturn:
        line, column = _place(event)
        raise self._error(message, f"{self._name}:{line}:{column}")


def _place(event: Any) -> tuple[int, int]:
    return (event.start_mark.line + 1, event.start_mark.column + 1)
