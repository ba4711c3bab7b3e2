"""The figures of a report as plotly specifications: plain data and layout.

They have no colours: `meta.role` of a trace (of an annotation, `roles`) says what it stands for, and the page's script paints
it for a light or a dark page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Any, NamedTuple, TypeAlias

from npuvm.hw.explain import KINDS, Cause, LaunchBreakdown
from npuvm.runtime.analysis.recording import ALL_LAUNCHES
from npuvm.runtime.html.kernels import KernelRow
from npuvm.runtime.html.placing import label_places
from npuvm.runtime.html.roofs import Roof
from npuvm.runtime.html.words import quantity, three_digits

__all__ = ["GROUPS", "MOST_BARS", "Figure", "breakdown_figure", "roofline_figure"]

Figure: TypeAlias = dict[str, Any]

MOST_BARS = 60
"""Operators that the bars show; of more, those with the most cycles."""

NARROW_MARKERS = 0.6
"""Size of the roofline's points on a narrow page, of that on a wide one."""

_WIDE, _NARROW = (1120.0, 470.0), (270.0, 370.0)
"""Pixels of the roofline's axes on a wide and on a narrow page; labels are placed for them."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "bank conflict": ("bank",),
    "requests in flight": ("memory",),
    "latency between units": ("latency",),
    "wait for a unit": ("wait",),
    "order within a unit": ("order",),
    "full queue": ("queue",),
    "decoding": ("decode",),
    "synchronisation": ("sync", "drain", "barrier", "scalar_load"),
    "start": ("start", "startup"),
    "tail": ("tail",),
    "idle": ("idle",),
    "imbalance": ("imbalance",),
}
"""Names in the legend for the kinds of causes that are no work, in the order of the bars."""


class Point(NamedTuple):
    """A row in the roofline: its intensity, its diameter, the places of its label; None when a narrow page has no room."""

    row: KernelRow
    x: float
    size: float
    place: str
    narrow_place: str | None


def roofline_figure(rows: Sequence[KernelRow], roofs: Sequence[Roof]) -> Figure:
    """Operations per second over operations per byte of HBM traffic, a point for each row that computes anything.

    A row without HBM traffic stands at the right edge. `customdata` of a point is the number of its row.
    """
    drawn = [row for row in rows if row.work.flops and row.totals.cycles]
    x_range, y_range = _ranges(drawn, roofs)
    traces = [
        *_memory_lines([roof for roof in roofs if roof.kind == "memory"], roofs, x_range),
        *_compute_lines(roofs, x_range),
        *_all_points(drawn, x_range, y_range),
    ]
    powers = range(ceil(log10(y_range[0])), floor(log10(y_range[1])) + 1)
    layout = {
        "xaxis": {
            "type": "log",
            "title": {"text": "operations per byte of HBM traffic"},
            "dtick": 1,
            **_limits(x_range),
        },
        "yaxis": {
            "type": "log",
            "title": {"text": "operations per second"},
            "tickvals": [10.0**power for power in powers],
            "ticktext": [quantity(10.0**power, "") for power in powers],
            **_limits(y_range),
        },
        "annotations": list(_roof_labels(roofs, x_range)),
        "hovermode": "closest",
    }
    roles = [f"roof-{roof.kind}" for roof in roofs]
    return {"data": traces, "layout": layout, "roles": roles, "narrow_markers": NARROW_MARKERS}


def _ranges(rows: Sequence[KernelRow], roofs: Sequence[Roof]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of both axes: every point with room around it, the ridges of the roofs, their names left of these."""
    compute = [roof.per_second for roof in roofs if roof.kind == "compute"]
    memory = [roof.per_second for roof in roofs if roof.kind == "memory"]
    at = [row.operations_per_byte for row in rows if row.operations_per_byte is not None]
    x_range = (
        min([*(each / 4 for each in at), min(compute) / max(memory) / 40]),
        max([*at, max(compute) / min(memory)]) * 4,
    )
    y_range = min([row.operations_per_second for row in rows] + [min(memory) * x_range[0]]) / 4, max(compute) * 4
    return x_range, y_range


def _limits(limits: tuple[float, float]) -> dict[str, Any]:
    """The range of a logarithmic axis."""
    return {"range": [round(log10(limit), 4) for limit in limits]}


def _memory_lines(memory: Sequence[Roof], roofs: Sequence[Roof], x_range: tuple[float, float]) -> Iterator[Figure]:
    """Diagonals from the left edge up to the highest compute roof."""
    top = max(roof.per_second for roof in roofs if roof.kind == "compute")
    for roof in memory:
        xs = [x_range[0], top / roof.per_second]
        yield _line(roof, xs, [x * roof.per_second for x in xs])


def _compute_lines(roofs: Sequence[Roof], x_range: tuple[float, float]) -> Iterator[Figure]:
    """Horizontals from the fastest memory roof to the right edge."""
    fastest = max(roof.per_second for roof in roofs if roof.kind == "memory")
    for roof in roofs:
        if roof.kind == "compute":
            yield _line(roof, [roof.per_second / fastest, x_range[1]], [roof.per_second] * 2)


def _line(roof: Roof, xs: Sequence[float], ys: Sequence[float]) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": _roof_text(roof),
        "x": [_short(x) for x in xs],
        "y": [_short(y) for y in ys],
        "showlegend": False,
        "hoverinfo": "name",
        "meta": {"role": f"roof-{roof.kind}"},
    }


def _roof_text(roof: Roof) -> str:
    return f"{roof.name} {quantity(roof.per_second, 'op/s' if roof.kind == 'compute' else 'B/s')}"


def _roof_labels(roofs: Sequence[Roof], x_range: tuple[float, float]) -> Iterator[Figure]:
    """The roofs' names: left of where a horizontal begins; on diagonals, which the page turns and shifts off the line."""
    fastest = max(roof.per_second for roof in roofs if roof.kind == "memory")
    for roof in roofs:
        compute = roof.kind == "compute"
        x = roof.per_second / fastest if compute else x_range[0] * (x_range[1] / x_range[0]) ** 0.12
        y = roof.per_second if compute else roof.per_second * x
        yield {
            "text": _roof_text(roof),
            "x": round(log10(x), 4),
            "y": round(log10(y), 4),
            "xanchor": "right" if compute else "center",
            "yanchor": "bottom" if compute else "middle",
            "xshift": -2 if compute else 0,
            "yshift": -3 if compute else 0,
            "showarrow": False,
        }


def _all_points(
    rows: Sequence[KernelRow], x_range: tuple[float, float], y_range: tuple[float, float]
) -> Iterator[Figure]:
    """The rows as two traces, those with matrix products and the others."""
    most = max((row.totals.cycles for row in rows), default=1)
    xs = [x_range[1] if row.operations_per_byte is None else row.operations_per_byte for row in rows]
    sizes = [round(8 + 18 * (row.totals.cycles / most) ** 0.5, 1) for row in rows]
    places = []
    for (width, height), shrink, leave_out in ((_WIDE, 1.0, False), (_NARROW, NARROW_MARKERS, True)):
        at = [
            (_pixel(x, x_range, width), _pixel(row.operations_per_second, y_range, height))
            for x, row in zip(xs, rows, strict=True)
        ]
        radii = [size * shrink / 2 for size in sizes]
        places.append(label_places(at, radii, [str(row.number) for row in rows], leave_out))
    points = [Point(*each) for each in zip(rows, xs, sizes, *places, strict=True)]
    for role, name in (("cube", "with matrix products"), ("vector", "vector only")):
        chosen = [point for point in points if bool(point.row.work.multiply_adds) == (role == "cube")]
        if chosen:
            yield _points(role, name, chosen)


def _pixel(value: float, limits: tuple[float, float], size: float) -> float:
    """Place of a value on a logarithmic axis of so many pixels."""
    return size * log10(value / limits[0]) / log10(limits[1] / limits[0])


def _points(role: str, name: str, points: Sequence[Point]) -> Figure:
    """A trace; `meta.narrow` has the labels of a narrow page."""
    numbers = [str(point.row.number) for point in points]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": name,
        "x": [_short(point.x) for point in points],
        "y": [_short(point.row.operations_per_second) for point in points],
        "text": numbers,
        "textposition": [point.place for point in points],
        "customdata": [point.row.number for point in points],
        "hovertext": [_point_text(point.row) for point in points],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "size": [point.size for point in points],
            "symbol": ["triangle-right" if point.row.operations_per_byte is None else "circle" for point in points],
        },
        "cliponaxis": False,
        "meta": {
            "role": role,
            "narrow": {
                "text": [number if point.narrow_place else "" for number, point in zip(numbers, points, strict=True)],
                "textposition": [point.narrow_place or "top center" for point in points],
            },
        },
    }


def _point_text(row: KernelRow) -> str:
    at = row.operations_per_byte
    intensity = "no HBM traffic" if at is None else f"{three_digits(at)} operations per byte of HBM traffic"
    of_roofline = "" if row.totals.of_roofline is None else f"<br>{row.totals.of_roofline:.1%} of the roofline"
    speed = quantity(row.operations_per_second, "op/s")
    return f"<b>{row.number}. {escape(row.label)}</b><br>{speed}<br>{intensity}<br>{row.totals.cycles:,} cycles{of_roofline}"


def breakdown_figure(rows: Sequence[KernelRow], whole: LaunchBreakdown) -> Figure:
    """For each row, and for the run, a bar of 100 %: the cycles of its cores by what they were spent on.

    Solid parts are work, by unit; hatched parts are not. `customdata` of a part is its exact number of cycles.
    """
    chosen = sorted(sorted(rows, key=lambda row: -row.totals.cycles)[:MOST_BARS], key=lambda row: row.number)
    bars = [("all", ALL_LAUNCHES, whole)]
    bars += [(str(row.number), row.label, row.breakdown) for row in chosen if row.breakdown.core_cycles]
    parts = [_parts(breakdown) for _, _, breakdown in bars]
    order = [*dict.fromkeys(name for found in parts for name in found if name.startswith("busy ")), *GROUPS]
    traces = []
    for name in order:
        causes = [found.get(name, {}) for found in parts]
        if any(causes):
            cycles = [sum(each.values()) for each in causes]
            traces.append(_bar(name, cycles, causes, bars))
    names = [name for name, _, _ in bars]
    labels = [label if name == "all" else escape(f"{name}. {label}") for name, label, _ in bars]
    layout = {
        "barmode": "stack",
        "xaxis": {
            "title": {"text": "share of the cycles of all cores"},
            "ticksuffix": " %",
            "range": [0, 100],
            "dtick": 20,
        },
        "yaxis": {"type": "category", "autorange": "reversed", "tickvals": names, "ticktext": labels},
        "hovermode": "closest",
        "meta": {"short": names, "long": labels, "bars": len(bars)},
    }
    return {"data": traces, "layout": layout}


def _parts(breakdown: LaunchBreakdown) -> dict[str, dict[Cause, int]]:
    """Causes of a stack by the part of the bar that they belong to, work first by the order of units."""
    names = {kind: name for name, kinds in GROUPS.items() for kind in kinds}
    units = [unit.unit for unit in breakdown.units]
    found: dict[str, dict[Cause, int]] = {}
    for cause, cycles in sorted(breakdown.stack.items(), key=lambda item: _place(item[0], units)):
        name = f"busy {cause.unit}" if cause.kind == "busy" else names[cause.kind]
        found.setdefault(name, {})[cause] = cycles
    return found


def _place(cause: Cause, units: Sequence[str]) -> tuple[int, int, Cause]:
    return list(KINDS).index(cause.kind), units.index(cause.unit) if cause.unit in units else len(units), cause


def _bar(
    name: str,
    cycles: Sequence[int],
    causes: Sequence[Mapping[Cause, int]],
    bars: Sequence[tuple[str, str, LaunchBreakdown]],
) -> Figure:
    """One part of every bar."""
    shares = [100 * n / breakdown.core_cycles for n, (_, _, breakdown) in zip(cycles, bars, strict=True)]
    texts = []
    for share, n, each, (number, label, breakdown) in zip(shares, cycles, causes, bars, strict=True):
        title = label if number == "all" else f"{number}. {label}"
        lines = [f"<b>{escape(title)}</b>", f"{name}: {share:.1f} %, {n:,} cycles of cores"]
        largest = sorted(each.items(), key=lambda item: -item[1])[:4]
        lines += [f"{cause.label} {100 * part / breakdown.core_cycles:.1f} %" for cause, part in largest]
        texts.append("<br>".join(lines))
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": [number for number, _, _ in bars],
        "x": [float(f"{share:.7g}") for share in shares],
        "customdata": list(cycles),
        "hovertext": texts,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {"role": name.replace("busy ", "unit-") if name.startswith("busy ") else f"lost-{name}"},
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")
