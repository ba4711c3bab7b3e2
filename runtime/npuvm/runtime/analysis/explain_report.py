"""Explained runs and what-if outcomes as tables for people (rich)."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from npuvm.hw.explain import Cause, UnitBreakdown, instruction_shares, path_shares
from npuvm.runtime.analysis.explained import ExplainedKernel, ExplainedRun, KernelPath
from npuvm.runtime.analysis.whatif import REAL, Outcome, WhatIf
from npuvm.runtime.tables import launches_text, plain_table

__all__ = ["render_explained", "render_whatif"]

_BAR_WIDTH = 40
_PATH_LINES = 10
_HELPS = 4
_NOTABLE = 1.01
"""Speed-ups from which on a variant is named for a kernel."""
_TINY = 0.005
"""Parts of the stack below this share stand in one line, "the rest"."""


def render_explained(run: ExplainedRun, units: bool = True) -> RenderableType:
    """Every kernel with its advice and its stack, its critical path when it has one; with `units` a table of its units too."""
    parts: list[RenderableType] = []
    for kernel in (*run.kernels, *([run.whole] if len(run.kernels) > 1 else [])):
        parts += [_head(run, kernel), _advice(kernel), _stack(kernel)]
        if units:
            parts.append(_units(kernel))
        if kernel.path is not None:
            parts += _critical_path(kernel.path)
    return Group(*parts)


def render_whatif(result: WhatIf) -> RenderableType:
    """The chip as it is and every variant side by side; of several kernels then what helps each of them most."""
    table = plain_table(
        [
            ("if this were free", False),
            ("cycles", True),
            ("speed-up", True),
            ("µs with the\nhost's dispatch", True),
            ("speed-up", True),
            ("then bound by", False),
        ]
    )
    for outcome in (result.real, *result.variants):
        table.add_row(*_outcome_cells(result, outcome), style="bold" if outcome.variant is None else None)
    return Group(table, _kernel_table(result)) if len(result.real.kernels) > 1 else table


def _kernel_table(result: WhatIf) -> Table:
    table = plain_table([("kernel", False), ("cycles", True), ("what helps most, times as fast", False)])
    for kernel, cycles in result.real.kernels.items():
        helps = [f"{each.name} {gain:.2f}" for each, gain in result.helps(kernel)[:_HELPS] if gain >= _NOTABLE]
        table.add_row(kernel, f"{cycles:,}", ", ".join(helps) or "nothing of these")
    return table


def _outcome_cells(result: WhatIf, outcome: Outcome) -> tuple[str, ...]:
    return (
        REAL if outcome.variant is None else outcome.variant.name,
        f"{outcome.cycles:,}",
        f"{result.speedup(outcome):.3f}",
        f"{outcome.stream_us:,.2f}",
        f"{result.stream_speedup(outcome):.3f}",
        outcome.bounded_by.text.split(";")[0],
    )


def _head(run: ExplainedRun, kernel: ExplainedKernel) -> Text:
    breakdown = kernel.breakdown
    text = Text(kernel.name, style="bold")
    microseconds = float(run.chip.cycles_to_us(breakdown.cycles))
    kinds = ", ".join(f"{count} {kind}" for kind, count in kernel.kinds.items())
    launches = launches_text(breakdown.launches) + (f" (ktype {', '.join(kernel.ktypes)}: {kinds})" if kinds else "")
    text.append(
        f"  {launches}, {breakdown.cycles:,} cycles, {microseconds:,.2f} µs on {run.chip.name}; "
        "critical in its cores: ",
        style="not bold",
    )
    text.append(", ".join(f"{unit} {count}" for unit, count in breakdown.critical.items()), style="not bold")
    return text


def _advice(kernel: ExplainedKernel) -> Text:
    first, *others = kernel.advice
    text = Text(f"  {first.text}", style="yellow")
    for line in others:
        text.append(f"\n  also: {line.text}", style="not bold")
    return text


def _stack(kernel: ExplainedKernel) -> Table:
    """The causes of all core cycles, most first, with bars; the first column adds up exactly."""
    whole = kernel.breakdown.core_cycles
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    rest = 0
    for cause, cycles in kernel.breakdown.stack.items():
        if cycles < _TINY * whole:
            rest += cycles
        else:
            table.add_row(*_bar(cycles, whole), cause.label)
    if rest:
        table.add_row(*_bar(rest, whole), "the rest")
    table.add_row(f"{whole:,}", "", "", "core cycles")
    return table


def _critical_path(path: KernelPath) -> list[RenderableType]:
    """The path by unit and kind of step, and the instructions that have most of it."""
    title = Text(f"critical path of a launch of {path.cycles:,} cycles, by unit and kind of step, and by instruction")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in range(4):
        table.add_column(justify="right" if column < 2 else "left", no_wrap=True)
    for share in path_shares(path.steps):
        table.add_row(*_bar(share.cycles, path.cycles), f"{share.unit} {share.kind}, {share.steps:,} x")
    table.add_row("", "", "", "")
    for each in instruction_shares(path.steps)[:_PATH_LINES]:
        text = f"{each.unit}, word {each.pc}: {path.texts[each.pc]}" if each.pc >= 0 else each.unit
        table.add_row(*_bar(each.cycles, path.cycles), text)
    return [title, table, Text()]


def _bar(cycles: int, whole: int) -> tuple[str, str, str]:
    share = cycles / whole
    return f"{cycles:,}", f"{share:.1%}", "█" * round(share * _BAR_WIDTH)


_COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("busy", ("busy",)),
    ("bank\nconflict", ("bank",)),
    ("memory", ("memory",)),
    ("order", ("order",)),
    ("queue", ("queue",)),
    ("decode", ("decode",)),
    ("sync", ("sync", "drain", "barrier", "scalar_load")),
    ("start-\nup", ("startup", "start")),
    ("tail", ("tail",)),
    ("idle", ("idle",)),
    ("imba-\nlance", ("imbalance",)),
)


def _units(kernel: ExplainedKernel) -> Table:
    """What each unit did, in shares of its cycles over all cores that have it."""
    figures = ("cores", "cycles", *(heading for heading, _ in _COLUMNS))
    table = plain_table([("unit", False), *((heading, True) for heading in figures), ("waits for", False)])
    for unit in kernel.breakdown.units:
        shares = [_share(unit.of_kind(*kinds), unit.available) for _, kinds in _COLUMNS]
        cores = f"{unit.working} of {unit.cores}"
        table.add_row(unit.unit, cores, f"{unit.available:,}", *shares, _waits(unit, unit.parts))
    return table


def _share(cycles: int, available: int) -> str:
    return f"{cycles / available:.1%}" if cycles else ""


def _waits(unit: UnitBreakdown, parts: Mapping[Cause, int]) -> str:
    waits = [(cause.other, cycles) for cause, cycles in parts.items() if cause.kind == "wait"]
    waits.sort(key=lambda item: -item[1])
    return ", ".join(f"{other} {cycles / unit.available:.1%}" for other, cycles in waits)
