"""Launches of a scenario file, recorded for the verbs that take them apart or run them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.console import RenderableType

from npuvm.cli.output import DelayedBar, wide_console
from npuvm.runtime.analysis.recording import record_scenario
from npuvm.runtime.device.device import LaunchRecord
from npuvm.runtime.scenarios.schema import load_scenario, with_buffering

__all__ = ["WithData", "record_file", "show"]

WithData: TypeAlias = Annotated[
    bool, typer.Option("--data", help="Move tensor data too; programs that load sizes from memory need it.")
]


def record_file(
    path: Path,
    chip: str | None,
    overrides: Sequence[str],
    data: bool,
    cold_l2: bool,
    *,
    traced: bool = False,
    buffering: str | None = None,
) -> tuple[str, tuple[LaunchRecord, ...]]:
    """Run a scenario file with a bar on stderr; return its name and its launches."""
    scenario = with_buffering(load_scenario(path), buffering)
    with DelayedBar(scenario.name) as bar:
        records = record_scenario(
            scenario, chip, overrides, data=data, cold_l2=cold_l2, traced=traced, progress=bar.update
        )
    return scenario.name, records


def show(title: str, content: RenderableType) -> None:
    """Print a title and what belongs to it on stdout."""
    console = wide_console()
    console.print(f"[bold]{title}[/bold]", highlight=False)
    console.print(content)
