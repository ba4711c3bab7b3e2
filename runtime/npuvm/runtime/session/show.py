"""Runs of a session as tables and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np
from rich.table import Table

from npuvm.runtime.session.carrying import Array
from npuvm.runtime.session.profile import KernelUse, NodeUse, TransferUse
from npuvm.runtime.session.report import RunReport

__all__ = [
    "render_hosts",
    "render_nodes",
    "render_outputs",
    "render_profile",
    "render_runs",
    "render_transfers",
    "report_json",
    "shapes_text",
]

_Use = TypeVar("_Use", KernelUse, NodeUse, TransferUse)

_NAMED = 4
"""Most operators that a row of a profile names."""


def shapes_text(shapes: Mapping[str, Sequence[int]]) -> str:
    """`x 1x16, y 2`; a scalar is `s ()`."""
    return ", ".join(f"{name} {'x'.join(map(str, shape)) or '()'}" for name, shape in shapes.items())


def render_runs(title: str, reports: Sequence[RunReport]) -> Table:
    """A row for each run. Simulated columns come first, measured host time last, each named."""
    table = Table(title=title, title_justify="left")
    table.add_column("inputs", overflow="fold")
    for name in ("launches", "cycles", "simulated us", "up KB", "up us", "down KB", "down us", "with transfers us"):
        table.add_column(name, justify="right")
    for name in ("peak KB", "weights KB", "host operators"):
        table.add_column(name, justify="right")
    for name in ("compile ms (measured)", "verify ms (measured)", "bind us (measured)"):
        table.add_column(name, justify="right")
    for each in reports:
        calls = sum(use.calls for use in each.hosts.values())
        kilobytes = (each.peak_bytes, each.weight_bytes)
        table.add_row(
            shapes_text(each.shapes),
            str(each.launches),
            str(each.cycles),
            f"{each.simulated_us:.2f}",
            f"{each.upload_bytes / 1000:.1f}",
            f"{each.upload_us:.2f}",
            f"{each.download_bytes / 1000:.1f}",
            f"{each.download_us:.2f}",
            f"{each.with_transfers_us:.2f}",
            *(f"{number / 1000:.1f}" for number in kilobytes),
            str(calls),
            f"{each.compile_measured_us / 1000:.2f}",
            f"{each.verify_measured_us / 1000:.2f}",
            f"{each.bind_measured_us:.0f}",
        )
    return table


def render_hosts(report: RunReport) -> Table:
    """The operators that ran on the host, with what crossed for each."""
    table = Table(title="on the host", title_justify="left")
    for name in ("operator", "type", "why", "provider"):
        table.add_column(name, overflow="fold")
    for name in ("calls", "to host KB", "to host us", "to device KB", "to device us", "us (measured)"):
        table.add_column(name, justify="right")
    for use in report.hosts.values():
        to_host = (f"{use.to_host_bytes / 1000:.1f}", f"{use.to_host_us:.2f}")
        moved = (*to_host, f"{use.to_device_bytes / 1000:.1f}", f"{use.to_device_us:.2f}")
        table.add_row(use.source, use.op, use.reason, use.provider, str(use.calls), *moved, f"{use.measured_us:.0f}")
    return table


def render_outputs(outputs: Mapping[str, Array]) -> Table:
    """Names, dtypes, shapes and ranges of outputs."""
    table = Table(title="outputs", title_justify="left")
    for name in ("output", "dtype", "shape", "least", "largest", "mean"):
        table.add_column(name)
    for name, array in outputs.items():
        numbers = ("", "", "")
        if array.size and array.dtype != object:
            wide = array.astype(np.float64)
            numbers = (f"{wide.min():.6g}", f"{wide.max():.6g}", f"{wide.mean():.6g}")
        table.add_row(name, str(array.dtype), "x".join(map(str, array.shape)) or "()", *numbers)
    return table


def report_json(report: RunReport) -> dict[str, Any]:
    """The report for a file."""
    found = asdict(replace(report, calls=None))
    del found["calls"]
    found["with_transfers_us"] = report.with_transfers_us
    found["hosts"] = list(found["hosts"].values())
    return found


def render_profile(uses: Sequence[KernelUse], most: int | None = None) -> Table:
    """A table of the kernels, of the first `most` where that is given, each followed by its programs where it has several."""
    shown, left = _first(uses, most)
    table = Table(title=f"kernels by simulated time{left}", title_justify="left")
    for name in ("kernel", "kind", "operators", "types"):
        table.add_column(name, overflow="fold")
    for name in ("launches", "cycles", "us", "share", "moved KB", "L2 KB", "HBM KB"):
        table.add_column(name, justify="right")
    for name in ("busy", "bound"):
        table.add_column(name)
    total = sum(use.cycles for use in uses)
    for use in shown:
        numbers = (f"{use.launches}", f"{use.cycles}", f"{use.us:.2f}", f"{use.share:.1%}")
        nbytes = sum(part.moved_bytes for part in use.programs), use.l2_bytes, use.hbm_bytes
        moved = [f"{each / 1000:.1f}" for each in nbytes]
        busy = ", ".join(f"{unit} {share:.0%}" for unit, share in use.busy.items() if share >= 0.005)
        several = len(use.programs) > 1
        operators = f"{len(use.programs)} programs:" if several else _listed(use.operators)
        table.add_row(use.kernel, use.kind, operators, _listed(use.types), *numbers, *moved, busy, use.bound)
        for part in use.programs if several else ():
            share = part.cycles / total if total else 0.0
            own = (f"{part.cycles:.0f}", f"{part.us:.2f}", f"{share:.1%}", f"{part.moved_bytes / 1000:.1f}")
            table.add_row(f"  {part.program}", part.kind, _listed(part.operators), "", "", *own)
    return table


def render_nodes(uses: Sequence[NodeUse], most: int | None = None) -> Table:
    """A table of the operators, of the first `most` where that is given."""
    shown, left = _first(uses, most)
    table = Table(title=f"operators by attributed simulated time{left}", title_justify="left")
    for name in ("operator", "type"):
        table.add_column(name, overflow="fold")
    for name in ("kernels", "cycles", "us", "share", "alone in a program"):
        table.add_column(name, justify="right")
    for use in shown:
        alone = f"{use.alone / use.cycles:.0%}" if use.cycles else ""
        table.add_row(
            use.node, use.type, f"{use.kernels}", f"{use.cycles:.0f}", f"{use.us:.2f}", f"{use.share:.1%}", alone
        )
    return table


def render_transfers(uses: Sequence[TransferUse], most: int | None = None) -> Table:
    """A table of what crossed between host and device, of the first `most` where that is given."""
    shown, left = _first(uses, most)
    table = Table(title=f"transfers by simulated time{left}", title_justify="left")
    for name in ("value", "direction"):
        table.add_column(name, overflow="fold")
    for name in ("transfers", "KB", "us"):
        table.add_column(name, justify="right")
    for use in shown:
        once = ", once for all runs" if use.constant else ""
        numbers = (f"{use.transfers}", f"{use.nbytes / 1000:.1f}", f"{use.us:.2f}")
        table.add_row(use.value, use.direction.replace("_", " ") + once, *numbers)
    return table


def _listed(names: Sequence[str]) -> str:
    more = f", {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more or "(copy)"


def _first(uses: Sequence[_Use], most: int | None) -> tuple[Sequence[_Use], str]:
    """The first `most` of a table's rows, all without it, and what its title says of the others."""
    shown = uses if most is None else uses[:most]
    return shown, f", {len(uses) - len(shown)} more not shown" if len(shown) < len(uses) else ""
