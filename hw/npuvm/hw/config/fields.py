"""Walks the schema: every leaf field with its path, type, bounds and meaning. Errors, overrides and documents use it."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal

import annotated_types as at
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from npuvm.hw.config.basics import SameAs
from npuvm.hw.config.model import NpuConfig

__all__ = ["ANY", "Leaf", "Path", "children", "leaf_at", "leaf_paths", "leaves", "optional_sections", "suggest"]

Path = tuple[str, ...]

ANY = "*"
"""Stands in a leaf's path for any key of a mapping (a timing class, an operand type)."""

_UNITS = {
    "_cycles": "cycles",
    "_kib": "KiB",
    "_mib": "MiB",
    "_gib": "GiB",
    "_gbps": "GB/s",
    "_ghz": "GHz",
    "_us": "microseconds",
    "_bytes_per_cycle": "bytes a cycle",
    "_bytes": "bytes",
}


@dataclass(frozen=True)
class Leaf:
    """One leaf of the schema; `path` holds ANY where a mapping has keys of the file's choice.

    `required` holds within its section, should that be one that may be left out. `follows` names the field that the leaf is
    the same as when it is not given.
    """

    path: Path
    kind: Literal["int", "rational", "bool", "text", "choice", "names"]
    required: bool
    default: Any
    meaning: str
    allowed: str
    follows: str = ""

    @property
    def numeric(self) -> bool:
        """Whether the file may write it as {value, source, trust}."""
        return self.kind in ("int", "rational")


@cache
def leaves() -> tuple[Leaf, ...]:
    """All leaves of `NpuConfig`, in the order of the schema."""
    return tuple(_walk(NpuConfig, ()))


@cache
def optional_sections() -> Mapping[str, str]:
    """Dotted path -> meaning, of the sections that may be left out."""
    return MappingProxyType(dict(_optional(NpuConfig, ())))


def leaf_at(path: Path) -> Leaf | None:
    """The leaf that a concrete path names, or None when it names a section or nothing."""
    named, open_ended = _leaves_by_path()
    if path in named:
        return named[path]
    for leaf in open_ended:
        if len(leaf.path) == len(path) and all(want in (ANY, got) for want, got in zip(leaf.path, path, strict=True)):
            return leaf
    return None


@cache
def _leaves_by_path() -> tuple[Mapping[Path, Leaf], tuple[Leaf, ...]]:
    """The leaves whose path is known, by it; and those in mappings with keys of the file's choice."""
    named = {leaf.path: leaf for leaf in leaves() if ANY not in leaf.path}
    return named, tuple(leaf for leaf in leaves() if ANY in leaf.path)


def children(path: Path) -> tuple[str, ...]:
    """Names allowed directly under a section; ANY for a mapping with keys of the file's choice."""
    names: dict[str, None] = {}
    for leaf in leaves():
        if len(leaf.path) > len(path) and all(want in (ANY, got) for want, got in zip(leaf.path, path, strict=False)):
            names[leaf.path[len(path)]] = None
    return tuple(names)


def leaf_paths(data: Any) -> tuple[str, ...]:
    """Dotted paths of all leaves, with the mapping keys that `data` has in place of ANY."""
    return tuple(".".join(path) for leaf in leaves() for path in _expand(leaf.path, data))


def suggest(word: str, known: tuple[str, ...]) -> str:
    """ "; did you mean a, b?" for the known words nearest to `word`, best first, or nothing when none is near."""
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if not near:
        last = word.rsplit(".", 1)[-1]
        near = [name for name in known if name.rsplit(".", 1)[-1] == last][:3]
    return f"; did you mean {', '.join(near)}?" if near else ""


def _expand(path: Path, data: Any) -> Iterator[Path]:
    if ANY not in path:
        yield path
        return
    at_any = path.index(ANY)
    node = data
    for key in path[:at_any]:
        node = node.get(key) if isinstance(node, dict) else None
    for key in node if isinstance(node, dict) else ():
        for rest in _expand(path[at_any + 1 :], node[key]):
            yield (*path[:at_any], str(key), *rest)


def _section_of(field: FieldInfo) -> tuple[Any, bool]:
    """A field's type, of `Section | None` the section, and whether it was one of these."""
    kind: Any = field.annotation
    if isinstance(kind, UnionType):
        (section,) = (each for each in typing.get_args(kind) if each is not NoneType)
        return section, True
    return kind, False


def _optional(model: type[BaseModel], prefix: Path) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        kind, optional = _section_of(field)
        if optional:
            yield ".".join((*prefix, name)), field.description or ""
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _optional(kind, (*prefix, name))


def _walk(model: type[BaseModel], prefix: Path) -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        path = (*prefix, name)
        kind, _ = _section_of(field)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, path)
        elif typing.get_origin(kind) is Mapping:
            yield from _walk_mapping(typing.get_args(kind)[1], field, (*path, ANY))
        else:
            yield _leaf(kind, field, path, list(field.metadata))


def _walk_mapping(item: Any, field: FieldInfo, path: Path) -> Iterator[Leaf]:
    if isinstance(item, type) and issubclass(item, BaseModel):
        yield from _walk(item, path)
        return
    base, *metadata = typing.get_args(item)
    bounds = [bound for info in metadata for bound in getattr(info, "metadata", [info])]
    yield _leaf(base, field, path, bounds)


def _leaf(kind: Any, field: FieldInfo, path: Path, metadata: list[Any]) -> Leaf:
    default = None if field.is_required() else field.default
    meaning = field.description or ""
    unit = next((text for suffix, text in _UNITS.items() if f"_{path[-1]}".endswith(suffix)), "")
    of_unit = f" of {unit}" if unit else ""
    required = field.is_required()
    follows = next((mark.field for mark in metadata if isinstance(mark, SameAs)), "")
    if kind is int:
        step = next((f", a multiple of {m.multiple_of}" for m in metadata if isinstance(m, at.MultipleOf)), "")
        number = f"a whole number{of_unit}, {_range(metadata)}{step}"
        return Leaf(path, "int", required, default, meaning, number, follows)
    if kind is Fraction:
        number = f'a number{of_unit} (or "a/b"), {_range(metadata)}'
        return Leaf(path, "rational", required, default, meaning, number, follows)
    if kind is bool:
        return Leaf(path, "bool", required, default, meaning, "true or false")
    if typing.get_origin(kind) is Literal:
        return Leaf(path, "choice", required, default, meaning, f"one of {', '.join(typing.get_args(kind))}")
    if kind is str:
        named = any(getattr(info, "pattern", None) for info in metadata)
        text = "a name of a-z, 0-9 and _, beginning with a letter" if named else "text"
        return Leaf(path, "text", required, default, meaning, text)
    return Leaf(path, "names", required, default, meaning, "a list of names or .yaml files")


def _range(metadata: list[Any]) -> str:
    parts = []
    for bound in metadata:
        if isinstance(bound, at.Ge):
            parts.append(f"at least {bound.ge}")
        elif isinstance(bound, at.Gt):
            parts.append(f"more than {bound.gt}")
        elif isinstance(bound, at.Le):
            parts.append(f"at most {bound.le}")
    return ", ".join(parts)
