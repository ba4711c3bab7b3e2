"""What a study is of: a later run must find the same space, files and settings, or its points could not be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from npuvm.explore.evaluation import workload_digest
from npuvm.explore.space import Space
from npuvm.explore.study.settings import Settings
from npuvm.hw.config import load_chip
from npuvm.hw.energy import load_technology
from npuvm.isa import load_isa
from npuvm.isa.errors import NpuvmError
from npuvm.isa.yaml_strict import parse_yaml

__all__ = ["Identity"]

_FREE = ("name", "title", "search")
"""Keys of a space file that no evaluation depends on."""


@dataclass(frozen=True)
class Identity:
    """The text of a space's file, where it lay, the settings, and hashes of the other files that its points come from."""

    text: str
    path: str
    settings: Settings
    files: Mapping[str, str]

    @staticmethod
    def of(space: Space, settings: Settings) -> Identity:
        """That of a new study."""
        hashes = {name: make() for name, make in _sources(space)}
        return Identity(space.text, str(space.path.resolve()), settings, hashes)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Identity:
        """What `to_json` gave."""
        return Identity(data["text"], data["path"], Settings(**data["settings"]), data["files"])

    def differences(self, other: Identity) -> list[str]:
        """Fields of the space and files that are not as in `other`, by name."""
        mine, its = parse_yaml(self.text).data, parse_yaml(other.text).data
        fields = [name for name in _changed(mine, its) if name.split(".")[0] not in _FREE]
        files = [name for name in {**self.files, **other.files} if self.files.get(name) != other.files.get(name)]
        return fields or files

    def changed(self, space: Space) -> tuple[str, ...]:
        """Names of files that are not any more what the study began with, or cannot be read; `space` is that of the study."""
        return tuple(name for name, make in _sources(space) if self.files.get(name) != _hash_or_none(make))


def _hash_or_none(make: Callable[[], str]) -> str | None:
    try:
        return make()
    except (NpuvmError, OSError):
        return None


def _sources(space: Space) -> Iterator[tuple[str, Callable[[], str]]]:
    """The files that points come from, with what makes the hash of each; names are the same from whatever folder."""
    yield f"chip {Path(space.base).name}", lambda: load_chip(space.base).chip_hash
    yield "instruction set", lambda: _isa_hash(space)
    for parameter in space.parameters:
        if parameter.kind == "extension":
            yield f"extension {Path(parameter.extension).name}", partial(_isa_hash, space, parameter.extension)
    for workload in space.workloads:
        yield f"workload {workload.name}", partial(workload_digest, workload)
    yield f"technology {Path(space.technology).name}", lambda: _prices_hash(space.technology)


def _isa_hash(space: Space, *extensions: str) -> str:
    isa = load_chip(space.base).isa
    return load_isa(isa.base, [*isa.extensions, *extensions]).hash


def _prices_hash(technology: str) -> str:
    return hashlib.sha256(load_technology(technology).model_dump_json().encode()).hexdigest()


def _changed(mine: Any, its: Any, at: str = "") -> Iterator[str]:
    """Dotted names of what differs between two trees."""
    if isinstance(mine, dict) and isinstance(its, dict):
        for key in {**mine, **its}:
            yield from _changed(mine.get(key), its.get(key), f"{at}.{key}" if at else str(key))
    elif mine != its or type(mine) is not type(its):
        yield at
