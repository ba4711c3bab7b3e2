"""A breakdown as plain JSON values, for programs and for the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from npuvm.hw.explain.advice import Advice
from npuvm.hw.explain.breakdown import LaunchBreakdown
from npuvm.hw.explain.causes import Cause

__all__ = ["JSON_VERSION", "to_json"]

JSON_VERSION = 1


def to_json(breakdown: LaunchBreakdown, advice: Sequence[Advice] = ()) -> dict[str, Any]:
    """The breakdown and its advice. `version` changes when a key changes its meaning or goes away.

    The cycles of `stack` add up to `core_cycles`, those of each unit's `parts` to its `available`.
    """
    first, mean, last = breakdown.ends
    return {
        "version": JSON_VERSION,
        "launches": breakdown.launches,
        "cycles": breakdown.cycles,
        "cores": breakdown.cores,
        "core_cycles": breakdown.core_cycles,
        "stack": _parts(breakdown.stack),
        "units": [
            {
                "unit": unit.unit,
                "cores": unit.cores,
                "working_cores": unit.working,
                "available": unit.available,
                "instructions": unit.instructions,
                "parts": _parts(unit.parts),
            }
            for unit in breakdown.units
        ],
        "critical_cores": dict(breakdown.critical),
        "bound_cycles": {name: float(cycles) for name, cycles in breakdown.bounds.items()},
        "core_ends": {"first": first, "mean": float(mean), "last": last},
        "memory_bytes": dict(breakdown.memory_bytes),
        "advice": [{"rule": line.rule, "kind": line.kind, "share": line.share, "text": line.text} for line in advice],
    }


def _parts(parts: Mapping[Cause, int]) -> list[dict[str, Any]]:
    return [
        {"unit": cause.unit, "kind": cause.kind, "other": cause.other, "label": cause.label, "cycles": cycles}
        for cause, cycles in parts.items()
    ]
