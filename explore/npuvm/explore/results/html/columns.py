"""The points of a study as columns of numbers, from which the page draws its figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from npuvm.explore.evaluation import EvaluationState
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import front_entries, hypervolume_history
from npuvm.explore.results.sensitivity import Sensitivity
from npuvm.explore.results.words import known_figure, short_names, value_text, varied
from npuvm.explore.space import Parameter, Space, Value

__all__ = ["STATES", "objective_pairs", "page_columns", "shown_values"]

STATES: tuple[EvaluationState, ...] = ("done", "over_budget", "pruned", "failed")

_LOGARITHMIC = 20
"""An axis whose largest figure is more than so many times the smallest is logarithmic."""

_DIGITS = 7


def page_columns(space: Space, entries: Sequence[Entry], found: Sequence[Sensitivity]) -> dict[str, Any]:
    """What the script of the page draws, as plain JSON values.

    `points` has a column for each parameter that varies (places among its values, as the page orders them) and for each
    objective (None where a point has no figure; whether it is a bound); `history` is the hypervolume as a share of the last.
    """
    parameters = varied(space)
    names = short_names(parameter.name for parameter in parameters)
    front = {entry.number for entry in front_entries(space, entries)}
    history = hypervolume_history(space, entries)
    last = history[-1] if history else 0.0
    ranked = sorted(parameters, key=lambda each: -max((one.shares.get(each.name, 0.0) for one in found), default=0.0))
    values = {parameter.name: shown_values(parameter) for parameter in parameters}
    return {
        "parameters": [
            {"name": each.name, "short": names[each.name], "values": [value_text(value) for value in values[each.name]]}
            for each in parameters
        ],
        "objectives": [_objective(space, entries, at) for at in range(len(space.objectives))],
        "pairs": objective_pairs(space),
        "points": {
            "number": [entry.number for entry in entries],
            "state": [STATES.index(entry.evaluation.state) for entry in entries],
            "front": [int(entry.number in front) for entry in entries],
            "values": [[values[each.name].index(entry.point[each.name]) for entry in entries] for each in parameters],
            "figures": [
                [_short(known_figure(entry.evaluation, objective.name)) for entry in entries]
                for objective in space.objectives
            ],
            "bounds": [
                [int(objective.name in entry.evaluation.bounds) for entry in entries] for objective in space.objectives
            ],
        },
        "history": [round(volume / last, _DIGITS) if last else 0.0 for volume in history],
        "sensitivity": {
            "parameters": [names[each.name] for each in ranked],
            "objectives": [
                {"name": each.objective, "shares": [each.shares.get(parameter.name) for parameter in ranked]}
                for each in found
                if each.shares
            ],
        },
    }


def shown_values(parameter: Parameter) -> tuple[Value, ...]:
    """The values of a parameter, numbers in rising order."""
    if all(isinstance(value, int | float) for value in parameter.values):
        return tuple(sorted(parameter.values, key=lambda value: float(value)))
    return parameter.values


def objective_pairs(space: Space) -> list[tuple[int, int]]:
    """The axes of each plot of the front, as places of objectives; -1 is the number of the point, where there is but one."""
    places = range(len(space.objectives))
    return list(combinations(places, 2)) or [(-1, 0)]


def _objective(space: Space, entries: Sequence[Entry], at: int) -> dict[str, Any]:
    objective = space.objectives[at]
    known = (known_figure(entry.evaluation, objective.name) for entry in entries)
    figures = [figure for figure in known if figure is not None]
    wide = bool(figures) and min(figures) > 0 and max(figures) > _LOGARITHMIC * min(figures)
    unit = objective.measure.unit
    return {"name": objective.name, "unit": unit, "sign": objective.measure.sign, "log": wide}


def _short(figure: float | None) -> float | None:
    return None if figure is None else float(f"{figure:.{_DIGITS}g}")
