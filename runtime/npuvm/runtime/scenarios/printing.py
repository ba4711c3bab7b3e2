"""Scenario reports as tables for people (rich) and as JSON for programs.

Cycles, microseconds, bytes, utilisation and stalls are simulated; the columns headed "host ... (measured)" are wall time
of this machine. "of bound" is the cycles of the highest physical bound of the program over the achieved ones; "of roofline"
the same for the work of the operator spread evenly over the whole chip (see `totals`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from npuvm.runtime.scenarios.report import CaseRow, Header, KindRow, ModelRow, ScenarioReport, SentenceRow, Totals
from npuvm.runtime.tables import launches_text, plain_table

__all__ = ["render", "to_json"]

JSON_VERSION = 1
_TOP = 2
_TEXT_WIDTH = 24
_MIB = 1 << 20


def render(report: ScenarioReport) -> RenderableType:
    """The head, the tables and the verdict of a run."""
    parts: list[RenderableType] = [_head(report.header)]
    if report.cases:
        parts.append(_case_table(report.cases))
    if report.sentences:
        parts += [_sentence_table(report), _kind_table(report)]
    if report.runs:
        parts.append(_run_table(report.runs))
    parts.append(_verdict(report))
    return Group(*parts)


def to_json(report: ScenarioReport) -> dict[str, Any]:
    """The run as plain JSON values; `version` changes when a field changes its meaning or goes away."""
    header = report.header
    return {
        "version": JSON_VERSION,
        "scenario": header.scenario,
        "title": header.title,
        "chip": header.chip,
        "isa": header.isa,
        "commit": header.commit,
        "options": dict(header.options),
        "timing_only": header.timing_only,
        "engine": header.engine,
        "ok": report.ok,
        "faults": list(report.faults),
        "totals": _totals_json(report.totals),
        "stream_us": report.stream_us,
        "with_transfers_us": report.with_transfers_us,
        "transfers": asdict(report.transfers),
        "cases": [_case_json(row) for row in report.cases],
        "sentences": [_sentence_json(row) for row in report.sentences],
        "worst_cosine": _finite(report.worst_cosine),
        "operator_kinds": [_kind_json(row) for row in report.kinds],
        "runs": [_run_json(row) for row in report.runs],
        "mean_latency_us": report.mean_latency_us,
    }


def _head(header: Header) -> Text:
    options = ", ".join(f"{name}={value}" for name, value in header.options.items()) or "none"
    data = (
        f"timing only on engine {header.engine}, results not checked"
        if header.timing_only
        else "with data, every result checked"
    )
    text = Text()
    text.append(f"{header.scenario}: {header.title}\n", style="bold")
    text.append(f"chip {header.chip} | isa {header.isa} | commit {header.commit} | options {options} | {data}")
    return text


_WORK_COLUMNS: tuple[tuple[str, bool], ...] = (
    ("cycles", True),
    ("µs", True),
    ("HBM | L2\nMiB", True),
    ("busiest units", False),
    ("top stalls, share of all\n(a<b: a awaits b)", False),
    ("bound", False),
    ("of\nbound", True),
    ("of roof-\nline", True),
    ("host compile\nms (measured)", True),
)


def _work_cells(totals: Totals) -> tuple[str, ...]:
    return (
        f"{totals.cycles:,}",
        f"{totals.microseconds:,.2f}",
        f"{_mib(totals, 'hbm')} | {_mib(totals, 'l2')}",
        _shares(totals.utilisation),
        _stalls(totals),
        totals.bound,
        _percent(totals.of_bound),
        _percent(totals.of_roofline),
        f"{totals.compile_us / 1000:.2f}",
    )


def _case_table(rows: Sequence[CaseRow]) -> Table:
    table = plain_table([("operator", False), ("shape", False), *_WORK_COLUMNS, ("max error", True), ("", False)])
    for row in rows:
        error = "-" if row.errors is None else f"{row.errors.absolute:.1e}"
        mark = "" if row.errors is None else "ok" if row.errors.ok else "WRONG"
        style = "bold red" if mark == "WRONG" else None
        table.add_row(f"{row.operator} {row.dtype}", row.shape, *_work_cells(row.totals), error, mark, style=style)
    return table


def _sentence_table(report: ScenarioReport) -> Table:
    ends = (("cosine", True), ("neighbour\norder", False))
    table = plain_table([("tokens", True), ("sentence", False), ("launches", True), *_WORK_COLUMNS, *ends])
    for row in report.sentences:
        order = "-" if row.order_equal is None else "equal" if row.order_equal else "DIFFERS"
        text = row.text if len(row.text) <= _TEXT_WIDTH else f"{row.text[: _TEXT_WIDTH - 3]}..."
        cosine = "-" if row.cosine is None else f"{row.cosine:.6f}"
        table.add_row(str(row.tokens), text, str(row.totals.launches), *_work_cells(row.totals), cosine, order)
    return table


def _kind_table(report: ScenarioReport) -> Table:
    ends = (("host work\nms (measured)", True),)
    table = plain_table([("operator", False), ("launches", True), ("share of\ncycles", True), *_WORK_COLUMNS, *ends])
    whole = report.totals.cycles
    for row in report.kinds:
        totals = row.totals
        host = "" if row.host_us is None else f"{row.host_us / 1000:.2f}"
        if totals.launches == 0:
            table.add_row(row.kind, *[""] * (2 + len(_WORK_COLUMNS)), host)
        else:
            share = _percent(totals.cycles / whole if whole else None)
            table.add_row(row.kind, str(totals.launches), share, *_work_cells(totals), host)
    return table


def _run_table(rows: Sequence[ModelRow]) -> Table:
    begin = (("sizes", False), ("share", True), ("launches", True), ("latency\nµs", True))
    table = plain_table([*begin, *_WORK_COLUMNS, ("error of\nallowed", True), ("", False)])
    for row in rows:
        worst = max((each.of_allowed for each in (row.errors or {}).values()), default=None)
        mark = "" if worst is None else "WRONG" if row.faults else "ok"
        cells = (row.label, _percent(row.share), str(row.totals.launches), f"{row.latency_us:,.2f}")
        style = "bold red" if row.faults else None
        table.add_row(*cells, *_work_cells(row.totals), "-" if worst is None else f"{worst:.2f}", mark, style=style)
    return table


def _verdict(report: ScenarioReport) -> Text:
    totals = report.totals
    text = Text(
        f"{launches_text(totals.launches)}, {totals.cycles:,} cycles, {totals.microseconds:,.2f} µs on the chip"
    )
    text.append(f", {report.stream_us:,.2f} µs with the host's dispatch (simulated)")
    if report.mean_latency_us is not None:
        text.append(f"; {report.mean_latency_us:,.2f} µs a run, by the weights of the runs")
    if report.worst_cosine is not None:
        same = all(row.order_equal for row in report.sentences)
        text.append(f"; least cosine {report.worst_cosine:.6f}, neighbour order {'equal' if same else 'DIFFERENT'}")
    if report.header.timing_only:
        text.append("; results not checked")
    elif report.ok:
        text.append("; all results right", style="green")
    text.append(_transfers(report))
    for fault in report.faults:
        text.append(f"\n{fault}", style="bold red")
    text.append("\n")
    return text


def _transfers(report: ScenarioReport) -> str:
    found = report.transfers
    if not found.to_device_bytes + found.to_host_bytes + found.resident_bytes:
        return ""
    ways = [
        ("to the device", found.to_device_bytes, found.to_device_us),
        ("to the host", found.to_host_bytes, found.to_host_us),
    ]
    if found.resident_bytes:
        ways.append(("of weights once", found.resident_bytes, found.resident_us))
    listed = ", ".join(f"{nbytes / _MIB:,.2f} MiB {way} in {us:,.2f} µs" for way, nbytes, us in ways)
    apart = " but those of weights" if found.resident_bytes else ""
    return f"\ntransfers: {listed}; {report.with_transfers_us:,.2f} µs with dispatch and transfers{apart} (simulated)"


def _mib(totals: Totals, level: str) -> str:
    count = sum(value for name, value in totals.bytes.items() if name.startswith(level))
    return f"{count / _MIB:,.2f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _shares(utilisation: Mapping[str, float]) -> str:
    return ", ".join(f"{unit} {share:.0%}" for unit, share in list(utilisation.items())[:_TOP])


def _stalls(totals: Totals) -> str:
    whole = sum(totals.stalls.values())
    top = list(totals.top_stalls.items())[:_TOP]
    return ", ".join(f"{cause.replace(' awaits ', '<')} {cycles / whole:.0%}" for cause, cycles in top)


def _totals_json(totals: Totals) -> dict[str, Any]:
    return {
        "launches": totals.launches,
        "instructions": totals.instructions,
        "cycles": totals.cycles,
        "microseconds": totals.microseconds,
        "bytes": dict(totals.bytes),
        "utilisation": totals.utilisation,
        "stall_cycles": totals.top_stalls,
        "bound": totals.bound,
        "bound_cycles": dict(totals.bounds),
        "all_bounds_cycles": dict(totals.limits),
        "of_bound": totals.of_bound,
        "roofline_cycles": totals.roofline_cycles,
        "of_roofline": totals.of_roofline,
        "host_compile_us_measured": totals.compile_us,
    }


def _case_json(row: CaseRow) -> dict[str, Any]:
    return {
        "operator": row.operator,
        "dtype": row.dtype,
        "shape": row.shape,
        **_totals_json(row.totals),
        "max_error": None if row.errors is None else _finite(row.errors.absolute),
        "error_of_allowed": None if row.errors is None else _finite(row.errors.of_allowed),
        "ok": None if row.errors is None else row.errors.ok,
    }


def _sentence_json(row: SentenceRow) -> dict[str, Any]:
    return {
        "sentence": row.text,
        "tokens": row.tokens,
        **_totals_json(row.totals),
        "cosine": _finite(row.cosine),
        "neighbour_order_equal": row.order_equal,
    }


def _kind_json(row: KindRow) -> dict[str, Any]:
    return {"kind": row.kind, **_totals_json(row.totals), "host_work_us_measured": row.host_us}


def _run_json(row: ModelRow) -> dict[str, Any]:
    outputs = (
        None
        if row.errors is None
        else {
            name: {"max_error": _finite(each.absolute), "error_of_allowed": _finite(each.of_allowed), "ok": each.ok}
            for name, each in row.errors.items()
        }
    )
    return {
        "sizes": dict(row.sizes),
        "share": row.share,
        "latency_us": row.latency_us,
        "with_transfers_us": row.with_transfers_us,
        **_totals_json(row.totals),
        "outputs": outputs,
        "operators_of_the_host": list(row.on_host),
    }


def _finite(value: float | None) -> float | str | None:
    """JSON has no infinity and no NaN; a result that is no number is written as text."""
    return value if value is None or math.isfinite(value) else "not finite"
