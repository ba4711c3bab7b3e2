"""`npuvm explain`: where the cycles of a scenario's kernels went, what bounds them, and what would help."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.console import Console, RenderableType

from npuvm.cli.output import DelayedBar
from npuvm.runtime.device import LaunchRecord
from npuvm.runtime.explain_report import render_explained
from npuvm.runtime.explained import explain_launches, explained_json
from npuvm.runtime.recording import record_scenario
from npuvm.runtime.scenario import load_scenario

__all__ = ["AsJson", "ChipOption", "ColdL2", "Overrides", "ScenarioFiles", "WithData", "explain", "recorded", "show"]

PLAIN_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, where no terminal says how wide it is."""

ScenarioFiles: TypeAlias = Annotated[list[Path], typer.Argument(help="Scenario files.", show_default=False)]
ChipOption: TypeAlias = Annotated[
    str | None, typer.Option("--chip", help="Run on this chip, a name or a file, instead of the scenario's.")
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change the chip: core.ub_kib=512. Repeatable."),
]
WithData: TypeAlias = Annotated[
    bool, typer.Option("--data", help="Move tensor data too; programs that load sizes from memory need it.")
]
ColdL2: TypeAlias = Annotated[
    bool, typer.Option("--cold-l2", help="Every launch finds L2 empty, not as the one before left it.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON list instead of tables.")]


def explain(
    config: ScenarioFiles,
    chip: ChipOption = None,
    overrides: Overrides = None,
    units: Annotated[bool, typer.Option("--units/--no-units", help="Print a table of the units too.")] = True,
    path: Annotated[
        bool, typer.Option("--path", help="Follow the critical path of each kernel too; slower, it keeps a trace.")
    ] = False,
    data: WithData = False,
    cold_l2: ColdL2 = False,
    as_json: AsJson = False,
) -> None:
    """Take the cycles of every kernel of a scenario apart, and say what bounds it. Simulates time only."""
    reports = []
    for file in config:
        name, records = recorded(file, chip, overrides or (), data, cold_l2, traced=path)
        run = explain_launches(records)
        reports.append({"scenario": name, **explained_json(run)})
        if not as_json:
            show(name, render_explained(run, units))
    if as_json:
        typer.echo(json.dumps(reports, indent=2, ensure_ascii=False, allow_nan=False))


def recorded(
    path: Path, chip: str | None, overrides: Sequence[str], data: bool, cold_l2: bool, *, traced: bool = False
) -> tuple[str, tuple[LaunchRecord, ...]]:
    """Run a scenario file with a bar on stderr; return its name and its launches."""
    scenario = load_scenario(path)
    with DelayedBar(scenario.name) as bar:
        records = record_scenario(
            scenario, chip, overrides, data=data, cold_l2=cold_l2, traced=traced, progress=bar.update
        )
    return scenario.name, records


def show(title: str, content: RenderableType) -> None:
    """Print a title and what belongs to it on stdout, `PLAIN_WIDTH` wide where there is no terminal."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=PLAIN_WIDTH)
    console.print(f"[bold]{title}[/bold]", highlight=False)
    console.print(content)
