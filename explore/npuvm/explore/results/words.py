"""Parameters, values and figures as results print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite

from npuvm.explore.evaluation import Evaluation
from npuvm.explore.space import MEASURES, Measure, Parameter, Point, Space, Value
from npuvm.runtime.html.words import three_digits

__all__ = [
    "figure_text",
    "measure_of",
    "measures_seen",
    "point_text",
    "short_names",
    "value_text",
    "varied",
    "without_repeats",
]


def value_text(value: Value) -> str:
    """A value as a space file writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def varied(space: Space) -> tuple[Parameter, ...]:
    """The parameters with more than one value."""
    return tuple(parameter for parameter in space.parameters if len(parameter.values) > 1)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Each dotted name with its last parts: as few as tell it from the others ("core.ub_kib" -> "ub_kib")."""
    listed = tuple(names)
    return {name: _shortest(name, listed) for name in listed}


def _shortest(name: str, names: Sequence[str]) -> str:
    parts = name.split(".")
    for count in range(1, len(parts)):
        tail = ".".join(parts[-count:])
        if sum(each == tail or each.endswith(f".{tail}") for each in names) == 1:
            return tail
    return name


def point_text(space: Space, point: Point) -> str:
    """What varies of a point: "core.count=2, core.ub_kib=128"."""
    return ", ".join(f"{each.name}={value_text(point[each.name])}" for each in varied(space)) or "the only point"


def measure_of(name: str) -> Measure:
    """The measure of a figure by its name, be it of all workloads or of one ("latency_us of prefill")."""
    return MEASURES[name.split(" of ", 1)[0]]


def measures_seen(space: Space, evaluations: Iterable[Evaluation]) -> tuple[str, ...]:
    """Names of all figures: objectives, other measures of the point, then those of each workload."""
    seen = {name for evaluation in evaluations for name in evaluation.measures}
    objectives = [objective.name for objective in space.objectives]
    places = {name: place for place, name in enumerate(MEASURES)}
    workloads = {workload.name: place for place, workload in enumerate(space.workloads)}

    def place(name: str) -> tuple[int, int, int]:
        if name in objectives:
            return 0, objectives.index(name), 0
        measure, _, workload = name.partition(" of ")
        return 1, workloads.get(workload, -1), places[measure]

    return tuple(sorted(seen | set(objectives), key=place))


def without_repeats(space: Space, names: Iterable[str]) -> tuple[str, ...]:
    """Measures without those of the only workload, which are those of all; objectives are always there."""
    objectives = [objective.name for objective in space.objectives]
    one = len(space.workloads) == 1
    return tuple(name for name in names if name in objectives or not (one and " of " in name))


def known_figure(evaluation: Evaluation, name: str) -> float | None:
    """A figure or a bound; None where there is none, and for a bound at infinity, which says nothing."""
    figure = evaluation.measures.get(name)
    return None if figure is None or not isfinite(figure) else figure


def figure_text(evaluation: Evaluation, name: str) -> str:
    """A figure with three digits; what is only a bound says so ("≥ 12.5"); a dash for none."""
    figure = known_figure(evaluation, name)
    if figure is None:
        return "-"
    mark = "" if name not in evaluation.bounds else "≥ " if measure_of(name).sign > 0 else "≤ "
    return mark + three_digits(figure)
