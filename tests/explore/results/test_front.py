"""Fronts and hypervolumes, held to all pairs of points and to volumes counted in other ways."""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np
import pytest
from tests.explore.results.kit import (
    done,
    entries_of,
    failed,
    measures_of,
    mixed_entries,
    pruned,
    small_space,
    vectors_of,
)

from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import (
    done_vector,
    front_entries,
    hypervolume,
    hypervolume_history,
    non_dominated,
    reference_point,
    share_found,
)


def by_inclusion_exclusion(vectors: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    """Volume of a union of boxes between points and a reference: sizes of all intersections with alternating signs."""
    return sum(
        float((-1) ** (count + 1)) * prod(max(0.0, r - max(axis)) for r, axis in zip(reference, axes, strict=True))
        for count in range(1, len(vectors) + 1)
        for chosen in combinations(vectors, count)
        for axes in [list(zip(*chosen, strict=True))]
    )


def test_a_point_of_the_front_is_one_that_no_other_beats() -> None:
    rng = np.random.default_rng(1)
    for axes in (1, 2, 3, 4):
        vectors = [tuple(row) for row in rng.integers(0, 5, (40, axes)).tolist()]
        signs = rng.choice([-1, 1], axes).tolist()

        def beats(a: tuple[int, ...], b: tuple[int, ...], signs: list[int] = signs) -> bool:
            pairs = [(s * x, s * y) for s, x, y in zip(signs, a, b, strict=True)]
            return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

        wanted = [at for at, each in enumerate(vectors) if not any(beats(other, each) for other in vectors)]
        assert list(non_dominated(vectors, signs)) == wanted


def test_the_front_of_a_space_is_of_points_that_are_done_sorted_and_with_equal_ones() -> None:
    entries = entries_of()
    front = front_entries(small_space(), entries)
    # With fusion and without the extension, the small buffer: one point for each number of cores.
    assert [(e.point["core.count"], e.point["compiler.fusion"], e.point["core.ub_kib"]) for e in front] == [
        (4, "pattern", 128),
        (2, "pattern", 128),
        (1, "pattern", 128),
    ]
    assert not any(e.point["isa.extensions.fma"] for e in front)
    twice = (*entries, Entry(99, front[0].point, front[0].evaluation))
    assert [e.number for e in front_entries(small_space(), twice)] == [
        front[0].number,
        99,
        *(e.number for e in front[1:]),
    ]
    point = front[0].point
    others = [Entry(0, point, failed("no")), Entry(1, point, pruned(point))]
    assert front_entries(small_space(), others) == ()
    assert done_vector(small_space(), others[1]) is None


def test_more_throughput_is_better() -> None:
    space = small_space(("throughput_per_s", "area_mm2"))
    assert [e.number for e in reversed(front_entries(space, entries_of()))] == [
        e.number for e in front_entries(small_space(), entries_of())
    ]


@pytest.mark.parametrize("axes", [1, 2, 3, 4, 5])
def test_the_hypervolume_is_that_of_a_union_of_boxes(axes: int) -> None:
    rng = np.random.default_rng(axes)
    for count in (1, 2, 5, 9):
        vectors = [tuple(row) for row in rng.integers(0, 12, (count, axes)).tolist()]
        reference = (10.0,) * axes
        wanted = by_inclusion_exclusion(vectors, reference)
        assert hypervolume(vectors, reference, [1] * axes) == pytest.approx(wanted)
        turned = [tuple(-x for x in each) for each in vectors]
        assert hypervolume(turned, (-10.0,) * axes, [-1] * axes) == pytest.approx(wanted)


def test_the_hypervolume_agrees_with_random_darts() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.random((60, 3))
    darts = rng.random((200_000, 3))
    hit = np.zeros(len(darts), dtype=bool)
    for vector in vectors:
        hit |= (darts >= vector).all(axis=1)
    assert hypervolume(vectors.tolist(), [1.0] * 3, [1] * 3) == pytest.approx(hit.mean(), abs=0.005)


def test_a_point_at_the_reference_adds_nothing() -> None:
    assert hypervolume([(1.0, 2.0), (2.0, 0.0)], (2.0, 2.0), (1, 1)) == 0.0
    assert hypervolume([], (2.0, 2.0), (1, 1)) == 0.0


@pytest.mark.parametrize(
    "names", [("latency_us",), ("latency_us", "area_mm2"), ("throughput_per_s", "area_mm2", "energy_uj")]
)
def test_the_history_is_the_volume_of_all_points_so_far(names: tuple[str, ...]) -> None:
    space, entries = small_space(names), mixed_entries()
    signs = [objective.measure.sign for objective in space.objectives]
    reference = reference_point(space, entries)
    assert reference is not None
    history = hypervolume_history(space, entries)
    assert len(history) == len(entries)
    for at in range(len(entries)):
        so_far = [e for e in entries[: at + 1] if e.evaluation.state == "done"]
        assert history[at] == pytest.approx(hypervolume(vectors_of(so_far, names), reference, signs))
    given = hypervolume_history(space, entries, [sign * 1e7 for sign in signs])
    assert given[-1] > history[-1] > 0


def test_the_reference_point_lies_a_tenth_beyond_the_worst() -> None:
    space, entries = small_space(("throughput_per_s", "area_mm2")), entries_of()
    throughput, area = zip(*vectors_of(entries, ("throughput_per_s", "area_mm2")), strict=True)
    assert reference_point(space, entries) == pytest.approx(
        (min(throughput) - 0.1 * (max(throughput) - min(throughput)), max(area) + 0.1 * (max(area) - min(area)))
    )
    one = entries[0]
    assert reference_point(space, [one]) == pytest.approx(
        (measures_of(one.point)["throughput_per_s"] * 0.9, measures_of(one.point)["area_mm2"] * 1.1)
    )
    nothing = [Entry(0, one.point, done(one.point, measures={"throughput_per_s": 0.0, "area_mm2": 0.0}))]
    assert reference_point(space, nothing) == (-0.1, 0.1)
    assert reference_point(space, []) is None
    assert hypervolume_history(space, [Entry(0, one.point, failed("no"))]) == (0.0,)


def test_the_share_of_a_front_counts_different_points_once() -> None:
    assert share_found([(1.0, 2.0), (1.0, 2.0), (3.0, 1.0)], [(3.0, 1.0), (9.0, 9.0)]) == 0.5
    assert share_found([], [(1.0,)]) == 1.0
