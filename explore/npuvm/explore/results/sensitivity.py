"""How much each parameter of a space matters for each objective: functional analysis of variance (fANOVA) on random forests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.explore.results.entry import Entry
from npuvm.explore.results.words import varied
from npuvm.explore.space import Parameter, Space
from npuvm.hw.errors import ConfigError

__all__ = ["Sensitivity", "sensitivities"]

_POINTS_PER_PARAMETER = 2
_LEAST_POINTS = 12
"""With fewer points nothing is said; with few, how much of points left out is explained tells what the shares are worth."""
_MOST_POINTS = 1000
"""Of more points so many are taken, evenly over the order of asking: the shares hardly change, the time grows with points."""
_TREES = 32
_DIGITS = 4
_WELL_EXPLAINED = 0.5
_SAME = 1e-9
"""Figures that differ by less than this share differ by rounding."""


@dataclass(frozen=True)
class Sensitivity:
    """What an objective depends on.

    `shares` are parts of its variance over the whole space that each parameter causes alone, largest first; what is left of 1
    comes from combinations of parameters. `explained` is the coefficient of determination of the forest for points that it was
    not fitted to: where it is low, the shares say little. `shares` are empty where nothing can be said, and `note` says why.
    """

    objective: str
    points: int
    shares: Mapping[str, float]
    explained: float | None = None
    note: str = ""


def sensitivities(space: Space, entries: Iterable[Entry], seed: int = 0) -> tuple[Sensitivity, ...]:
    """One for each objective, from the points that have a figure for it and no bound; equal for equal arguments.

    Of objectives that are positive everywhere the logarithm is taken: what counts is by which factor they change. ConfigError
    when optuna or scikit-learn is not installed.
    """
    listed = tuple(entries)
    return tuple(_sensitivity(space, listed, objective.name, seed) for objective in space.objectives)


def _sensitivity(space: Space, entries: tuple[Entry, ...], objective: str, seed: int) -> Sensitivity:
    parameters = varied(space)
    known = [
        entry
        for entry in entries
        if objective in entry.evaluation.measures and objective not in entry.evaluation.bounds
    ]
    if len(known) > _MOST_POINTS:
        known = [known[at * len(known) // _MOST_POINTS] for at in range(_MOST_POINTS)]
    needed = max(_LEAST_POINTS, _POINTS_PER_PARAMETER * len(parameters))
    if not parameters:
        return Sensitivity(objective, len(known), {}, note="no parameter has more than one value")
    if len(known) < needed:
        many = f"{len(parameters)} parameter{'s' if len(parameters) > 1 else ''}"
        message = f"{len(known)} points have a figure, too few for {many}; {needed} are needed"
        return Sensitivity(objective, len(known), {}, note=message)
    figures = np.array([entry.evaluation.measures[objective] for entry in known])
    if np.ptp(figures) <= _SAME * abs(figures).max():
        return Sensitivity(objective, len(known), {}, note="it is the same at every point")
    figures = np.log(figures) if (figures > 0).all() else figures
    places = np.array([[each.values.index(entry.point[each.name]) for each in parameters] for entry in known])
    explained = _explained(places, figures, seed)
    shares = _shares(parameters, places, figures, seed)
    note = (
        "" if explained >= _WELL_EXPLAINED else "points left out are not foretold well; more points make shares surer"
    )
    return Sensitivity(objective, len(known), shares, explained, note)


def _explained(places: npt.NDArray[Any], figures: npt.NDArray[Any], seed: int) -> float:
    """Share of the variance that a forest like that of the analysis explains of points which its trees did not see."""
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ModuleNotFoundError:
        raise _missing("scikit-learn") from None
    forest = RandomForestRegressor(_TREES, oob_score=True, random_state=seed).fit(places, figures)
    return round(max(0.0, float(forest.oob_score_)), _DIGITS)


def _shares(
    parameters: tuple[Parameter, ...], places: npt.NDArray[Any], figures: npt.NDArray[Any], seed: int
) -> dict[str, float]:
    try:
        import optuna
    except ModuleNotFoundError:
        raise _missing("optuna") from None
    # Values are told as places in the order, each in the middle of as wide an interval, so that all weigh the same.
    ranges: dict[str, optuna.distributions.BaseDistribution] = {
        each.name: optuna.distributions.FloatDistribution(-0.5, len(each.values) - 0.5) for each in parameters
    }
    trials = [
        optuna.trial.create_trial(
            params=dict(zip(ranges, map(float, row), strict=True)), distributions=ranges, value=figure
        )
        for row, figure in zip(places, figures, strict=True)
    ]
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(verbosity)
    study.add_trials(trials)
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=seed)
    found = {name: round(float(share), _DIGITS) for name, share in evaluator.evaluate(study).items()}
    return dict(sorted(found.items(), key=lambda item: (-item[1], list(ranges).index(item[0]))))


def _missing(package: str) -> ConfigError:
    return ConfigError(f"sensitivities need {package}, which is not installed; pip install 'npuvm[explore]'")
