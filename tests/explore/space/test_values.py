from __future__ import annotations

from decimal import Decimal
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.explore.space import Parameter
from npuvm.explore.space.parameters import range_values
from npuvm.explore.space.schema import RangeFields, SizeFields, WorkloadFields
from npuvm.explore.space.workloads import quantiles, sized_runs


def values(**fields: float) -> tuple[int | float, ...]:
    return range_values(
        RangeFields.model_validate({"from" if name == "first" else name: each for name, each in fields.items()})
    )


def test_ranges() -> None:
    assert values(first=1, to=4) == (1, 2, 3, 4)
    assert values(first=64, to=500, factor=2) == (64, 128, 256)
    assert values(first=0.1, to=0.5, step=0.1) == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert values(first=1, to=2, factor=1.25) == (1, 1.25, 1.5625, 1.953125)
    assert values(first=7, to=7, step=100) == (7,)
    assert [type(value) for value in values(first=0.5, to=1.5, step=0.5)] == [float, int, float]


@given(st.integers(-1000, 1000), st.integers(0, 500), st.integers(1, 400), st.sampled_from([1, 10, 1000]))
def test_steps_are_exact_decimals(first: int, many: int, step: int, scale: int) -> None:
    exact = [Decimal(first + step * at) / scale for at in range(many + 1)]
    found = values(first=first / scale, to=float(exact[-1]), step=step / scale)
    assert [Decimal(str(value)) for value in found] == exact


@given(st.integers(1, 100), st.integers(2, 9), st.integers(0, 12))
def test_factors_are_exact(first: int, factor: int, many: int) -> None:
    assert values(first=first, to=first * factor**many, factor=factor) == tuple(
        first * factor**at for at in range(many + 1)
    )


def test_too_many_values() -> None:
    assert len(values(first=1, to=4096)) == 4096
    with pytest.raises(ValueError, match="more than 4096 values"):
        values(first=1, to=4097)


@pytest.mark.parametrize(
    ("listed", "ordered"),
    [
        ((1, 2, 4), True),
        ((0.5, 1, 2), True),
        ((2, 1), False),
        ((True, False), False),
        (("a", "b"), False),
        ((1, "b"), False),
    ],
)
def test_numbers_in_rising_order_lie_on_a_line(listed: tuple[int | float | str | bool, ...], ordered: bool) -> None:
    assert Parameter("x", "field", listed).ordered is ordered


def test_sizes_of_distributions() -> None:
    even = list(quantiles(SizeFields.model_validate({"uniform": {"least": 0, "most": 100}, "points": 5})))
    assert even == [10, 30, 50, 70, 90]
    spread = list(quantiles(SizeFields.model_validate({"lognormal": {"median": 64, "spread": 2}, "points": 63})))
    assert median(spread) == 64
    assert 0.66 < mean(32 <= each <= 128 for each in spread) < 0.7  # one deviation
    short = list(
        quantiles(SizeFields.model_validate({"lognormal": {"median": 64, "spread": 9, "least": 8, "most": 99}}))
    )
    assert short == [8, 64, 99]


def test_runs_are_combinations_of_sizes_and_equal_ones_are_one() -> None:
    fields = WorkloadFields.model_validate_json('{"name": "w", "model": "m", "sizes": {"a": [1, 2, 2], "b": 7}}')
    runs = sized_runs(fields)
    assert [dict(run.sizes) for run in runs] == [{"a": 1, "b": 7}, {"a": 2, "b": 7}]
    assert [run.weight for run in runs] == pytest.approx([1 / 3, 2 / 3])
    assert runs[1].label == "a=2, b=7"
    joint = '{"name": "w", "model": "m", "sizes": [{"at": {"a": 1}, "weight": 3}, {"at": {"a": 5}}, {"at": {"a": 1}}]}'
    assert [(run.sizes["a"], run.weight) for run in sized_runs(WorkloadFields.model_validate_json(joint))] == [
        (1, 0.8),
        (5, 0.2),
    ]
