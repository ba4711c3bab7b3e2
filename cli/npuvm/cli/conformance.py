"""`npuvm conformance`: runs the conformance suite on a target, prints what it found, writes reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from npuvm.cli.options import Extensions, IsaName
from npuvm.cli.output import DelayedBar, wide_console, write_atomic
from npuvm.isa import load_isa
from npuvm.isa.conformance import Level, Report, SuiteOptions, Target, find_target, run_suite, unloadable
from npuvm.isa.conformance.writers import render_html, render_json, render_junit
from npuvm.isa.errors import IsaError
from npuvm.isa.resources import find_resource

__all__ = ["conformance"]

EXIT_FAILED = 1
SHOWN = 20
"""Failures, and bins that are not covered, that are listed; the others are counted."""


def conformance(
    target: Annotated[
        str,
        typer.Option("--target", "-t", help="What to test: an installed target, or module:function that makes one."),
    ],
    level: Annotated[
        list[Level] | None, typer.Option("--level", "-l", help="Run this level; may be repeated. Default: all it has.")
    ] = None,
    words: Annotated[int, typer.Option("--words", min=0, help="Random words of level classes.")] = SuiteOptions().words,
    seed: Annotated[int, typer.Option("--seed", help="Seed of all random cases.")] = SuiteOptions().seed,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for report.json, junit.xml and report.html.", show_default=False),
    ] = None,
    isa: IsaName = None,
    extension: Extensions = None,
) -> int:
    """Test an implementation of the instruction set, level by level.

    Exit code 1: a case failed, or the instruction set itself does not load.
    """
    options = SuiteOptions(frozenset(level) if level else None, words, seed)
    made = find_target(target)
    report = _run(isa, extension or (), made, options)
    _print(wide_console(), report)
    if out is not None:
        for name, text in (
            ("report.json", render_json(report)),
            ("junit.xml", render_junit(report)),
            ("report.html", render_html(report)),
        ):
            write_atomic(out / name, text)
    return 0 if report.ok else EXIT_FAILED


def _run(isa: str | None, extensions: Sequence[str], target: Target, options: SuiteOptions) -> Report:
    for kind, name in (("isa", isa), *(("extension", name) for name in extensions)):
        _must_exist(kind, name)
    try:
        loaded = load_isa(isa, extensions)
    except IsaError as exc:
        return unloadable(isa or "npu_v1", extensions, target.name, options, exc)
    with DelayedBar("conformance") as bar:
        return run_suite(loaded, target, options, lambda level, done, total: bar.update(done, total, level.value))


def _must_exist(kind: str, name: str | None) -> None:
    """A name that names nothing is a slip of the user; only what a file says can fail the suite."""
    if name is None:
        return
    if not name.endswith(".yaml"):
        find_resource(kind, name)
    elif not Path(name).is_file():
        raise IsaError("no such file", name)


def _print(console: Console, report: Report) -> None:
    extensions = f" with {', '.join(report.extensions)}" if report.extensions else ""
    console.print(_table(f"{report.target} on {report.isa}{extensions}", report))
    for level in report.levels:
        if level.skipped is not None:
            console.print(f"not run: {level.level.value} ({escape(level.skipped)})", highlight=False)
        for reason, count in level.reasons.items():
            text = f"left out: {count} programs of level {level.level.value} ({reason})"
            console.print(escape(text), highlight=False, soft_wrap=True)
    for level in report.levels:
        if level.derived:
            text = "are derived: expected from the stanza's own expression, evaluated a second time"
            console.print(f"note: {level.derived} bins of level {level.level.value} {text}", highlight=False)
    for note in report.notes:
        console.print(f"note: {escape(note)}", highlight=False)
    _print_failures(console, report)
    _print_uncovered(console, report)


def _table(title: str, report: Report) -> Table:
    table = Table(title=escape(title), title_justify="left")
    table.add_column("level")
    for heading in ("cases", "passed", "failed", "bins covered", "words", "values", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for level in report.levels:
        if level.skipped is not None:
            continue
        table.add_row(
            level.level.value,
            f"{level.cases}",
            f"{level.passed}",
            f"[red]{level.failed}[/]" if level.failed else "0",
            f"{len(level.covered)}/{level.bins}",
            f"{level.words}",
            f"{level.values}",
            f"{level.seconds:.1f}",
        )
    return table


def _print_failures(console: Console, report: Report) -> None:
    shown = [failure for level in report.levels for failure in level.failures][:SHOWN]
    for failure in shown:
        console.print(f"[red]failed[/] {escape(failure.case)}", soft_wrap=True)
        console.print(f"  expected: {escape(failure.expected)}", soft_wrap=True, highlight=False)
        console.print(f"  got:      {escape(failure.got)}", soft_wrap=True, highlight=False)
    if report.failed > len(shown):
        console.print(f"and {report.failed - len(shown)} more failures")


def _print_uncovered(console: Console, report: Report) -> None:
    missing = [item for level in report.levels for item in level.uncovered.items()]
    for name, reason in missing[:SHOWN]:
        console.print(f"not covered: {escape(name)} ({escape(reason)})", soft_wrap=True, highlight=False)
    if len(missing) > SHOWN:
        console.print(f"and {len(missing) - SHOWN} more bins that are not covered; report.json has them all")
