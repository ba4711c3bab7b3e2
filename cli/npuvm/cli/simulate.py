"""`npuvm simulate`: runs scenarios, prints a table for each, writes its JSON beside it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from npuvm.cli.output import DelayedBar, write_atomic
from npuvm.hw.errors import ConfigError
from npuvm.hw.simulator import EngineName, HazardMode
from npuvm.runtime.device import LaunchObserver
from npuvm.runtime.hazard_log import HazardLog
from npuvm.runtime.report import render, to_json
from npuvm.runtime.scenario import Scenario, load_scenario
from npuvm.runtime.scenario_report import ScenarioReport
from npuvm.runtime.scenario_run import run_scenario
from npuvm.runtime.timelines import TimelineRecorder, TimelineSink

__all__ = ["simulate"]

EXIT_FAULTS = 1
PLAIN_WIDTH = 200
"""Columns of a table that goes to a file or a pipe, where no terminal says how wide it is."""


def simulate(
    config: Annotated[list[Path], typer.Argument(help="Scenario files.", show_default=False)],
    chip: Annotated[
        str | None, typer.Option("--chip", help="Run on this chip, a name or a file, instead of the scenario's.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change the chip: core.ub_kib=512. Repeatable."),
    ] = None,
    timing_only: Annotated[
        bool, typer.Option("--timing-only", help="Simulate time without tensor data; results are not checked.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder for the JSON, one file a scenario.")] = Path(
        "build/simulate"
    ),
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="Folder for timelines, one JSON for each program: open them in Perfetto."),
    ] = None,
    check_hazards: Annotated[
        bool,
        typer.Option(
            "--check-hazards",
            help="Report every pair of instructions whose order no event secures; with --timing-only too.",
        ),
    ] = False,
    cold_l2: Annotated[
        bool, typer.Option("--cold-l2", help="Every launch finds L2 empty, not as the one before left it.")
    ] = False,
    engine: Annotated[
        EngineName | None,
        typer.Option(
            "--engine",
            help="Engine of the simulator; without, compiled where only time is simulated.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the reports as one JSON list instead of tables.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what is wrong.")] = False,
) -> int:
    """Run scenarios on a simulated chip and print what they cost and what bounds them.

    Exit code 1: a result is wrong, below a physical bound, or a hazard was found.
    """
    scenarios = [(path, load_scenario(path)) for path in config]
    _check_names(scenarios)
    begin = time.monotonic()
    reports: list[dict[str, Any]] = []
    faults = 0
    for _, scenario in scenarios:
        started = time.monotonic()
        with DelayedBar(scenario.name, enabled=not quiet) as bar:
            hazards = HazardLog()
            observers: list[LaunchObserver] = [hazards]
            if trace is not None:
                observers.append(TimelineRecorder(_timeline_writer(trace / scenario.name)))
            mode: HazardMode | None = "collect" if check_hazards else None
            report = run_scenario(
                scenario,
                chip,
                overrides or (),
                timing_only,
                bar.update,
                hazards=mode,
                cold_l2=cold_l2,
                engine=engine,
                observers=observers,
            )
        reports.append({**to_json(report), "host_wall_seconds_measured": round(time.monotonic() - started, 3)})
        write_atomic(out / f"{scenario.name}.json", _json_text(reports[-1]))
        faults += len(report.faults) + len(hazards.lines)
        _show(report, tables=not (as_json or quiet))
        for line in hazards.lines:
            typer.echo(f"npuvm: {scenario.name}: {line}", err=True)
    if as_json:
        typer.echo(_json_text(reports), nl=False)
    elif not quiet:
        count = f"{len(scenarios)} scenario{'s' if len(scenarios) > 1 else ''}"
        typer.echo(f"{count} in {time.monotonic() - begin:.1f} s of host time (measured); JSON in {out}")
    return EXIT_FAULTS if faults else 0


def _timeline_writer(folder: Path) -> TimelineSink:
    def write(name: str, timeline: dict[str, Any]) -> None:
        plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
        write_atomic(folder / f"{plain}.json", json.dumps(timeline, separators=(",", ":")))

    return write


def _check_names(scenarios: Sequence[tuple[Path, Scenario]]) -> None:
    """Each scenario's name is that of its result file, so no two may share one."""
    first: dict[str, Path] = {}
    for path, scenario in scenarios:
        if scenario.name in first:
            raise ConfigError(f"name {scenario.name!r} is also that of {first[scenario.name]}", str(path))
        first[scenario.name] = path


def _show(report: ScenarioReport, tables: bool) -> None:
    """The report on stdout, or with no tables only its faults on stderr."""
    if tables:
        console = Console()
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console = Console(width=PLAIN_WIDTH)
        console.print(render(report))
        return
    for fault in report.faults:
        typer.echo(f"npuvm: {report.header.scenario}: {fault}", err=True)


def _json_text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
