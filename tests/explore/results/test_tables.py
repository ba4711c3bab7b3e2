"""Tables of points: CSV and Parquet hold every figure exactly, the front's table a row for each different trade."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace

import pytest
from pyarrow import parquet
from rich.console import Console
from tests.explore.results.kit import done, entries_of, measures_of, mixed_entries, small_space

from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import front_entries
from npuvm.explore.results.tables import front_table, points_csv, points_parquet
from npuvm.explore.results.words import figure_text, measures_seen, point_text, short_names
from npuvm.explore.space import Parameter
from npuvm.hw.errors import ConfigError


def printed(most: int | None = None, entries: tuple[Entry, ...] | None = None) -> list[str]:
    console = Console(width=160, file=io.StringIO())
    console.print(front_table(small_space(), mixed_entries() if entries is None else entries, most))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_the_csv_has_every_point_with_all_digits() -> None:
    entries = mixed_entries()
    rows = list(csv.DictReader(io.StringIO(points_csv(small_space(), entries))))
    assert len(rows) == 24
    front = {entry.number for entry in front_entries(small_space(), entries)}
    for entry, row in zip(entries, rows, strict=True):
        assert (row["number"], row["state"]) == (str(entry.number), entry.evaluation.state)
        assert row["front"] == ("true" if entry.number in front else "false")
        assert row["core.count"] == str(entry.point["core.count"])
        assert row["isa.extensions.fma"] in ("true", "false")
    for name, value in measures_of(entries[0].point).items():
        assert float(rows[0][name]) == value
    assert rows[1]["latency_us"] == ""
    assert rows[1]["error"] == "short: no room for <a tile> of 4 KiB in ub_kib = 128"
    assert (rows[9]["bounds"], rows[9]["runs_skipped"], rows[9]["host_cpu_seconds"]) == ("latency_us", "3", "0.125")
    assert "decoder_gates" not in rows[0]


def test_the_parquet_file_has_the_same_table_with_types() -> None:
    entries = mixed_entries()
    table = parquet.read_table(io.BytesIO(points_parquet(small_space(), entries)))
    assert table.schema.metadata[b"npuvm.space"].decode() == small_space().text
    rows = table.to_pylist()
    assert [row["number"] for row in rows] == list(range(24))
    assert rows[0]["latency_us"] == measures_of(entries[0].point)["latency_us"]
    assert rows[1]["latency_us"] is None
    assert rows[9]["bounds"] == ["latency_us"]
    assert rows[2]["isa.extensions.fma"] is False
    assert rows[3]["compiler.fusion"] == "pattern"
    text = list(csv.DictReader(io.StringIO(points_csv(small_space(), entries))))
    assert list(table.column_names) == list(text[0])


def test_values_of_several_types_are_texts_in_parquet_and_numbers_stay_numbers() -> None:
    space = replace(
        small_space(),
        parameters=(Parameter("rate", "field", ("1/3", 2)), Parameter("state", "field", (1, 2.5))),
    )
    entries = [
        Entry(0, {"rate": "1/3", "state": 1}, done(mixed_entries()[0].point)),
        Entry(1, {"rate": 2, "state": 2.5}, done(mixed_entries()[0].point)),
    ]
    rows = parquet.read_table(io.BytesIO(points_parquet(space, entries))).to_pylist()
    assert [row["rate"] for row in rows] == ["1/3", "2"]
    # The parameter shares its name with a column.
    assert [row["parameter state"] for row in rows] == [1.0, 2.5]
    assert [row["state"] for row in rows] == ["done", "done"]


def test_an_empty_study_has_tables_too() -> None:
    assert points_csv(small_space(), []).startswith("number,state,front,core.count,")
    assert parquet.read_table(io.BytesIO(points_parquet(small_space(), []))).num_rows == 0
    assert front_table(small_space(), []).caption == "front: 0; evaluated: 0"


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'npuvm\[explore\]'"):
        points_parquet(small_space(), [])


def test_the_front_stands_in_a_table_with_what_varies() -> None:
    head, _, *rows = printed()
    assert head.split() == ["#", "latency_us", "area_mm2", "count", "ub_kib", "fusion", "fma"]
    # 8 + 64 / 4 / 2 us and 2 x 4 + 1 mm2 by hand.
    assert rows[0].split() == ["18", "16", "9", "4", "128", "pattern", "false"]
    caption = front_table(small_space(), mixed_entries()).caption
    assert caption == "front: 3; evaluated: 24 (19 done, 1 pruned, 1 over budget, 3 failed)"


def test_equal_points_share_a_row() -> None:
    entries = tuple(Entry(n, entries_of()[2].point, entries_of()[2].evaluation) for n in range(7))
    head, _, row, *_ = printed(entries=entries)
    assert head.endswith("the same")
    assert row.endswith("1, 2, 3, 4 and 2 more")
    assert front_table(small_space(), entries).caption == "front: 1; evaluated: 7 (7 done)"


def test_points_of_several_codes_are_marked() -> None:
    entries = tuple(
        replace(entry, evaluation=replace(entry.evaluation, code="" if entry.number < 12 else "c0de"))
        for entry in mixed_entries()
    )
    head, _, *rows = printed(entries=entries)
    codes = {int(row.split()[0]): row.split()[-1] for row in rows[:3]}
    assert head.endswith("code")
    assert codes == {number: "unknown" if number < 12 else "c0de" for number in codes}
    assert len(set(codes.values())) == 2
    table = parquet.read_table(io.BytesIO(points_parquet(small_space(), entries))).to_pylist()
    assert [row["code"] for row in table] == [None] * 12 + ["c0de"] * 12


def test_values_are_shown_as_they_are() -> None:
    space = replace(small_space(), parameters=(Parameter("isa.extensions.a[b]", "field", ("[red]", "[/x]")),))
    entry = Entry(0, {"isa.extensions.a[b]": "[/x]"}, entries_of()[0].evaluation)
    console = Console(width=160, file=io.StringIO())
    console.print(front_table(space, [entry]))
    assert isinstance(console.file, io.StringIO)
    assert "a[b]" in console.file.getvalue()
    assert "[/x]" in console.file.getvalue()


def test_a_table_may_be_shortened_and_keeps_both_ends() -> None:
    _, _, first, last, *_ = printed(most=2)
    assert (first.split()[1:3], last.split()[1:3]) == (["16", "9"], ["40", "3"])
    assert printed(most=3) == printed()
    assert str(front_table(small_space(), mixed_entries(), 2).caption).startswith("front: 2 of 3;")


def test_names_are_as_short_as_they_can_be() -> None:
    names = ["core.load.startup_cycles", "core.store.startup_cycles", "core.count", "memory.count", "chip"]
    assert list(short_names(names).values()) == [
        "load.startup_cycles",
        "store.startup_cycles",
        "core.count",
        "memory.count",
        "chip",
    ]


def test_bounds_are_marked_and_what_is_missing_is_a_dash() -> None:
    entry = mixed_entries()[9].evaluation
    assert figure_text(entry, "latency_us") == "≥ 30"
    assert figure_text(entry, "area_mm2") == "5.5"
    assert figure_text(entry, "energy_uj") == "-"
    assert (
        figure_text(
            replace(entry, measures={"throughput_per_s": 5.0}, bounds=("throughput_per_s",)), "throughput_per_s"
        )
        == "≤ 5"
    )


def test_measures_stand_in_the_order_objectives_chip_workloads() -> None:
    point = entries_of()[0].point
    more = {"energy_uj of more": 1.0, "latency_us of more": 1.0, "latency_us of short": 1.0, **measures_of(point)}
    space = small_space(("area_mm2",))
    assert measures_seen(space, [done(point, measures=more)]) == (
        "area_mm2",
        "latency_us",
        "throughput_per_s",
        "energy_uj",
        "power_w",
        "latency_us of short",
        "latency_us of more",
        "energy_uj of more",
    )


def test_a_point_names_what_varies() -> None:
    text = point_text(small_space(), entries_of()[0].point)
    assert text == "core.count=1, core.ub_kib=128, compiler.fusion=none, isa.extensions.fma=false"
