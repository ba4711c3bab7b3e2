"""Points that are out by what is known before they run: never asked for, and nothing of the front is lost by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.explore.evaluation.kit import make_space
from tests.explore.study.kit import TEXT, Quick, found, quick, small_space

from npuvm.explore.evaluation import Evaluation, Evaluator, StoreError
from npuvm.explore.space import Point
from npuvm.explore.study import InProcess, SamplerName, Screen, Study

SAMPLERS: tuple[SamplerName, ...] = ("random", "tpe", "nsga2")


def limits(point: Point) -> Mapping[str, float]:
    """What is known of a point of the small space before it runs; an error where it fails."""
    evaluation = quick(point, ())
    if evaluation.state == "failed":
        raise ValueError(evaluation.error)
    measures = evaluation.measures
    return {"latency_us": 0.9 * measures["latency_us"], "area_mm2": measures["area_mm2"]}


@cache
def every() -> Mapping[Any, Evaluation]:
    space = small_space()
    return {space.key(point): quick(point, ()) for point in space.points() if space.fault(point) is None}


def best(evaluations: Mapping[Any, Evaluation]) -> set[Any]:
    """Keys of the points that none of the others beats."""
    done = {
        key: (each.measures["latency_us"], each.measures["area_mm2"])
        for key, each in evaluations.items()
        if each.state == "done"
    }
    return {
        key
        for key, at in done.items()
        if not any(other != at and other[0] <= at[0] and other[1] <= at[1] for other in done.values())
    }


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_front_is_whole_although_not_every_point_is_asked_for(sampler: SamplerName, tmp_path: Path) -> None:
    space = small_space()
    screen = Screen(space, limits)
    with Study.open(space, str(tmp_path / "small.sqlite"), sampler) as study:
        assert study.run(1000, InProcess(Quick()), screen=screen) == "exhausted"
        evaluations = {space.key(entry.point): entry.evaluation for entry in study.evaluated()}
    assert best(evaluations) == best(every())
    states = Counter(each.state for each in every().values())
    assert screen.out["over_budget"] == states["over_budget"] > 0
    assert screen.out["beaten"] > 0
    assert len(evaluations) + screen.out.total() == len(every())
    assert "over_budget" not in {each.state for each in evaluations.values()}
    assert sum(each.state == "failed" for each in evaluations.values()) == states["failed"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_in_parts_asks_for_the_same_points(sampler: SamplerName, tmp_path: Path) -> None:
    results = []
    for name, counts in (("whole", (25,)), ("parts", (3, 7, 12, 25))):
        for count in counts:
            with Study.open(small_space(), str(tmp_path / name), sampler) as study:
                study.run(count, InProcess(Quick()), screen=Screen(small_space(), limits))
                entries = study.evaluated()
        results.append(found(entries))
    assert results[0] == results[1]
    assert len(results[0]) == 25


def test_what_is_out_stays_out_and_is_counted_once() -> None:
    space = small_space()
    points = [point for point in space.points() if limits_or_none(point) is not None]
    screen = Screen(space, limits)
    fast = min(points, key=lambda point: limits(point)["latency_us"])
    slow = max(points, key=lambda point: limits(point)["latency_us"])
    assert screen.keeps(slow)
    known = limits(slow)
    screen.see([(known["latency_us"], known["area_mm2"])])
    assert screen.keeps(slow), "equal figures do not beat it"
    screen.see([(known["latency_us"], known["area_mm2"] - 0.1)])
    assert not screen.keeps(slow)
    assert not screen.keeps(slow)
    assert screen.out == {"beaten": 1}
    assert screen.keeps(fast)


def limits_or_none(point: Point) -> Mapping[str, float] | None:
    return None if quick(point, ()).state in ("failed", "over_budget") else limits(point)


def test_results_that_cannot_be_shared_end_the_search() -> None:
    def broken(_: Point) -> Mapping[str, float]:
        raise StoreError("no space left on the disk")

    with pytest.raises(StoreError):
        Screen(small_space(), broken).keeps(next(iter(small_space().points())))


def test_a_grid_and_a_search_without_bounds_ask_for_every_point(tmp_path: Path) -> None:
    with Study.open(small_space(), str(tmp_path / "grid.sqlite"), "grid") as study:
        assert study.screen() is None
    with Study.open(small_space(), str(tmp_path / "random.sqlite"), "random", bounds=False) as study:
        assert study.screen() is None
    with Study.open(small_space(TEXT), str(tmp_path / "tpe.sqlite"), "tpe") as study:
        assert study.screen() is not None


def test_figures_are_never_better_than_what_was_foreseen(tmp_path: Path) -> None:
    space = make_space(tmp_path)
    evaluator = Evaluator(space)
    points = list(space.points())
    for point in points[:: len(points) // 2]:
        foreseen, evaluation = evaluator.foresee(point), evaluator.evaluate(point)
        assert 0 < foreseen["latency_us"] <= evaluation.measures["latency_us"]
        assert foreseen["area_mm2"] == evaluation.measures["area_mm2"]


def test_a_search_by_itself_knows_what_is_out(tmp_path: Path) -> None:
    space = make_space(tmp_path, search={"sampler": "random", "evaluations": 8, "batch": 1})
    with Study.open(space, str(tmp_path / "found.sqlite")) as study:
        assert study.run() in ("evaluated", "exhausted")
        found_here = {entry.number: entry.evaluation for entry in study.evaluated()}
    whole = {space.key(point): Evaluator(space).evaluate(point) for point in space.points()}
    wanted = sorted(whole[key].measures["latency_us"] for key in best(whole))
    here = best({(number,): each for number, each in found_here.items()})
    assert sorted(found_here[key[0]].measures["latency_us"] for key in here) == wanted
    assert not any(each.state == "pruned" and not each.runs for each in found_here.values())
