"""Reads a chip: strict YAML, origins of the numbers set aside, overrides laid over, validated, all faults reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Any, get_args

from pydantic import ValidationError

from npuvm.hw.config.basics import MAX_ERROR_PCT, Provenance, Trust
from npuvm.hw.config.fields import ANY, Path, children, leaf_at, leaf_paths, optional_sections, suggest
from npuvm.hw.config.layers import Layers, chip_path, read_layers
from npuvm.hw.config.model import NpuConfig
from npuvm.hw.errors import ConfigError
from npuvm.isa.yaml_strict import load_yaml, parse_yaml

__all__ = ["chip_reader", "load_chip", "parse_chip"]

_TRUSTS: tuple[str, ...] = get_args(Trust)
_ORIGIN_KEYS = ("value", "source", "trust")


def load_chip(name_or_path: str | FilePath, overrides: Sequence[str] = ()) -> NpuConfig:
    """The chip of a file, or of a shipped chip's name ("ascend_910b1").

    What ends in .yaml or .yml or has a folder in it is a file. `overrides` are "path=value" with the value in YAML
    ("core.ub_kib=512"), laid over in order; null takes a section away that may be left out ("core.ub_banks=null").
    Raise ConfigError with one line per fault.
    """
    return chip_reader(name_or_path)(overrides)


def chip_reader(name_or_path: str | FilePath) -> Callable[[Sequence[str]], NpuConfig]:
    """`load_chip` of one chip with any overrides, its files read now and once."""
    path = chip_path(name_or_path)
    layers = read_layers(load_yaml(path, ConfigError), path)
    return lambda overrides: _build(layers, overrides)


def parse_chip(text: str, name: str = "<text>", overrides: Sequence[str] = ()) -> NpuConfig:
    """The chip of a YAML text; `name` stands for the file in errors. See `load_chip`."""
    return _build(read_layers(parse_yaml(text, name, ConfigError)), overrides)


def _build(layers: Layers, overrides: Sequence[str]) -> NpuConfig:
    if not isinstance(layers.data, dict):
        raise ConfigError("a chip is a mapping of fields: name, isa, clock_ghz, core, memory, host", layers.where())
    origins: dict[str, Provenance] = {}
    faults: list[str] = []
    data = _strip_origins(layers.data, (), layers, origins, faults)
    overridden = _apply_overrides(data, overrides, origins, faults)

    def place(path: Path) -> str:
        above = (".".join(path[:length]) for length in range(len(path), 0, -1))
        text = next((overridden[dotted] for dotted in above if dotted in overridden), None)
        return layers.where(path) if text is None else f"override {text!r}"

    if not faults:
        try:
            chip = NpuConfig.model_validate(data)
        except ValidationError as exc:
            faults.extend(_explain(exc, data, place))
        else:
            chip._provenance = origins
            return chip
    raise ConfigError("\n".join(dict.fromkeys(faults)))


def _strip_origins(node: Any, path: Path, layers: Layers, origins: dict[str, Provenance], faults: list[str]) -> Any:
    """A copy of the data with each {value, source, trust, error_pct} of a numeric leaf replaced by its value."""
    leaf = leaf_at(path)
    if leaf is None:
        if isinstance(node, dict):
            return {
                key: _strip_origins(child, (*path, str(key)), layers, origins, faults) for key, child in node.items()
            }
        return node
    if not (leaf.numeric and isinstance(node, dict)):
        return node
    dotted = ".".join(path)
    error: Any = node.get("error_pct")
    if set(node) - {"error_pct"} != set(_ORIGIN_KEYS):
        keys = ", ".join(map(str, node))
        message = f"{dotted}: has the keys {keys}; allowed is a number or {{value, source, trust}} and error_pct"
        faults.append(f"{layers.where(path)}: {message}")
    elif not isinstance(node["source"], str) or not node["source"].strip():
        message = f"{dotted}.source = {node['source']!r}; allowed is a text that says where the number comes from"
        faults.append(f"{layers.where((*path, 'source'))}: {message}")
    elif node["trust"] not in _TRUSTS:
        message = f"{dotted}.trust = {node['trust']!r}; allowed is one of {', '.join(_TRUSTS)}"
        faults.append(f"{layers.where((*path, 'trust'))}: {message}")
    elif "error_pct" in node and not (type(error) in (int, float) and 0 <= error <= MAX_ERROR_PCT):
        message = f"{dotted}.error_pct = {error!r}; allowed is a number of percent, at least 0, at most {MAX_ERROR_PCT}"
        faults.append(f"{layers.where((*path, 'error_pct'))}: {message}")
    else:
        origins[dotted] = Provenance(node["source"], node["trust"], None if error is None else float(error))
    return node.get("value")


def _apply_overrides(
    data: dict[str, Any], overrides: Iterable[str], origins: dict[str, Provenance], faults: list[str]
) -> dict[str, str]:
    """Write each override into `data`; return dotted path -> the override's text."""
    applied: dict[str, str] = {}
    for text in overrides:
        dotted, equals, value_text = text.partition("=")
        dotted = dotted.strip()
        if not equals or not dotted:
            faults.append(f"override {text!r}: allowed is field.path=value, as in core.ub_kib=512")
            continue
        known = leaf_paths(data)
        if dotted not in known and not (dotted in optional_sections() and value_text.strip() == "null"):
            is_section = any(path.startswith(f"{dotted}.") for path in known)
            below = ", ".join(children(tuple(dotted.split("."))))
            hint = f"; it is a section, set a field of it: {below}" if is_section else suggest(dotted, known)
            faults.append(f"override {text!r}: {dotted}: no such field{hint}")
            continue
        try:
            value = parse_yaml(f"[{value_text}]", f"override {text!r}", ConfigError).data
        except ConfigError as exc:
            faults.append(f"override {text!r}: {exc.message}")
            continue
        if len(value) != 1:
            faults.append(f"override {text!r}: allowed is one value; a list is written [a, b]")
            continue
        _put(data, tuple(dotted.split(".")), value[0])
        applied[dotted] = text
        for path in [path for path in origins if path.startswith(f"{dotted}.")]:
            del origins[path]
        if dotted in known:
            origins[dotted] = Provenance(f"override {text}", "assumed")
    return applied


def _put(data: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        child = data.get(key)
        if not isinstance(child, dict):
            child = data[key] = {}
        data = child
    data[path[-1]] = value


def _explain(exc: ValidationError, data: Any, place: Callable[[Path], str]) -> Iterator[str]:
    """One line per fault: place, field path, value, what is allowed."""
    for error in exc.errors(include_url=False):
        # A mapping's key fault is located at (..., key, "[key]"): the key is the field at fault.
        bad_key = bool(error["loc"]) and error["loc"][-1] == "[key]"
        path = tuple(str(part) for part in error["loc"] if part != "[key]")
        dotted = ".".join(path)
        leaf = leaf_at(path)
        if leaf is not None and leaf.follows and path[-1] not in _value_at(data, path[:-1]):
            continue  # it is as another field, which has its own line
        if error["type"] == "cross_field":
            for problem_path, allowed in error["ctx"]["problems"]:
                value = _value_at(data, problem_path)
                shown = "" if value is None else f" = {value!r}"
                yield f"{place(problem_path)}: {'.'.join(problem_path)}{shown}: {allowed}"
        elif bad_key:
            yield f"{place(path)}: {dotted}: bad name; allowed is a name of a-z, 0-9 and _, beginning with a letter"
        elif error["type"] == "extra_forbidden":
            siblings = children(path[:-1])
            allowed = f"allowed here: {', '.join(siblings)}"
            yield f"{place(path)}: {dotted}: no such field{suggest(path[-1], siblings)}; {allowed}"
        elif error["type"] == "missing":
            yield f"{place(path)}: {dotted}: missing; needed is {_allowed(path)}"
        else:
            # A bound is checked after conversion; the file's own text says more than the converted number.
            value = _value_at(data, path) if isinstance(error["input"], Fraction) else error["input"]
            yield f"{place(path)}: {dotted} = {value!r}: allowed is {_allowed(path)}"


def _allowed(path: Path) -> str:
    while path:
        leaf = leaf_at(path)
        if leaf is not None:
            return leaf.allowed
        names = children(path)
        if names == (ANY,):
            return "a mapping with at least one entry"
        if names:
            return f"a section with {', '.join(names)}"
        path = path[:-1]  # an item of a list: what holds for the list says what is allowed
    return f"a mapping with {', '.join(children(()))}"


def _value_at(data: Any, path: Path) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data
