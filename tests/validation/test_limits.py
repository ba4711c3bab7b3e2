"""The rows that take no time to run, held to the limits of the validation; docs/validation.md has them all."""

from __future__ import annotations

import pytest
from benchmarks.validation.rows import load_rows
from benchmarks.validation.simulation import simulate_row
from benchmarks.validation.tables import missed_aims

ROWS = {row.id: row for row in load_rows()}


@pytest.mark.parametrize("number", range(1, 7))
def test_additions_at_given_addresses(number: int) -> None:
    """With conflicts and without, within 2 percent of the board."""
    outcome = simulate_row(ROWS[f"bank-{number}"], "simpy")
    assert abs(outcome.error) < 0.02


def test_conflicts_are_what_makes_the_difference() -> None:
    without = [simulate_row(ROWS[f"bank-{n}"], "simpy", ["core.ub_banks=null"]).value for n in (1, 2, 5)]
    assert without[0] == without[1] == without[2]


def test_products_of_one_tile() -> None:
    """PTO's counts of cube instructions, which its formula gives exactly; a loop's start is in ours."""
    for row in ROWS.values():
        if row.kind == "B" and row.params is not None and row.params["op"] == "mma":
            assert simulate_row(row, "simpy").value == pytest.approx(row.value, abs=0.5)


def test_missed_aims_are_named() -> None:
    far = simulate_row(ROWS["bank-2"], "simpy", ["core.ub_banks=null"])
    assert far.error == pytest.approx(-0.42, abs=0.01)
    assert [line.split(":")[0] for line in missed_aims([far])] == ["mean absolute error 42.3% is above 10%", "bank-2"]
