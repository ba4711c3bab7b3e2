"""`npuvm explain`: where the cycles of a scenario's kernels went, what bounds them, and what would help."""

from __future__ import annotations

from typing import Annotated

import typer

from npuvm.cli.launches import WithData, record_file, show
from npuvm.cli.options import AsJsonList, Buffering, ChipName, ColdL2, Overrides, ScenarioFiles
from npuvm.cli.output import json_text
from npuvm.runtime.analysis.explain_report import render_explained
from npuvm.runtime.analysis.explained import explain_launches, explained_json

__all__ = ["explain"]


def explain(
    config: ScenarioFiles,
    chip: ChipName = None,
    overrides: Overrides = None,
    buffering: Buffering = None,
    units: Annotated[bool, typer.Option("--units/--no-units", help="Print a table of the units too.")] = True,
    path: Annotated[
        bool, typer.Option("--path", help="Follow the critical path of each kernel too; slower, it keeps a trace.")
    ] = False,
    data: WithData = False,
    cold_l2: ColdL2 = False,
    as_json: AsJsonList = False,
) -> None:
    """Take the cycles of every kernel of a scenario apart, and say what bounds it. Simulates time only."""
    reports = []
    for file in config:
        name, records = record_file(file, chip, overrides or (), data, cold_l2, traced=path, buffering=buffering)
        run = explain_launches(records)
        reports.append({"scenario": name, **explained_json(run)})
        if not as_json:
            show(name, render_explained(run, units))
    if as_json:
        typer.echo(json_text(reports), nl=False)
