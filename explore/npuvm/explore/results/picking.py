"""A point of a space as files that `npuvm simulate` runs: its chip, and a scenario for each workload."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from npuvm.compiler.tiles.library import find_library
from npuvm.explore.evaluation import code_name
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.words import point_text
from npuvm.explore.space import Setup, Space, Workload
from npuvm.hw.config import NpuConfig
from npuvm.hw.config.fields import leaf_at
from npuvm.hw.errors import ConfigError
from npuvm.isa import load_isa
from npuvm.isa.yaml_strict import load_yaml, parse_yaml

__all__ = ["CHIP_FILE", "Picked", "pick"]

CHIP_FILE = "chip.yaml"

_HEAD = "# point "
"""How all files of a pick begin."""

_PLAIN = re.compile(r"[a-z_][a-z0-9_./-]*")
_SPECIAL = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
"""Words that YAML reads as something else than text."""


@dataclass(frozen=True)
class Picked:
    """A point as files: their texts by path, the command that runs them, and what it will show, in lines."""

    files: Mapping[Path, str]
    command: str
    expected: tuple[str, ...]


def pick(space: Space, entry: Entry, folder: Path) -> Picked:
    """The files of a point, to be written into `folder`, where those that they name are looked for from.

    The chip builds on the space's and gives what the point sets, each number with the space and the point as its source.
    ConfigError for a point whose fields contradict each other, and where a file is there that no pick wrote, or that the
    space needs.
    """
    chip = space.chip(entry.point)
    files = {folder / CHIP_FILE: _chip_text(space, entry, chip, folder)}
    scenarios = []
    for workload in space.workloads:
        path = folder / f"{workload.name}.yaml"
        if workload.name == Path(CHIP_FILE).stem:
            path = folder / f"workload_{workload.name}.yaml"
        files[path] = f"# {_title(space, entry)}\n" + _scenario_text(space, entry, workload, folder)
        scenarios.append(str(path))
    _check_places(space, files)
    command = ["npuvm", "simulate", *scenarios, "--timing-only", "--technology", space.technology]
    return Picked(files, shlex.join(command), tuple(_expected(entry)))


def _check_places(space: Space, files: Iterable[Path]) -> None:
    """ConfigError where a file would be lost that is somebody's own."""
    needed = {space.path, Path(space.base), Path(space.technology), *map(Path, space.extensions)}
    needed |= {Path(parameter.extension) for parameter in space.parameters if parameter.extension}
    needed |= {path for workload in space.workloads for path in (workload.path, workload.scenario) if path is not None}
    kept = {path.resolve() for path in needed}
    for path in files:
        if path.resolve() in kept:
            raise ConfigError(f"the space {space.name} needs this file; give another folder, by --out", str(path))
        if path.is_file() and not path.read_bytes().startswith(_HEAD.encode()):
            raise ConfigError("no pick wrote this file; remove it, or give another folder, by --out", str(path))


def _title(space: Space, entry: Entry) -> str:
    return f"{_HEAD[2:]}{entry.number} of the design space {space.name}"


def _chip_text(space: Space, entry: Entry, chip: NpuConfig, folder: Path) -> str:
    # A library of tiles is found by the chip's name: one that was made for the base under these fields must still be found.
    tuned = find_library(chip, load_isa(chip.isa.base, chip.isa.extensions)) is not None
    source = f"design space {space.name}, point {entry.number}"
    tree: dict[str, Any] = {
        "name": chip.name if tuned else f"{space.name}_{entry.number}",
        "description": f"{_title(space, entry)}: {point_text(space, entry.point)}",
        "base": _from(folder, space.base),
    }
    for override in space.setup(entry.point).overrides:
        name, _, text = override.partition("=")
        (value,) = parse_yaml(f"[{text}]", f"override {override!r}", ConfigError).data
        path = tuple(name.split("."))
        if name == "isa.extensions":
            value = [_from(folder, each) for each in value]
        leaf = leaf_at(path)
        numeric = leaf is not None and leaf.numeric and value is not None
        section = tree
        for part in path[:-1]:
            section = section.setdefault(part, {})
        section[path[-1]] = _Flow({"value": value, "source": source, "trust": "assumed"}) if numeric else value
    return f"# {_title(space, entry)}: {_line(space.title)}\n" + "".join(_lines(tree))


class _Flow(dict[str, Any]):
    """A mapping that stands in one line."""


def _lines(tree: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A tree as YAML: sections as blocks, all else in one line."""
    for key, value in tree.items():
        if isinstance(value, dict) and not isinstance(value, _Flow):
            yield f"{indent}{key}:\n"
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, _Flow):
            yield f"{indent}{key}: {{{_fields(value)}}}\n"
        else:
            yield f"{indent}{key}: {_scalar(value)}\n"


def _fields(mapping: Mapping[str, Any]) -> str:
    return ", ".join(f"{_scalar(name)}: {_scalar(value)}" for name, value in mapping.items())


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value not in _SPECIAL
    return value if plain else json.dumps(value, ensure_ascii=False)


def _scenario_text(space: Space, entry: Entry, workload: Workload, folder: Path) -> str:
    name, setup = f"{space.name}_{entry.number}_{workload.name}", space.setup(entry.point)
    if workload.scenario is not None:
        data = dict(load_yaml(workload.scenario, ConfigError).data)
        data |= {"name": name, "chip": CHIP_FILE}
        if workload.kind == "model":
            data |= {"model": _from(folder, str(workload.path)), **_options(setup)}
        else:
            data |= _with_buffering(data, setup.buffering)
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    tree: dict[str, Any] = {
        "kind": "model",
        "name": name,
        "title": f"{workload.name} on {_title(space, entry)}",
        "chip": CHIP_FILE,
        "model": _from(folder, str(workload.path)),
    }
    tree |= _options(setup)
    runs = [f"  - {{sizes: {{{_fields(run.sizes)}}}, weight: {run.weight!r}}}\n" for run in workload.runs]
    return "".join(_lines(tree)) + "runs:\n" + "".join(runs)


def _options(setup: Setup) -> dict[str, Any]:
    """The options of the compiler that a point has, as fields of a model's scenario."""
    given = {"fusion": setup.fusion, "buffering": setup.buffering}
    return {name: value for name, value in given.items() if value is not None}


def _with_buffering(data: Mapping[str, Any], buffering: str | None) -> dict[str, Any]:
    """The pins and cases of another scenario, with a point's buffering for all its launches."""
    if buffering is None:
        return {}
    own = {"buffering": buffering}
    found: dict[str, Any] = {"pins": {**data.get("pins", {}), **own}}
    if "cases" in data:
        found["cases"] = [
            {**each, "pins": {**each["pins"], **own}} if "pins" in each else each for each in data["cases"]
        ]
    return found


def _from(folder: Path, name: str) -> str:
    """A file's path from a folder; a name that is no path as it is."""
    return os.path.relpath(name, folder) if len(Path(name).parts) > 1 or Path(name).suffix else name


def _line(text: str) -> str:
    return " ".join(text.split())


def _expected(entry: Entry) -> Iterator[str]:
    evaluation = entry.evaluation
    if evaluation.state == "failed":
        yield f"the point failed: {evaluation.error}"
    for run in evaluation.runs:
        sizes = ", ".join(f"{symbol}={size}" for symbol, size in run.sizes.items())
        label = f"{run.workload} {sizes}" if sizes else run.workload
        yield f"{label}: {run.cycles:,} cycles, {run.latency_us:,.2f} us with the host's dispatch"
    if evaluation.state == "pruned":
        yield "the point was pruned: what is not listed was not simulated"
    if evaluation.code != code_name():
        yield f"code {evaluation.code or 'unknown'} evaluated it, this is {code_name()}: these figures may have changed"
