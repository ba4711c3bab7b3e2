"""Optuna's samplers, held to points of a space that are new. Imported only where optuna is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from npuvm.explore.evaluation import Evaluation
from npuvm.explore.space import MEASURES, Parameter, Point, Space, Value
from npuvm.explore.study.candidates import Candidates
from npuvm.explore.study.screen import Screen
from npuvm.explore.study.settings import Settings

__all__ = ["VIOLATION", "Search", "directions_of", "distributions_of", "parameters_of", "point_of", "violation_of"]

VIOLATION = "violation"
"""The name of the constraint of trials: how far a point is from what is allowed."""

_ATTEMPTS = {"grid": 0, "random": 256, "tpe": 4, "nsga2": 4}
"""Combinations of a sampler that may be refused, with all their neighbours, before the spare point is taken."""

_PRUNED, _FAILED = 1e-6, 1e6


class Search:
    """What a sampler has seen, in memory: the same whenever the same points are told in the same order.

    Points are asked for, or replayed where they are known from an earlier run, and told, in the order of their numbers. Points
    that the screen does not keep are not asked for.
    """

    def __init__(self, space: Space, settings: Settings, screen: Screen | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._candidates = Candidates(space, None if settings.sampler == "grid" else settings.seed, screen)
        self._sampler = _PointSampler(space, settings, self._candidates)
        self._study = optuna.create_study(directions=directions_of(space), sampler=self._sampler)
        self._distributions = distributions_of(space)
        self._trials: list[Trial] = []

    @property
    def ended(self) -> bool:
        """Whether every combination of the space was looked at: none is left when `ask` gives none."""
        return self._candidates.ended

    def ask(self) -> Point | None:
        """Another point; None where none is left, or none was found."""
        spare = self._candidates.spare()
        return None if spare is None else self._begin(spare)

    def replay(self, point: Point) -> None:
        """A point that was asked for in an earlier run."""
        self._study.enqueue_trial(parameters_of(self._space, point))
        self._begin(None)

    def _begin(self, spare: Point | None) -> Point:
        self._sampler.spare = spare
        trial = self._study.ask(self._distributions)
        point = point_of(self._space, trial.params)
        self._candidates.take(point)
        self._trials.append(trial)
        return point

    def tell(self, number: int, evaluation: Evaluation) -> None:
        """What is known of a point; one that failed is shown as the worst there is, so that its like is avoided."""
        trial = self._trials[number]
        if (violation := violation_of(self._space, evaluation)) > 0:
            trial.set_constraint(VIOLATION, violation)
        values = []
        for objective in self._space.objectives:
            value = evaluation.measures.get(objective.name, math.nan)
            values.append(value if math.isfinite(value) else objective.measure.sign * math.inf)
        self._study.tell(trial, values)


class _PointSampler(BaseSampler):
    """Asks a sampler of optuna's for a point that is left; what it knows already stands for a neighbour that is left.

    Samplers come back to where points are good, in spaces of few values to the very points. A neighbour has one other value.

    Every trial has a sampler of its own, seeded by the study's seed and the trial's number, so that it depends on nothing but
    the trials before it. Without a spare point the trial is a replay, whose parameters are known.
    """

    def __init__(self, space: Space, settings: Settings, candidates: Candidates) -> None:
        self.spare: Point | None = None
        self._space = space
        self._settings = settings
        self._candidates = candidates
        self._distributions = distributions_of(space)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Note the generation of a trial, be it a replay, and its parents: a list that is new has an order of its own."""
        if isinstance(inner := _sampler(self._settings, trial.number), NSGAIISampler):
            inner.get_parent_population(study, inner.get_trial_generation(study, trial))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of a point that is left."""
        if self.spare is None:
            return {}
        inner = _sampler(self._settings, trial.number)
        generator = np.random.default_rng([self._settings.seed, trial.number])
        for _ in range(_ATTEMPTS[self._settings.sampler]):
            point = point_of(self._space, _sample(inner, study, trial, search_space))
            around = () if self._settings.sampler == "random" else _neighbours(self._space, point)
            for at in (0, *(1 + generator.permutation(len(around)))):
                proposed = around[at - 1] if at else point
                if self._candidates.left(proposed):
                    return parameters_of(self._space, proposed)
        return parameters_of(self._space, self.spare)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never asked for: parameters come together."""
        raise AssertionError(f"{param_name} was not sampled with the others")

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Samplers know what they need from the trials."""


def _neighbours(space: Space, point: Point) -> list[Point]:
    """Combinations with one other value: of numbers in rising order the next ones, of others any."""
    found: list[Point] = []
    for parameter in space.parameters:
        here = parameter.values.index(point[parameter.name])
        for at, value in enumerate(parameter.values):
            if abs(at - here) == 1 or (at != here and not parameter.ordered):
                found.append({**point, parameter.name: value})
    return found


def _sampler(settings: Settings, number: int) -> BaseSampler:
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    if settings.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=max(10, settings.batch), multivariate=True)
    if settings.sampler == "nsga2":
        return NSGAIISampler(seed=seed, population_size=max(2, settings.batch))
    return RandomSampler(seed=seed)


def _sample(
    sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
) -> dict[str, Any]:
    """All parameters as a sampler of optuna's gives them."""
    related = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
    found: dict[str, Any] = {}
    for name, distribution in space.items():
        if name in related:
            found[name] = related[name]
        elif distribution.single():
            found[name] = distribution.to_external_repr(0.0)
        else:
            found[name] = sampler.sample_independent(study, trial, name, distribution)
    return found


def directions_of(space: Space) -> list[optuna.study.StudyDirection]:
    """Whether less or more of each objective is better."""
    directions = optuna.study.StudyDirection
    return [directions.MINIMIZE if each.measure.sign > 0 else directions.MAXIMIZE for each in space.objectives]


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """What optuna knows of a space. Numbers in rising order go by their index, so that samplers see which are near."""
    return {parameter.name: _distribution(parameter) for parameter in space.parameters}


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.ordered:
        return IntDistribution(0, len(parameter.values) - 1)
    return CategoricalDistribution(parameter.values)


def point_of(space: Space, parameters: Mapping[str, Any]) -> Point:
    """The combination that a trial's parameters mean."""
    values: dict[str, Value] = {}
    for parameter in space.parameters:
        value = parameters[parameter.name]
        values[parameter.name] = parameter.values[value] if parameter.ordered else value
    return values


def parameters_of(space: Space, point: Point) -> dict[str, Any]:
    """What a trial's parameters are for a point."""
    return {
        each.name: each.values.index(point[each.name]) if each.ordered else point[each.name]
        for each in space.parameters
    }


def violation_of(space: Space, evaluation: Evaluation) -> float:
    """How far a point is from what is allowed; 0 for one that is done. One over its budgets by their shares above them."""
    if evaluation.state == "done":
        return 0.0
    if evaluation.state != "over_budget":
        return _PRUNED if evaluation.state == "pruned" else _FAILED
    shares = [0.0]
    for name, limit in space.budgets.items():
        figure = evaluation.measures.get(name, limit)
        low, high = (limit, figure) if MEASURES[name].sign > 0 else (figure, limit)
        shares.append(high / low - 1 if low > 0 else _FAILED)
    return min(max(_PRUNED, sum(share for share in shares if share > 0)), _FAILED)
