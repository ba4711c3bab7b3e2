"""Programs that are kept as assembly text: the legal ones, and those that differ from one of them in what must be refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from npuvm.isa.errors import IsaError
from npuvm.isa.resources import data_root
from npuvm.isa.yaml_strict import load_yaml

__all__ = ["Refused", "program_text", "refused_programs"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A program that breaks `rule`, made from the legal program `base`."""

    name: str
    rule: str
    base: str
    chip: str
    text: str


@lru_cache(maxsize=64)
def program_text(name: str) -> str:
    """The text of a legal program; IsaError when there is none of that name."""
    file = data_root() / "isa" / "conformance" / "programs" / f"{name}.asm"
    if not file.is_file():
        raise IsaError(f"no program {name!r} in {file.parent}")
    return file.read_text(encoding="utf-8")


def refused_programs() -> list[Refused]:
    """Every program that must be refused; IsaError when a change does not apply to exactly one place."""
    file = data_root() / "isa" / "conformance" / "programs" / "refused.yaml"
    return [_refused(raw) for raw in load_yaml(file, IsaError).data["cases"]]


def _refused(raw: Mapping[str, Any]) -> Refused:
    text = program_text(raw["program"])
    for old, new in raw["changes"]:
        count = text.count(old)
        if count != 1:
            raise IsaError(f"{old!r} stands in {raw['program']} {count} times; allowed: once", raw["name"])
        text = text.replace(old, new)
    return Refused(raw["name"], raw["rule"], raw["program"], raw.get("chip", "edge"), text)
