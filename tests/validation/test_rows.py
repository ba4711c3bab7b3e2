"""The rows of the validation: each in one set, the split as docs/decisions/0033-validation-split.md fixes it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from benchmarks.validation.rows import SETS, Row, load_rows

ROWS = load_rows()
CLASS_A = [row for row in ROWS if row.kind == "A"]


def names(rows: list[Row]) -> set[str]:
    return {row.id for row in rows}


def test_counts() -> None:
    """The numbers that docs/validation.md gives; a row that comes or goes must be told there."""
    assert Counter(row.kind for row in ROWS) == {"A": 79, "B": 57, "excluded": 42}
    assert Counter(row.set for row in CLASS_A) == {"fitted": 34, "held_out": 45}
    assert Counter(row.chip for row in CLASS_A) == {
        "ascend_910b1": 38, "ascend_950pr": 31, "ascend_910b2": 6, "ascend_a3": 4,
    }  # fmt: skip


def test_at_least_half_is_held_out_and_no_row_is_in_two_sets() -> None:
    parts = {each: names([row for row in CLASS_A if row.set == each]) for each in SETS}
    assert not parts["fitted"] & parts["held_out"]
    assert parts["fitted"] | parts["held_out"] == names(CLASS_A)
    assert 2 * len(parts["held_out"]) >= len(CLASS_A)
    assert len(names(ROWS)) == len(ROWS)


@pytest.mark.parametrize(
    "group", ["dma-950pr-same", "matmul-a3", "matmul-910b1-basic", "matmul-950pr-basic", "attention-910b2"]
)
def test_groups_that_are_held_out_whole_or_alternate(group: str) -> None:
    sets = [row.set for row in CLASS_A if row.within == group]
    if group == "attention-910b2":
        assert sets == ["fitted", "held_out"] * 3
    else:
        assert set(sets) == {"held_out"}


def test_what_is_compared_was_measured() -> None:
    for row in ROWS:
        assert row.kind == "excluded" or row.value > 0
        assert row.source.split(",")[0].count("/") == 1, f"{row.id}: a source begins with its repository"


def test_core_time_where_it_is_given() -> None:
    """Core time is compared where the source has it, but for the 950PR, whose core times contradict themselves."""
    for row in CLASS_A:
        if row.compare == "task_us" and row.chip != "ascend_950pr":
            assert "core_us" not in row.measured, row.id


def test_core_time_from_total_cycles_agrees_with_the_profiler() -> None:
    """Where both stand, total cycles / cores / clock is the core time, within a percent."""
    both = [row for row in CLASS_A if row.compare == "core_us" and "total_cycles" in row.measured]
    assert len(both) == 15
    for row in both:
        assert row.params is not None
        derived = row.measured["total_cycles"] / row.params["cores"] / 1850
        assert row.value == pytest.approx(derived, rel=0.01), row.id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{id: a, class: C}", "class 'C'"),
        ("{id: a, class: A, measured: {furlongs: 1}}", "furlongs"),
        ("{id: a, class: excluded, measured: {}}", "reason"),
        ("{id: a, class: A, measured: {}, reason: none}", "reason"),
        ("{id: a, class: A, measured: {}}", "fitted, held_out"),
        ("{id: a, class: B, set: fitted, measured: {}}", "fitted, held_out"),
        ("{id: a, class: B, measured: {cycles: 1}, kernel: k, params: {}, within: w, compare: task_us}", "compare"),
        ("{id: a, class: B, measured: {cycles: 1}, colour: red}", "colour"),
    ],
)
def test_what_breaks_the_schema_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(f"family: f\nsource: s\nrows:\n  - {text}\n")
    with pytest.raises(ValueError, match=message):
        load_rows(tmp_path)


def test_a_row_that_stands_twice_is_refused(tmp_path: Path) -> None:
    row = "{id: a, chip: c, variant: v, class: excluded, reason: r, measured: {}}"
    (tmp_path / "bad.yaml").write_text(f"family: f\nsource: s\nrows:\n  - {row}\n  - {row}\n")
    with pytest.raises(ValueError, match="twice"):
        load_rows(tmp_path)
