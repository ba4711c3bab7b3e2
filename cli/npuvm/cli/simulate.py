"""`npuvm simulate`: runs scenarios, prints a table for each, writes its JSON beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from npuvm.cli.options import AsJsonList, Buffering, ChipName, ColdL2, Overrides, ScenarioFiles
from npuvm.cli.output import DelayedBar, json_text, wide_console, write_atomic
from npuvm.cli.simulate_extras import Extras, Wanted
from npuvm.hw.energy import load_technology
from npuvm.hw.errors import ConfigError
from npuvm.hw.simulator import EngineName, HazardMode
from npuvm.runtime.scenarios.printing import render, to_json
from npuvm.runtime.scenarios.report import ScenarioReport
from npuvm.runtime.scenarios.run import run_scenario
from npuvm.runtime.scenarios.schema import Scenario, load_scenario, with_buffering

__all__ = ["simulate"]

EXIT_FAULTS = 1
MIN_SAMPLES = 2


def simulate(
    config: ScenarioFiles,
    chip: ChipName = None,
    overrides: Overrides = None,
    buffering: Buffering = None,
    timing_only: Annotated[
        bool, typer.Option("--timing-only", help="Simulate time without tensor data; results are not checked.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder for the JSON, one file a scenario.")] = Path(
        "build/simulate"
    ),
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace", help="Folder for timelines, one JSON for each program and one of the run: open them in Perfetto."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Folder for reports, one HTML page a scenario that needs nothing else."),
    ] = None,
    technology: Annotated[
        str | None,
        typer.Option(
            "--technology", help="Estimate the energy in this technology: shipped name or path ending in .yaml."
        ),
    ] = None,
    uncertainty: Annotated[
        int | None,
        typer.Option(
            "--uncertainty",
            min=MIN_SAMPLES,
            metavar="SAMPLES",
            help="Propagate the error bars of the chip's numbers: simulate the launches on so many chips drawn from them.",
        ),
    ] = None,
    check_hazards: Annotated[
        bool,
        typer.Option(
            "--check-hazards",
            help="Report every pair of instructions whose order no event secures; with --timing-only too.",
        ),
    ] = False,
    cold_l2: ColdL2 = False,
    engine: Annotated[
        EngineName | None,
        typer.Option(
            "--engine",
            help="Engine of the simulator. Default: compiled where only time is simulated and numba is installed.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJsonList = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what is wrong.")] = False,
) -> int:
    """Run scenarios on a simulated chip and print what they cost and what bounds them.

    Exit code 1: a result is wrong, below a physical bound, or a hazard was found.
    """
    if engine == "compiled":
        _check_timing_only(timing_only, check_hazards, trace, report)
    scenarios = [(path, with_buffering(load_scenario(path), buffering)) for path in config]
    _check_names(scenarios)
    begin = time.monotonic()
    wanted = Wanted(trace, report, None if technology is None else load_technology(technology), uncertainty)
    mode: HazardMode | None = "collect" if check_hazards else None
    reports: list[dict[str, Any]] = []
    faults = 0
    for _, scenario in scenarios:
        started = time.monotonic()
        extras = wanted.of(scenario.name)
        with DelayedBar(scenario.name, enabled=not quiet) as bar:
            found = run_scenario(
                scenario,
                chip,
                overrides or (),
                timing_only,
                bar.update,
                hazards=mode,
                cold_l2=cold_l2,
                engine=engine,
                observers=extras.observers,
            )
            seconds = round(time.monotonic() - started, 3)
            extras.finish(found, seconds, bar.update)
        reports.append({**to_json(found), **extras.json, "host_wall_seconds_measured": seconds})
        write_atomic(out / f"{scenario.name}.json", json_text(reports[-1]))
        faults += len(found.faults) + len(extras.hazards.lines)
        _show(found, extras, tables=not (as_json or quiet))
    if as_json:
        typer.echo(json_text(reports), nl=False)
    elif not quiet:
        count = f"{len(scenarios)} scenario{'s' if len(scenarios) > 1 else ''}"
        typer.echo(f"{count} in {time.monotonic() - begin:.1f} s of host time (measured); JSON in {out}")
    return EXIT_FAULTS if faults else 0


def _check_timing_only(timing_only: bool, check_hazards: bool, trace: Path | None, report: Path | None) -> None:
    """The compiled engine has neither data nor hazard checks nor traces, which pages are drawn from too."""
    if not timing_only:
        raise typer.BadParameter("--engine compiled simulates time only; add --timing-only")
    asked = {"--check-hazards": check_hazards, "--trace": trace is not None, "--report": report is not None}
    if refused := [name for name, wanted in asked.items() if wanted]:
        raise typer.BadParameter(f"--engine compiled goes without {', '.join(refused)}; leave out one or the other")


def _check_names(scenarios: Sequence[tuple[Path, Scenario]]) -> None:
    """Each scenario's name is that of its result file, so no two may share one."""
    first: dict[str, Path] = {}
    for path, scenario in scenarios:
        if scenario.name in first:
            raise ConfigError(f"name {scenario.name!r} is also that of {first[scenario.name]}", str(path))
        first[scenario.name] = path


def _show(report: ScenarioReport, extras: Extras, tables: bool) -> None:
    """The report on stdout; notes and hazards on stderr, or with no tables all that is wrong."""
    if tables:
        console = wide_console()
        for table in (render(report), *extras.tables):
            console.print(table)
    wrong = extras.hazards.lines if tables else (*report.faults, *extras.hazards.lines)
    for line in (*extras.notes, *wrong):
        typer.echo(f"npuvm: {report.header.scenario}: {line}", err=True)
