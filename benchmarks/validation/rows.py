"""The measured rows: `rows/*.yaml` as checked data.

A file is a family: `family`, `source` and `rows`. A row of class A (a board's measurement) or B (a profiled tile operation of
low stated accuracy) names a kernel of `builders` and its parameters, what was measured, and which of it is compared.
A class A row is `fitted` or `held_out`. An `excluded` row says why, and is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npuvm.isa.yaml_strict import load_yaml

__all__ = ["CLASSES", "MEASURES", "SETS", "Row", "load_rows"]

CLASSES = ("A", "B", "excluded")
SETS = ("fitted", "held_out")
_TIMES = [f"{each}_us" for each in ("task", "core", "vec", "mac", "scalar", "mte1", "mte2", "mte3", "fixpipe")]
_SHARES = [f"{each}_percent" for each in ("l2_hit", "mac", "mte1", "mte2")]
MEASURES = frozenset([*_TIMES, *_SHARES, "cycles", "total_cycles", "ticks", "accuracy"])
COMPARED = ("core_us", "task_us", "cycles")
_FOLDER = Path(__file__).parent / "rows"
_NEEDED = ("id", "chip", "variant", "class", "measured")
_RUN = ("kernel", "params", "compare", "within")
_FIELDS = frozenset([*_NEEDED, *_RUN, "set", "reason", "source", "note"])


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `within` names the rows that are variants of each other, whose order is compared."""

    family: str
    id: str
    chip: str
    variant: str
    kind: str
    source: str
    measured: Mapping[str, float]
    set: str | None = None
    reason: str | None = None
    kernel: str | None = None
    params: Mapping[str, Any] | None = None
    compare: str | None = None
    within: str | None = None
    note: str | None = None

    @property
    def value(self) -> float:
        """The number that the simulation is compared with; only of rows that run."""
        assert self.compare is not None, self.id
        return float(self.measured[self.compare])


def load_rows(folder: Path = _FOLDER) -> list[Row]:
    """All rows in the order of files and lines; ValueError that names the row that breaks the schema."""
    rows = [row for path in sorted(folder.glob("*.yaml")) for row in _file_rows(path)]
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise ValueError(f"row {row.id} stands twice")
        seen.add(row.id)
    return rows


def _file_rows(path: Path) -> list[Row]:
    data = load_yaml(path).data
    return [_row(data["family"], data["source"], each) for each in data["rows"]]


def _row(family: str, source: str, raw: Mapping[str, Any]) -> Row:
    name = raw.get("id")
    if unknown := set(raw) - _FIELDS:
        raise ValueError(f"row {name}: unknown fields {sorted(unknown)}; allowed: {sorted(_FIELDS)}")
    kind = raw["class"]
    if kind not in CLASSES:
        raise ValueError(f"row {name}: class {kind!r}; allowed: {', '.join(CLASSES)}")
    if bad := set(raw["measured"]) - MEASURES:
        raise ValueError(f"row {name}: measured {sorted(bad)}; allowed: {', '.join(sorted(MEASURES))}")
    if (raw.get("reason") is not None) != (kind == "excluded"):
        raise ValueError(f"row {name}: a reason belongs to excluded rows, and to each of them")
    if (raw.get("set") in SETS) != (kind == "A"):
        raise ValueError(f"row {name}: rows of class A, and no others, are one of {', '.join(SETS)}")
    if kind != "excluded":
        missing = [key for key in _RUN if key not in raw]
        if missing or raw["compare"] not in COMPARED or raw["compare"] not in raw["measured"]:
            raise ValueError(f"row {name}: needs kernel, params, within, and compare as one of its measured {COMPARED}")
    return Row(
        family,
        raw["id"],
        raw["chip"],
        raw["variant"],
        kind,
        raw.get("source", source),
        raw["measured"],
        *(raw.get(key) for key in ("set", "reason", "kernel", "params", "compare", "within", "note")),
    )
