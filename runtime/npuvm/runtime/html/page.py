"""The report of a run as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from npuvm.hw.energy import EnergyReport, Work, estimate_area, estimate_energy
from npuvm.hw.errors import ConfigError, DeviceError
from npuvm.hw.explain import KINDS, advise, sum_breakdowns
from npuvm.runtime.analysis.recording import ALL_LAUNCHES
from npuvm.runtime.html.figures import MOST_BARS, breakdown_figure, roofline_figure
from npuvm.runtime.html.inputs import ReportInputs
from npuvm.runtime.html.kernels import KernelRow, kernel_rows
from npuvm.runtime.html.roofs import roofs_of
from npuvm.runtime.html.tables import config_sections, trust_counts
from npuvm.runtime.html.timeline_view import timeline_columns, timeline_label, timeline_note
from npuvm.runtime.html.words import nbytes, percent, quantity, three_digits

__all__ = ["plotly_script", "render_report", "script_json"]

_KERNEL_COLUMNS = (
    ("#", True),
    ("operator", False),
    ("launches", True),
    ("cycles", True),
    ("share", True),
    ("µs", True),
    ("bound", False),
    ("of bound", True),
    ("of roofline", True),
    ("achieved", True),
    ("op per HBM byte", True),
    ("host compile ms (measured)", True),
)
_CHECK_COLUMNS = (("largest error", True), ("result", False))

_ENVIRONMENT = Environment(
    loader=PackageLoader("npuvm.runtime.html"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "nbytes": nbytes,
    "percent": percent,
    "quantity": quantity,
    "number": "{:,}".format,
    "three_digits": three_digits,
}


def render_report(inputs: ReportInputs) -> str:
    """The page of a run; equal inputs give equal bytes.

    ConfigError when plotly is not installed, or when the technology does not price what the chip does; DeviceError when nothing
    was launched, or when report and launches are of different runs.
    """
    if not inputs.launches:
        raise DeviceError("nothing was launched, so there is nothing to report", inputs.report.header.scenario)
    first = inputs.launches[0]
    rows = kernel_rows(inputs)
    whole_work = Work.sum(row.work for row in rows)
    whole = sum_breakdowns([row.breakdown for row in rows])
    roofs = roofs_of(first.chip, first.isa, whole_work)
    energy = _energy(inputs, rows)
    data = {
        "roofline": roofline_figure(rows, roofs),
        "breakdown": breakdown_figure(rows, whole),
        "timelines": [timeline_columns(timeline) for timeline in inputs.timelines],
        "units": sorted(first.isa.units, key=lambda unit: first.isa.units[unit]),
    }
    return _ENVIRONMENT.get_template("page.html.j2").render(
        inputs=inputs,
        report=inputs.report,
        header=inputs.report.header,
        totals=inputs.report.totals,
        chip=first.chip,
        isa=first.isa,
        rows=rows,
        whole=whole,
        advice=advise(first.chip, whole, inputs.report.stream_us),
        kinds=KINDS,
        breakdowns=[(0, ALL_LAUNCHES, whole), *((row.number, row.label, row.breakdown) for row in rows)],
        hidden_bars=max(0, len(rows) - MOST_BARS),
        without_work=[row for row in rows if not row.work.flops],
        timelines=[(timeline, timeline_label(rows, timeline)) for timeline in inputs.timelines],
        notes=[timeline_note(timeline) for timeline in inputs.timelines],
        kernel_columns=_KERNEL_COLUMNS + (_CHECK_COLUMNS if inputs.report.cases else ()),
        energy_columns=[] if energy is None else list(next(iter(energy.values())).components),
        host_bound=sum(record.times.host_bound for record in inputs.launches),
        energy=energy,
        area=None if inputs.technology is None else estimate_area(first.chip, inputs.technology),
        sections=config_sections(first.chip),
        trust=trust_counts(first.chip),
        data=script_json(data),
        plotly=plotly_script(),
    )


def plotly_script() -> str:
    """The JavaScript of plotly as its Python package carries it; ConfigError when the package is not installed."""
    try:
        return resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        message = "the report draws its figures with plotly, which is not installed; pip install 'npuvm[report]'"
        raise ConfigError(message) from None


def _energy(inputs: ReportInputs, rows: tuple[KernelRow, ...]) -> Mapping[int, EnergyReport] | None:
    """Estimates by the number of the row, none for a row without launches; None without a technology."""
    if inputs.technology is None:
        return None
    energy = {}
    for row in rows:
        records = [inputs.launches[index] for index in row.launches]
        parts = [estimate_energy(record.result, record.chip, inputs.technology) for record in records]
        if parts:
            energy[row.number] = EnergyReport.sum(parts)
    return energy


def script_json(data: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element: no tag can begin in it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
