from __future__ import annotations

from fractions import Fraction

from npuvm.hw.results.sums import sum_by_key


def test_each_key_is_summed_over_the_parts_that_have_it() -> None:
    assert sum_by_key([{"b": 1}, {"a": 2, "b": 3}, {}]) == {"b": 4, "a": 2}
    assert list(sum_by_key([{"b": 1}, {"a": 2, "b": 3}])) == ["b", "a"]
    assert sum_by_key([{"x": Fraction(1, 3)}, {"x": Fraction(1, 6)}]) == {"x": Fraction(1, 2)}


def test_the_parts_stay_as_they_are() -> None:
    parts = [{"a": 1}, {"a": 2}]
    sum_by_key(parts)
    assert parts == [{"a": 1}, {"a": 2}]
