"""Figures over rows, with numbers worked out by hand."""

from __future__ import annotations

import pytest
from benchmarks.validation.rows import Row
from benchmarks.validation.simulation import Outcome
from benchmarks.validation.summary import groups, rank_correlation, summarise
from benchmarks.validation.tables import report


def outcome(name: str, measured: float, simulated: float, part: str = "held_out", within: str = "g") -> Outcome:
    row = Row("f", name, "c", "v", "A", "s", {"task_us": measured}, part, None, "k", {}, "task_us", within)
    return Outcome(row, simulated, 1, None, {})


def test_errors() -> None:
    rows = [outcome("a", 100, 110), outcome("b", 200, 150), outcome("c", 50, 50)]
    summary = summarise(rows)
    assert summary is not None
    assert (summary.count, summary.worst.row.id) == (3, "b")
    assert summary.mape == pytest.approx((0.1 + 0.25 + 0) / 3)
    assert summary.signed == pytest.approx((0.1 - 0.25) / 3)
    assert summarise([]) is None


@pytest.mark.parametrize(
    ("a", "b", "rho"),
    [
        ([1, 2, 3], [10, 20, 30], 1),
        ([1, 2, 3], [3, 2, 1], -1),
        ([1, 2, 3, 4], [1, 3, 2, 4], 0.8),  # 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15)
        ([1, 2, 2, 3], [1, 2, 3, 4], 0.9487),  # ranks 1, 2.5, 2.5, 4: 4.5 / sqrt(4.5 * 5)
        ([1], [2], None),
        ([1, 1], [1, 2], None),
    ],
)
def test_rank_correlation(a: list[float], b: list[float], rho: float | None) -> None:
    found = rank_correlation(a, b)
    assert found == (None if rho is None else pytest.approx(rho, abs=1e-4))


def test_groups_and_the_printed_report() -> None:
    rows = [outcome("a", 100, 110, "fitted"), outcome("b", 200, 150), outcome("c", 300, 330, within="h")]
    assert {name: len(each) for name, each in groups(rows).items()} == {"g": 2, "h": 1}
    text = "\n".join(report(rows))
    assert text.index("class A, fitted") < text.index("class A, held out") < text.index("by group")
    assert "3 rows, mean absolute error 15.0%, signed -1.7%, worst b -25.0%" in text
