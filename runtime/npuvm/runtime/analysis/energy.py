"""Energy of a run's launches by kernel, and the estimates of energy and area as tables and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from npuvm.hw.energy import Amount, AreaReport, EnergyReport, Technology, estimate_energy
from npuvm.runtime.analysis.recording import ALL_LAUNCHES, by_kernel, chip_of
from npuvm.runtime.device.device import LaunchRecord
from npuvm.runtime.tables import plain_table

__all__ = ["DEFAULT_TECHNOLOGY", "RunEnergy", "energy_json", "energy_of_launches", "render_area", "render_energy"]

DEFAULT_TECHNOLOGY = "n7"
"""Technology of estimates when none is named."""

ENERGY_VERSION = 1

_SCALES = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


@dataclass(frozen=True)
class RunEnergy:
    """Estimates for a run: each kernel by the tag of its launches, or its own name, and all launches together."""

    kernels: Mapping[str, EnergyReport]
    whole: EnergyReport


def energy_of_launches(records: Sequence[LaunchRecord], technology: Technology) -> RunEnergy:
    """Estimate the energy of launches of one device.

    DeviceError when there is none; ConfigError when the technology does not price an operation that a launch did.
    """
    chip = chip_of(records)
    parts = [estimate_energy(record.result, chip, technology) for record in records]
    kernels = {name: EnergyReport.sum(parts[at] for at in places) for name, places in by_kernel(records).items()}
    return RunEnergy(kernels, EnergyReport.sum(parts))


def energy_json(run: RunEnergy) -> dict[str, Any]:
    """The estimates as plain JSON values; `version` changes when a key changes its meaning or goes away."""
    return {
        "version": ENERGY_VERSION,
        "estimate": True,
        "kernels": {name: report.to_json() for name, report in run.kernels.items()},
        "whole": run.whole.to_json(),
    }


def render_energy(run: RunEnergy) -> RenderableType:
    """A table with a row for each kernel: total, power, energy of an operation, and the shares of the components."""
    components = [name for name, amount in run.whole.components.items() if amount.value]
    figures = ("energy", "±", "average W", "pJ/op", *(f"{name} %" for name in components))
    table = plain_table([("kernel", False), *((heading, True) for heading in figures)])
    rows = dict(run.kernels)
    if len(rows) > 1:
        rows[ALL_LAUNCHES] = run.whole
    for name, report in rows.items():
        per_op = report.pj_per_flop
        table.add_row(
            name,
            _joules(report.total.value),
            f"{report.total.error_pct:.0f} %",
            f"{report.average_watts.value:.3g}",
            "-" if per_op is None else f"{per_op:.3g}",
            *(_share(report.components[each], report.total) for each in components),
        )
    whole = run.whole
    title = f"energy (estimate): {whole.chip} in technology {whole.technology}, simulated time without the host's"
    return Group(Text(title, style="bold"), table)


def render_area(report: AreaReport) -> RenderableType:
    """A table with a row for each component and the total."""
    table = plain_table([("component", False), ("mm2", True), ("±", True), ("share", True)])
    total = report.total
    for name, amount in (*report.components.items(), ("total", total)):
        cells = (name, f"{amount.value:.2f}", f"{amount.error:.2f}", f"{_share(amount, total)} %")
        table.add_row(*cells, style="bold" if name == "total" else None)
    return Group(Text(f"area (estimate): {report.chip} in technology {report.technology}", style="bold"), table)


def _share(part: Amount, total: Amount) -> str:
    return f"{100 * part.value / total.value:.1f}" if total.value else "-"


def _joules(picojoules: float) -> str:
    """An energy in the unit that leaves one to three digits before the point."""
    scale, unit = next(((scale, unit) for scale, unit in _SCALES if picojoules >= scale), _SCALES[-1])
    return f"{picojoules / scale:.3g} {unit}"
