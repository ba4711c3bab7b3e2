"""What the benchmark prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.validation.rows import Row
from benchmarks.validation.simulation import Outcome
from benchmarks.validation.summary import Summary, groups, rank_correlation, summarise

__all__ = ["AIM_HELD_OUT", "AIM_MAPE", "exclusions", "missed_aims", "report"]

AIM_MAPE = 0.10
"""Aim for the mean absolute error over class A."""
AIM_HELD_OUT = 0.25
"""Aim for every held-out row."""

PTO = "quoted, PTO Perf-Sim on the four products of A3: mean error 8.0 % with one core for 24, 334 % with 24 cores"


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The lines of the tables: fitted, held out, class B, each with its summary; then groups."""
    parts = {
        "class A, fitted": [each for each in outcomes if each.row.set == "fitted"],
        "class A, held out": [each for each in outcomes if each.row.set == "held_out"],
        "class B, outside the limits": [each for each in outcomes if each.row.kind == "B"],
    }
    for title, part in parts.items():
        if part:
            yield from _table(title, part)
    class_a = [each for each in outcomes if each.row.kind == "A"]
    yield from _groups(class_a)
    for title, part in (*list(parts.items())[:2], ("class A", class_a)):
        if summary := summarise(part):
            yield f"{title + ':':20} {_summary(summary)}"


def _table(title: str, outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield title
    yield f"  {'row':24} {'variant':44} {'':4} {'measured':>11} {'simulated':>11} {'error':>8}  pipes, simulated/measured us"
    for each in outcomes:
        unit = {"core_us": "core", "task_us": "task", "cycles": "cyc"}[str(each.row.compare)]
        line = f"  {each.row.id:24} {each.row.variant[:44]:44} {unit:4} {each.row.value:11,.2f} {each.value:11,.2f}"
        yield f"{line} {each.error:+8.1%}  {_pipes(each)}{_quoted(each.row)}".rstrip()
    yield ""


def _pipes(each: Outcome) -> str:
    measured = each.row.measured
    parts = [f"{name[:-3]} {time:.4g}/{measured[name]:.4g}" for name, time in each.pipes.items() if name in measured]
    if each.band is not None:
        parts.insert(0, f"p5-p95 {each.band.p5:,.4g}-{each.band.p95:,.4g}")
    if "l2_hit_percent" in measured and each.l2_hit_percent is not None:
        parts.append(f"L2 hits {each.l2_hit_percent:.1f}/{measured['l2_hit_percent']:.1f} %")
    return ", ".join(parts)


def _quoted(row: Row) -> str:
    return f"  [{row.note}]" if row.note and row.note.startswith("PTO") else ""


def _groups(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "by group: rows, mean absolute error, signed mean, worst, rank correlation of the variants"
    for name, group in groups(outcomes).items():
        summary = summarise(group)
        assert summary is not None, name
        rho = rank_correlation([each.row.value for each in group], [each.value for each in group])
        shown = "   -" if rho is None else f"{rho:+.2f}"
        line = f"  {name:20} {summary.count:3} {summary.mape:7.1%} {summary.signed:+7.1%}"
        yield f"{line}   {summary.worst.row.id} {summary.worst.error:+.1%}   {shown}"
    if any(each.row.within == "matmul-a3" for each in outcomes):
        yield f"  {PTO}"
    yield ""


def _summary(summary: Summary) -> str:
    worst = f"worst {summary.worst.row.id} {summary.worst.error:+.1%}"
    return f"{summary.count} rows, mean absolute error {summary.mape:.1%}, signed {summary.signed:+.1%}, {worst}"


def exclusions(rows: Sequence[Row]) -> Iterator[str]:
    """The excluded rows, by reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.kind == "excluded":
            reasons.setdefault(str(row.reason), []).append(row.id)
    yield "excluded"
    for reason, names in reasons.items():
        yield f"  {', '.join(names)}: {reason}"
    yield ""


def missed_aims(outcomes: Sequence[Outcome]) -> list[str]:
    """The aims that these rows miss, a line each."""
    missed = []
    summary = summarise([each for each in outcomes if each.row.kind == "A"])
    if summary and summary.mape > AIM_MAPE:
        missed.append(f"mean absolute error {summary.mape:.1%} is above {AIM_MAPE:.0%}")
    for each in outcomes:
        if each.row.set == "held_out" and abs(each.error) > AIM_HELD_OUT:
            missed.append(f"{each.row.id}: {each.error:+.1%} is beyond {AIM_HELD_OUT:.0%}")
    return missed
