"""A small design space, and made-up evaluations of its points whose figures follow from a formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from npuvm.explore.evaluation import Evaluation, HostCost, RunRecord
from npuvm.explore.results import Entry
from npuvm.explore.space import Point, Space, load_space

MODEL = Path(__file__).resolve().parents[3] / "configs" / "models" / "feed_forward.onnxtxt"

TEXT = f"""
name: small
title: a space & <its> points
chip: edge
parameters:
  core.count: [1, 2, 4]
  core.ub_kib: [128, 256]
  compiler.fusion: [none, pattern]
  isa.extensions: {{optional: [fma]}}
workloads:
  - {{name: short, model: {MODEL}, sizes: {{tokens: [1, 8]}}}}
  - {{name: more, model: {MODEL}, weight: 2, sizes: {{tokens: 64}}}}
objectives:
  - {{measure: latency_us}}
  - {{measure: area_mm2}}
"""


@cache
def small_space(objectives: tuple[str, ...] = ("latency_us", "area_mm2")) -> Space:
    """The space of `TEXT`, with other objectives when asked."""
    kept, _, _ = TEXT.partition("objectives:")
    text = kept + "objectives: [" + ", ".join(f"{{measure: {name}}}" for name in objectives) + "]\n"
    with TemporaryDirectory() as folder:
        file = Path(folder) / "small.yaml"
        file.write_text(text, encoding="utf-8")
        return load_space(file)


def measures_of(point: Point) -> dict[str, float]:
    """More cores: faster and larger; the buffer does nothing to time; fusion halves it; the extension costs area alone."""
    cores, ub = int(point["core.count"]), int(point["core.ub_kib"])
    fused = point["compiler.fusion"] == "pattern"
    latency = 8.0 + 64.0 / cores / (2 if fused else 1)
    return {
        "latency_us": latency,
        "throughput_per_s": 1e6 / latency,
        "energy_uj": 3.0 * latency,
        "power_w": 3.0,
        "area_mm2": 2.0 * cores + ub / 128 + (0.5 if point["isa.extensions.fma"] else 0.0),
    }


def run_of(workload: str, latency_us: float, **changes: Any) -> RunRecord:
    """A run of a workload at one size; the host takes 5 us of its time."""
    fields: dict[str, Any] = {
        "workload": workload,
        "sizes": {"tokens": 1},
        "weight": 1.0,
        "latency_us": latency_us,
        "interval_us": latency_us - 1,
        "cycles": round(1000 * (latency_us - 5)),
        "seconds": (latency_us - 5) * 1e-6,
        "launches": 1,
        "energy_uj": {"cube": 1.0, "hbm": 2.0},
        "busy": {"vector": 700, "load": 200},
        "stalls": {"vector: wait": 100},
        "bytes": {"hbm_read": 4096, "hbm_write": 1024},
    }
    return RunRecord(**{**fields, **changes})


def done(point: Point, **changes: Any) -> Evaluation:
    """A point that was simulated whole."""
    measures = measures_of(point)
    fields: dict[str, Any] = {
        "state": "done",
        "measures": measures,
        "runs": (run_of("short", measures["latency_us"]),),
        "area_mm2": {"cube": measures["area_mm2"] / 2, "ub": measures["area_mm2"] / 2},
        "host": HostCost(0.5, {"simulated": 2, "shared": 1}),
    }
    return Evaluation(**{**fields, **changes})


def failed(error: str) -> Evaluation:
    """A point whose workload cannot run."""
    return Evaluation("failed", {"area_mm2": 9.0}, error=error, host=HostCost(0.25, {"simulated": 1, "skipped": 2}))


def pruned(point: Point) -> Evaluation:
    """A point of which only lower bounds are known."""
    measures = measures_of(point)
    bounds = {"latency_us": measures["latency_us"] * 0.75, "area_mm2": measures["area_mm2"]}
    return Evaluation("pruned", bounds, bounds=("latency_us",), host=HostCost(0.125, {"skipped": 3}))


def entries_of(evaluations: Mapping[int, Evaluation] | None = None, space: Space | None = None) -> tuple[Entry, ...]:
    """Every point of the space, done but where `evaluations` says something else of a number."""
    given = evaluations or {}
    points = (space or small_space()).points()
    return tuple(Entry(number, point, given.get(number, done(point))) for number, point in enumerate(points))


def vectors_of(entries: Sequence[Entry], names: Sequence[str]) -> list[tuple[float, ...]]:
    """Figures of entries by the measures' names."""
    return [tuple(entry.evaluation.measures[name] for name in names) for entry in entries]


@cache
def mixed_entries() -> tuple[Entry, ...]:
    """All points; some failed, some were pruned, one is over its budget."""
    points = list(small_space().points())
    over = Evaluation("over_budget", measures_of(points[23]), host=HostCost(0.5, {"simulated": 3}))
    return entries_of(
        {
            1: failed("short: no room for <a tile> of 4 KiB in ub_kib = 128"),
            5: failed("short: no room for <a tile> of 4 KiB in ub_kib = 128"),
            6: failed("KeyError: 'x'"),
            9: pruned(points[9]),
            23: over,
        }
    )
