"""The page of a search: fronts, parameters, how much they matter, how fast the front was found, what failed, what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from npuvm.explore.results.codes import by_code
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import Vector, front_entries, reference_point
from npuvm.explore.results.host import host_lines
from npuvm.explore.results.html.columns import STATES, objective_pairs, page_columns, shown_values
from npuvm.explore.results.sensitivity import Sensitivity, sensitivities
from npuvm.explore.results.words import figure_text, measures_seen, value_text, varied, without_repeats
from npuvm.explore.space import Objective, Space
from npuvm.runtime.html.page import plotly_script, script_json
from npuvm.runtime.html.words import percent, three_digits

__all__ = ["Cost", "Failure", "costs", "failures", "render_space"]

_ENVIRONMENT = Environment(
    loader=ChoiceLoader([PackageLoader("npuvm.explore.results.html"), PackageLoader("npuvm.runtime.html")]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "figure": figure_text,
    "number": "{:,}".format,
    "percent": percent,
    "three_digits": three_digits,
    "value": value_text,
}


def render_space(space: Space, entries: Iterable[Entry], found: Sequence[Sensitivity] | None = None) -> str:
    """The page of what is known of a space; equal arguments give equal bytes.

    `found` are the space's `sensitivities`, for who has them already.

    ConfigError when plotly, optuna or scikit-learn is not installed.
    """
    listed = tuple(entries)
    plotly = plotly_script()
    found = sensitivities(space, listed) if found is None else found
    front = front_entries(space, listed)
    objectives = [objective.name for objective in space.objectives]
    seen = measures_seen(space, [entry.evaluation for entry in front])
    return _ENVIRONMENT.get_template("space.html.j2").render(
        space=space,
        states={state: sum(entry.evaluation.state == state for entry in listed) for state in STATES},
        entries=listed,
        front=front,
        measures=[name for name in without_repeats(space, seen) if name not in objectives],
        objectives=objectives,
        parameters=varied(space),
        shown_values=shown_values,
        best=_best(space, front),
        pairs=objective_pairs(space),
        reference=_reference(space, reference_point(space, listed)),
        sensitivities=found,
        codes=by_code(listed),
        on_host=host_lines(listed),
        failures=failures(listed),
        cost=costs(listed),
        data=script_json(page_columns(space, listed, found)),
        plotly=plotly,
    )


def _best(space: Space, front: Sequence[Entry]) -> list[tuple[str, Entry]]:
    """Of each objective the best point of the front."""
    return [(each.name, min(front, key=partial(_cost, each))) for each in space.objectives if front]


def _cost(objective: Objective, entry: Entry) -> float:
    """What is less where a point is better."""
    return objective.measure.sign * entry.evaluation.measures[objective.name]


def _reference(space: Space, reference: Vector | None) -> str:
    """The reference point of the hypervolume in words."""
    if reference is None:
        return ""
    pairs = zip(space.objectives, reference, strict=True)
    return ", ".join(f"{objective.name} {three_digits(figure)}" for objective, figure in pairs)


@dataclass(frozen=True)
class Failure:
    """Points that failed for the same reason."""

    reason: str
    numbers: tuple[int, ...]


def failures(entries: Iterable[Entry]) -> tuple[Failure, ...]:
    """Failed points by their reason, that of most points first."""
    groups: dict[str, list[int]] = {}
    for entry in entries:
        if entry.evaluation.state == "failed":
            groups.setdefault(entry.evaluation.error or "no reason was told", []).append(entry.number)
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[1]))
    return tuple(Failure(reason, tuple(numbers)) for reason, numbers in ranked)


@dataclass(frozen=True)
class Cost:
    """What a search took the host, all its processes together; `runs` are those of workloads, by how they were had."""

    cpu_seconds: float
    points_per_minute: float | None
    simulated: int
    shared: int
    skipped: int


def costs(entries: Sequence[Entry]) -> Cost:
    """Sums over points. Points per minute are those of one core."""
    hosts = [entry.evaluation.host for entry in entries]
    seconds = sum(host.cpu_seconds for host in hosts)
    simulated, shared, skipped = (
        sum(host.runs.get(how, 0) for host in hosts) for how in ("simulated", "shared", "skipped")
    )
    return Cost(seconds, 60 * len(entries) / seconds if seconds else None, simulated, shared, skipped)
