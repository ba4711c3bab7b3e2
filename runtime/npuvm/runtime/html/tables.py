"""The chip of a report as rows of tables: every field with its value, its meaning and its origin."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from npuvm.hw.config import DEFAULT_ERROR_PCT, NpuConfig
from npuvm.hw.config.fields import leaf_at, leaf_paths

__all__ = ["ConfigRow", "config_sections", "trust_counts"]


class ConfigRow(NamedTuple):
    """A field of the chip, by its path in the file; `source`, `trust` and `error` are empty for a value without origin."""

    path: str
    value: str
    meaning: str
    source: str
    trust: str
    error: str


def config_sections(chip: NpuConfig) -> dict[str, list[ConfigRow]]:
    """Every field of the chip that is set, by section ("core.vector"), in the order of the schema."""
    data = chip.model_dump(mode="python")
    sections: dict[str, list[ConfigRow]] = {}
    for dotted in leaf_paths(data):
        path = tuple(dotted.split("."))
        value, leaf = _value_at(data, path), leaf_at(path)
        if value is None or leaf is None:
            continue
        origin = chip.provenance.get(dotted)
        about = ("", "", "") if origin is None else (origin.source, origin.trust, f"± {float(origin.error_pct):g} %")
        row = ConfigRow(dotted, _text(value), leaf.meaning, *about)
        sections.setdefault(".".join(path[: min(2, len(path) - 1)]) or "chip", []).append(row)
    return sections


def trust_counts(chip: NpuConfig) -> dict[str, int]:
    """How many of the chip's numbers have an origin of each trust."""
    found = [origin.trust for origin in chip.provenance.values()]
    return {trust: found.count(trust) for trust in DEFAULT_ERROR_PCT}


def _value_at(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _text(value: object) -> str:
    """A value as a chip file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Fraction):
        return f"{float(value):g}" if Fraction(f"{float(value):g}") == value else str(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
