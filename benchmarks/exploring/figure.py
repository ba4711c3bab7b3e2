"""Hypervolume over evaluations, and the front of the grid, drawn as SVG for documents and as a page to look at closely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from benchmarks.exploring.replay import Known, Search
from plotly.subplots import make_subplots

__all__ = ["draw"]

_COLOURS = {"random": "#7f7f7f", "tpe": "#1f77b4", "nsga2": "#d62728", "grid": "#2ca02c"}
_SHOWN = {"random": "random", "tpe": "TPE", "nsga2": "NSGA-II", "grid": "grid"}


def draw(known: Known, searches: Sequence[Search], tenth: int) -> go.Figure:
    """Medians over seeds with the span between the quartiles; a line where a tenth of the grid is evaluated."""
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=("share of the front's hypervolume", "share of the front's points")
    )
    for sampler in dict.fromkeys(each.sampler for each in searches):
        own = [each for each in searches if each.sampler == sampler]
        for column, name in ((1, "volumes"), (2, "found")):
            _add(figure, column, sampler, _even([getattr(each, name) for each in own]))
    for column in (1, 2):
        figure.add_vline(x=tenth, line_dash="dot", line_color="#444", row=1, col=column)
        figure.update_xaxes(title_text="evaluations", row=1, col=column)
    figure.update_yaxes(range=[0, 1.02])
    seeds = len({each.seed for each in searches})
    title = (
        f"{known.space.name}: {len(known.grid)} points, {len(known.front)} on the front, {seeds} seeds, "
        f"median and quartiles; dotted: a tenth of the grid"
    )
    figure.update_layout(title={"text": title, "font": {"size": 14}}, template="plotly_white", width=1100, height=460)
    return figure


def _even(shares: Sequence[Sequence[float]]) -> np.ndarray:
    """A row for each search; one that ended before the others keeps what it had."""
    length = max(map(len, shares))
    return np.array([[*each, *[each[-1]] * (length - len(each))] for each in shares])


def _add(figure: go.Figure, column: int, sampler: str, shares: np.ndarray) -> None:
    low, median, high = np.quantile(shares, [0.25, 0.5, 0.75], axis=0)
    steps = np.arange(1, len(median) + 1)
    colour = _COLOURS[sampler]
    band = go.Scatter(
        x=np.concatenate([steps, steps[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=colour,
        opacity=0.18,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )
    line = go.Scatter(
        x=steps,
        y=median,
        name=_SHOWN[sampler],
        legendgroup=sampler,
        showlegend=column == 1,
        line={"color": colour, "width": 2},
    )
    figure.add_trace(band, row=1, col=column)
    figure.add_trace(line, row=1, col=column)
