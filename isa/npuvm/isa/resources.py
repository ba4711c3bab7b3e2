"""Finds the YAML files that npuvm ships: in a clone where a person looks for them, in a wheel under `npuvm/data`."""

from __future__ import annotations

from pathlib import Path

from npuvm.isa.errors import IsaError, NpuvmError

__all__ = ["RESOURCE_KINDS", "data_root", "find_resource", "list_resources"]

RESOURCE_KINDS: dict[str, str] = {
    "isa": "isa",
    "extension": "isa/extensions",
    "chip": "configs/npu",
    "technology": "configs/technology",
    "scenario": "configs",
}
"""Kind of resource -> folder under the data root, the same in a clone and in a wheel."""

_SUFFIX = ".yaml"


def data_root() -> Path:
    """The folder that holds `isa/` and `configs/`: the clone's root, or `npuvm/data` of an installed wheel."""
    package = Path(__file__).resolve().parent  # <root>/isa/npuvm/isa in a clone, <site>/npuvm/isa in a wheel
    packaged = package.parent / "data"
    return packaged if packaged.is_dir() else package.parents[2]


def list_resources(kind: str) -> tuple[str, ...]:
    """Names (without `.yaml`) of all shipped resources of a kind, sorted; see `RESOURCE_KINDS` for the kinds."""
    return tuple(sorted(file.stem for file in (data_root() / RESOURCE_KINDS[kind]).glob(f"*{_SUFFIX}")))


def find_resource(kind: str, name: str, error: type[NpuvmError] = IsaError) -> Path:
    """Path of the shipped resource `name` (with or without `.yaml`); raise `error` naming what exists when there is none."""
    names = list_resources(kind)
    stem = name.removesuffix(_SUFFIX)
    if stem not in names:
        raise error(f"no {kind} named {name!r}; shipped are: {', '.join(names) or 'none'}")
    return data_root() / RESOURCE_KINDS[kind] / f"{stem}{_SUFFIX}"
