"""Sensitivities against variances worked out over the whole grid."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product
from math import exp

import numpy as np
import pytest
from tests.explore.results.kit import done, entries_of, mixed_entries, pruned, small_space

from npuvm.explore.evaluation import Evaluation
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.sensitivity import sensitivities
from npuvm.explore.space import Parameter, Space
from npuvm.hw.errors import ConfigError

VALUES = ("c", "a", "b")
EFFECT = {"c": 0.0, "a": 2.0, "b": 1.0}


def grid(keep: int = 1) -> tuple[Space, list[Entry]]:
    """latency = exp(3 steps + 2 kind + first x second), on a grid of 4 x 3 x 2 x 2 x 2, one point of `keep`."""
    parameters = (
        Parameter("core.count", "field", (1, 2, 4, 8)),
        Parameter("kind", "bundle", VALUES),
        *(Parameter(f"core.{name}", "field", (0, 1)) for name in ("first", "second", "nothing")),
    )
    entries = []
    for number, (steps, kind, first, second, nothing) in enumerate(product(range(4), VALUES, (0, 1), (0, 1), (0, 1))):
        point = {
            "core.count": 2**steps,
            "kind": kind,
            "core.first": first,
            "core.second": second,
            "core.nothing": nothing,
        }
        latency = exp(3 * steps + 2 * EFFECT[kind] + 4 * (first ^ second))
        entries.append(Entry(number, point, Evaluation("done", {"latency_us": latency, "area_mm2": 5.0})))
    return replace(small_space(), parameters=parameters), entries[::keep]


def test_shares_are_parts_of_the_variance_of_the_logarithm() -> None:
    space, entries = grid()
    latency, area = sensitivities(space, entries)
    # Variances of each term over the grid; that of the last belongs to no parameter alone.
    steps, kind, both = np.var([0, 3, 6, 9]), np.var([0, 4, 2]), np.var([0, 4])
    whole = steps + kind + both
    assert latency.shares["core.count"] == pytest.approx(steps / whole, abs=0.05)
    assert latency.shares["kind"] == pytest.approx(kind / whole, abs=0.05)
    assert sum(latency.shares.values()) == pytest.approx(1 - both / whole, abs=0.08)
    assert latency.shares["core.nothing"] < 0.02
    assert list(latency.shares)[:2] == ["core.count", "kind"]
    assert latency.explained is not None
    assert latency.explained > 0.7
    assert (latency.points, latency.note) == (96, "")
    assert (area.shares, area.note) == ({}, "it is the same at every point")


def test_equal_arguments_give_equal_shares_and_another_seed_others() -> None:
    space, entries = grid(keep=3)
    first = sensitivities(space, entries, seed=7)
    assert first == sensitivities(space, entries, seed=7)
    assert first != sensitivities(space, entries, seed=8)


def test_too_few_points_are_told_instead_of_guessed_from() -> None:
    found = sensitivities(small_space(), entries_of()[:11])
    assert [each.shares for each in found] == [{}, {}]
    assert found[0].note == "11 points have a figure, too few for 4 parameters; 12 are needed"
    assert found[0].explained is None
    assert sensitivities(small_space(), entries_of()[:12])[0].shares
    more = tuple(Parameter(f"core.p{n}", "field", (0, 1)) for n in range(7))
    space = replace(small_space(), parameters=more)
    entries = [Entry(n, {each.name: n % 2 for each in more}, entries_of()[n].evaluation) for n in range(13)]
    assert sensitivities(space, entries)[0].note.endswith("too few for 7 parameters; 14 are needed")
    single = replace(small_space(), parameters=more[:1])
    assert sensitivities(single, entries[:2])[0].note.endswith("too few for 1 parameter; 12 are needed")


def test_noise_is_not_passed_off_as_knowledge() -> None:
    space, entries = grid()
    rng = np.random.default_rng(2)
    noisy = [
        replace(each, evaluation=Evaluation("done", {"latency_us": rng.random(), "area_mm2": 1.0})) for each in entries
    ]
    latency, _ = sensitivities(space, noisy)
    assert latency.explained is not None
    assert latency.explained < 0.3
    assert latency.note == "points left out are not foretold well; more points make shares surer"


def test_bounds_and_failures_are_no_figures_and_points_over_budget_are() -> None:
    latency, area = sensitivities(small_space(), mixed_entries())
    # Of 24 points three failed, which have an area, and one has a bound of its latency.
    assert (latency.points, area.points) == (20, 24)
    assert pruned(entries_of()[9].point).bounds == ("latency_us",)


def test_rounding_is_no_difference() -> None:
    point = entries_of()[0].point
    entries = [
        Entry(
            number,
            {**point, "core.count": (1, 2)[number % 2]},
            done(point, measures={"latency_us": 3.0 + number * 1e-14}),
        )
        for number in range(20)
    ]
    assert sensitivities(small_space(), entries)[0].note == "it is the same at every point"


def test_figures_that_are_not_positive_stay_as_they_are() -> None:
    space, entries = grid()
    flat = [
        replace(
            each, evaluation=Evaluation("done", {"latency_us": float(each.point["core.count"] == 8), "area_mm2": 1.0})
        )
        for each in entries
    ]
    assert sensitivities(space, flat)[0].shares["core.count"] == pytest.approx(1.0, abs=0.01)


def test_of_very_many_points_some_are_taken_evenly() -> None:
    space, entries = grid()
    many = [Entry(number, entry.point, entry.evaluation) for number, entry in enumerate(entries * 25)]
    latency, _ = sensitivities(space, many)
    assert latency.points == 1000
    assert latency.shares["core.count"] == pytest.approx(
        sensitivities(space, entries)[0].shares["core.count"], abs=0.05
    )


def test_a_space_of_one_point_has_nothing_to_vary() -> None:
    space = replace(small_space(), parameters=(Parameter("core.count", "field", (1,)),))
    entry = Entry(0, {"core.count": 1}, done(entries_of()[0].point))
    assert sensitivities(space, [entry])[0].note == "no parameter has more than one value"


@pytest.mark.parametrize(("module", "package"), [("optuna", "optuna"), ("sklearn.ensemble", "scikit-learn")])
def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, module: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{package}, which is not installed; pip install 'npuvm\[explore\]'"):
        sensitivities(small_space(), entries_of())
