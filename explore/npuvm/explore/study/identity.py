"""What a study is of: a later run must find the same space, files and settings, or its points could not be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from npuvm.explore.evaluation import workload_digest
from npuvm.explore.space import Space
from npuvm.explore.study.settings import Settings
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.energy import load_technology
from npuvm.isa import Isa, load_isa
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
        return Identity(space.text, str(space.path.resolve()), settings, _hashes(space))

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


def _hashes(space: Space) -> dict[str, str]:
    chip = load_chip(space.base)
    hashes = {f"chip {space.base}": chip.chip_hash, f"instruction set {chip.isa.base}": _isa(chip).hash}
    for parameter in space.parameters:
        if parameter.kind == "extension":
            hashes[f"extension {parameter.extension}"] = _isa(chip, parameter.extension).hash
    for workload in space.workloads:
        hashes[f"workload {workload.name}"] = workload_digest(workload)
    prices = load_technology(space.technology).model_dump_json()
    hashes[f"technology {space.technology}"] = hashlib.sha256(prices.encode()).hexdigest()
    return hashes


def _isa(chip: NpuConfig, *extensions: str) -> Isa:
    return load_isa(chip.isa.base, [*chip.isa.extensions, *extensions])


def _changed(mine: Any, its: Any, at: str = "") -> Iterator[str]:
    """Dotted names of what differs between two trees."""
    if isinstance(mine, dict) and isinstance(its, dict):
        for key in {**mine, **its}:
            yield from _changed(mine.get(key), its.get(key), f"{at}.{key}" if at else str(key))
    elif mine != its or type(mine) is not type(its):
        yield at
