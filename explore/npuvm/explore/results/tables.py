"""Points as tables: CSV and Parquet of all, and the front for a terminal."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from npuvm.explore.evaluation import EvaluationState
from npuvm.explore.results.codes import by_code
from npuvm.explore.results.entry import Entry
from npuvm.explore.results.front import Vector, done_vector, front_entries
from npuvm.explore.results.words import figure_text, measures_seen, short_names, value_text, varied
from npuvm.explore.space import Space
from npuvm.hw.errors import ConfigError
from npuvm.runtime.tables import plain_table

__all__ = ["distinct_front", "front_table", "point_columns", "points_csv", "points_parquet"]

_STATES: tuple[EvaluationState, ...] = ("done", "pruned", "over_budget", "failed")
_ABOUT = ("number", "state", "front")
_COST = ("host_cpu_seconds", "runs_simulated", "runs_shared", "runs_skipped", "code")


def point_columns(space: Space, entries: Iterable[Entry]) -> dict[str, list[Any]]:
    """Every point, column by column, in the order of the entries; None where a point has no such figure.

    Columns: number, state, whether it is of the front, the parameters, the measures, which of these are bounds, the error, and
    what the point cost the host, and the code that evaluated it.
    """
    listed = tuple(entries)
    front = {entry.number for entry in front_entries(space, listed)}
    evaluations = [entry.evaluation for entry in listed]
    measures = measures_seen(space, evaluations)
    columns: dict[str, list[Any]] = {
        "number": [entry.number for entry in listed],
        "state": [each.state for each in evaluations],
        "front": [entry.number in front for entry in listed],
    }
    taken = {*_ABOUT, *measures, "bounds", "error", *_COST}
    for parameter in space.parameters:
        # A bundle may have the name of another column.
        name = f"parameter {parameter.name}" if parameter.name in taken else parameter.name
        columns[name] = [entry.point[parameter.name] for entry in listed]
    for measure in measures:
        columns[measure] = [each.measures.get(measure) for each in evaluations]
    columns["bounds"] = [list(each.bounds) for each in evaluations]
    columns["error"] = [each.error for each in evaluations]
    columns["host_cpu_seconds"] = [each.host.cpu_seconds for each in evaluations]
    for how in ("simulated", "shared", "skipped"):
        columns[f"runs_{how}"] = [each.host.runs.get(how, 0) for each in evaluations]
    columns["code"] = [each.code or None for each in evaluations]
    return columns


def points_csv(space: Space, entries: Iterable[Entry]) -> str:
    """Every point as CSV with a head; numbers keep all their digits, bounds stand in one field with "; " between them."""
    columns = point_columns(space, entries)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(value) for value in row] for row in zip(*columns.values(), strict=True))
    return text.getvalue()


def _field(value: Any) -> str:
    if value is None:
        return ""
    return "; ".join(value) if isinstance(value, list) else value_text(value)


def points_parquet(space: Space, entries: Iterable[Entry]) -> bytes:
    """Every point as Parquet; the file's metadata has the text of the space as `npuvm.space`.

    Values of a parameter that are not of one type are texts. ConfigError when pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        message = "Parquet files are written by pyarrow, which is not installed; pip install 'npuvm[explore]'"
        raise ConfigError(message) from None
    listed = tuple(entries)
    types = dict.fromkeys(measures_seen(space, [entry.evaluation for entry in listed]), pa.float64())
    types |= {
        "bounds": pa.list_(pa.string()),
        "error": pa.string(),
        "code": pa.string(),
        "host_cpu_seconds": pa.float64(),
    }
    columns = point_columns(space, listed)
    arrays = {name: pa.array(_of_one_type(values), type=types.get(name)) for name, values in columns.items()}
    table = pa.table(arrays).replace_schema_metadata({"npuvm.space": space.text})
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


def _of_one_type(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [value_text(value) for value in values]


def distinct_front(space: Space, entries: Iterable[Entry]) -> dict[Vector, list[Entry]]:
    """The points of the front by their figures, by rising first objective; several may share them."""
    groups: dict[Vector, list[Entry]] = {}
    for entry in front_entries(space, entries):
        vector = done_vector(space, entry)
        if vector is not None:
            groups.setdefault(vector, []).append(entry)
    return groups


def front_table(
    space: Space, entries: Sequence[Entry], most: int | None = None, states: Mapping[EvaluationState, int] | None = None
) -> Table:
    """The front, a row for each different set of figures; with `most` at least 2, so many rows spread evenly over it.

    `states` are how many points were evaluated, by state, where the entries are not all of them.

    Where several codes evaluated the points, a column says which one each row's first point.
    """
    groups = list(distinct_front(space, entries).values())
    shown = groups if most is None else _spread(groups, most)
    parameters = varied(space)
    names: Mapping[str, str] = short_names(parameter.name for parameter in parameters)
    same = any(len(group) > 1 for group in shown)
    mixed = len(by_code(entries)) > 1
    table = plain_table(
        [
            ("#", True),
            *((objective.name, True) for objective in space.objectives),
            *((escape(names[parameter.name]), parameter.ordered) for parameter in parameters),
            *([("the same", False)] if same else []),
            *([("code", False)] if mixed else []),
        ]
    )
    for first, *others in shown:
        figures = [figure_text(first.evaluation, objective.name) for objective in space.objectives]
        values = [escape(value_text(first.point[parameter.name])) for parameter in parameters]
        about = [*([_numbers(others)] if same else []), *([first.evaluation.code or "unknown"] if mixed else [])]
        table.add_row(str(first.number), *figures, *values, *about)
    counts = Counter(entry.evaluation.state for entry in entries) if states is None else states
    table.caption = _caption(len(shown), len(groups), counts)
    table.caption_justify = "left"
    return table


def _spread(groups: list[list[Entry]], most: int) -> list[list[Entry]]:
    if len(groups) <= most:
        return groups
    return [groups[at * (len(groups) - 1) // (most - 1)] for at in range(most)]


def _numbers(entries: Sequence[Entry], most: int = 4) -> str:
    text = ", ".join(str(entry.number) for entry in entries[:most])
    return text if len(entries) <= most else f"{text} and {len(entries) - most} more"


def _caption(shown: int, of: int, states: Mapping[EvaluationState, int]) -> str:
    counts = [f"{count} {state.replace('_', ' ')}" for state in _STATES if (count := states.get(state, 0))]
    front = f"front: {shown} of {of}" if shown < of else f"front: {of}"
    return f"{front}; evaluated: {sum(states.values())}" + (f" ({', '.join(counts)})" if counts else "")
