"""A comparison of two points as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from npuvm.explore.results.comparison import Comparison, MeasurePair, Pair, WorkloadPair
from npuvm.explore.results.words import measure_of, value_text
from npuvm.runtime.html.words import nbytes, percent, three_digits
from npuvm.runtime.tables import plain_table

__all__ = ["comparison_tables"]

_MOST_UNITS = 12
"""Of what units did, so many rows are shown: those that changed most."""


def comparison_tables(found: Comparison) -> Iterator[Table]:
    """Parameters that differ, measures, each workload's time by unit, bytes and energy, and area; empty ones are left out."""
    heads = (str(found.a), str(found.b))
    if found.parameters:
        table = plain_table([("parameter", False), *((head, False) for head in heads)])
        for name, (a, b) in found.parameters.items():
            table.add_row(*map(escape, (name, value_text(a), value_text(b))))
        yield table
    yield _measures(found.measures, heads)
    for workload in found.workloads:
        yield _times(workload, heads)
        if workload.bytes:
            yield _parts(f"bytes of {workload.workload}", workload.bytes, heads, text=nbytes)
        if workload.energy_uj:
            yield _parts(f"energy of {workload.workload}, uJ", workload.energy_uj, heads)
    if found.area_mm2:
        yield _parts("area, mm2", found.area_mm2, heads)


def _measures(measures: Iterable[MeasurePair], heads: tuple[str, str]) -> Table:
    table = plain_table([("measure", False), *((head, True) for head in heads), ("change", True)])
    for each in measures:
        mark = "≥ " if measure_of(each.name).sign > 0 else "≤ "
        sides = [
            "-" if figure is None else (mark if bound else "") + three_digits(figure)
            for figure, bound in zip((each.a, each.b), each.bounds, strict=True)
        ]
        table.add_row(each.name, *sides, "-" if each.figures is None else _change(each.figures))
    return table


def _times(workload: WorkloadPair, heads: tuple[str, str]) -> Table:
    """Time of a run, then what units of a mean core did, the largest changes first."""
    table = plain_table(
        [(f"time of {workload.workload}, us", False), *((head, True) for head in heads), ("change", True)]
    )
    totals = (
        ("latency", workload.latency_us),
        ("host's dispatch", workload.host_us),
        ("on the device", workload.device_us),
    )
    for name, pair in totals:
        table.add_row(name, *_sides(pair), _change(pair))
    ranked = [each for each in _ranked(workload.units) if not each.same]
    for pair in ranked[:_MOST_UNITS]:
        table.add_row(f"  {pair.name}", *_sides(pair), _change(pair))
    if len(ranked) > _MOST_UNITS:
        table.add_row(f"  {len(ranked) - _MOST_UNITS} others changed less")
    for name, pair in (("cycles", workload.cycles), ("launches", workload.launches)):
        table.add_row(name, *_sides(pair, "{:,.6g}".format if pair.a < 1e3 else "{:,.0f}".format), _change(pair))
    return table


def _parts(
    head: str, parts: Sequence[Pair], heads: tuple[str, str], text: Callable[[float], str] = three_digits
) -> Table:
    table = plain_table([(head, False), *((each, True) for each in heads), ("change", True)])
    for pair in _ranked(parts):
        table.add_row(pair.name.replace("_", " "), *_sides(pair, text), _change(pair))
    return table


def _ranked(parts: Iterable[Pair]) -> list[Pair]:
    """Parts by how much they change, without those that are nothing on both."""
    return sorted((each for each in parts if each.a or each.b), key=lambda each: -abs(each.change))


def _sides(pair: Pair, text: Callable[[float], str] = three_digits) -> tuple[str, str]:
    return text(pair.a), text(pair.b)


def _change(pair: Pair) -> str:
    if pair.same:
        return "same"
    return "new" if pair.share is None else ("+" if pair.share > 0 else "") + percent(pair.share)
