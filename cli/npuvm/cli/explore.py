"""`npuvm explore`: searches a design space, and looks at what searches found."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from npuvm.cli.explore_plan import Plan, plan_of
from npuvm.cli.explore_progress import SearchProgress
from npuvm.cli.explore_results import (
    FOLDER,
    ResultsFolder,
    Storage,
    check_report,
    compare,
    pick,
    report,
    show_results,
)
from npuvm.cli.options import AsJson
from npuvm.cli.output import json_text, wide_console
from npuvm.explore.space import load_space

if TYPE_CHECKING:
    from npuvm.explore.study import Executor, Outcome, Screen, SpaceEvaluate, Study

__all__ = ["explore_app"]


class Sampler(StrEnum):
    """How points are chosen."""

    GRID = "grid"
    RANDOM = "random"
    TPE = "tpe"
    NSGA2 = "nsga2"


class Where(StrEnum):
    """Where points are evaluated."""

    LOCAL = "local"
    RAY = "ray"


class _SearchByDefault(TyperGroup):
    """Without a verb of its own the command searches."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the verb before what is none."""
        args = args or ["--help"]
        verb = args[0]
        return super().parse_args(ctx, args if verb in self.commands or verb in ("-h", "--help") else ["search", *args])


explore_app = typer.Typer(
    cls=_SearchByDefault,
    help="Search a design space (`npuvm explore SPACE.yaml`), and look at what searches found.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@explore_app.command()
def search(
    space: Annotated[Path, typer.Argument(help="A design space, a YAML file.", show_default=False)],
    sampler: Annotated[
        Sampler | None, typer.Option(help="How points are chosen. Default: as the space says.", show_default=False)
    ] = None,
    evaluations: Annotated[
        int | None,
        typer.Option(
            "--evaluations",
            "-n",
            min=1,
            help="Evaluate so many points, those of earlier runs included. Default: as the space says.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the sampler.", show_default=False)] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="Points that are asked for at a time; a generation of nsga2.", show_default=False
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", "-j", min=1, help="Processes. Default: one a core.", show_default=False)
    ] = None,
    executor: Annotated[Where, typer.Option(help="Evaluate points on this machine or on a Ray cluster.")] = Where.LOCAL,
    ray_address: Annotated[
        str | None,
        typer.Option(help="The Ray cluster. Default: that of RAY_ADDRESS, or this machine's.", show_default=False),
    ] = None,
    storage: Storage = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what the study has.")] = False,
    other_code: Annotated[
        bool, typer.Option("--other-code", help="Go on with points that other code evaluated; results say which did.")
    ] = False,
    no_sharing: Annotated[
        bool, typer.Option("--no-sharing", help="Compile and simulate every run of every point anew.")
    ] = False,
    no_bounds: Annotated[
        bool, typer.Option("--no-bounds", help="Simulate points to the end whose lower bounds are beaten.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how large the space is and what a search would take.")
    ] = False,
    out: ResultsFolder = FOLDER,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what is wrong.")] = False,
) -> None:
    """Evaluate points of a design space and print its front: the points that no other point beats.

    What is evaluated is kept at once: a search that was stopped, in whatever way, goes on where it was.
    """
    from npuvm.explore.evaluation import check_workloads, host_line, host_operators

    loaded = load_space(space)
    check_workloads(loaded)
    for workload in loaded.workloads:
        if on_host := max(host_operators(workload, run) for run in workload.runs):
            typer.echo(f"npuvm: {host_line(workload.name, on_host)}", err=True)
    if dry_run:
        _show_plan(plan_of(loaded, evaluations, processes, quiet or as_json), as_json)
        return
    if ray_address is not None and executor is not Where.RAY:
        raise typer.BadParameter("--ray-address goes with --executor ray")
    from npuvm.explore.study import Study

    check_report(out)
    wanted = evaluations or loaded.search.evaluations
    opened = Study.open(
        loaded,
        storage,
        None if sampler is None else sampler.value,
        seed,
        batch=batch,
        bounds=False if no_bounds else None,
        fresh=fresh,
        other_code=other_code,
    )
    with opened as study:
        screen = study.screen(None if no_sharing else study.results_file)
        make = _evaluation(study, no_sharing, None if executor is Where.RAY else study.results_file)
        with (
            _executor(make, executor, ray_address, processes) as place,
            SearchProgress(study, wanted, enabled=not (quiet or as_json)) as progress,
        ):
            try:
                outcome = study.run(wanted, place, progress.add, screen)
            except KeyboardInterrupt:
                progress.stop()
                kept = len(study.evaluated())
                typer.echo(f"npuvm: {kept} points are kept in {study.where}; the same command goes on", err=True)
                raise
        entries = study.evaluated()
    show_results(loaded, entries, out, as_json, quiet)
    if not (quiet or as_json) and outcome != "evaluated":
        typer.echo(_ending(outcome, screen))


def _evaluation(study: Study, no_sharing: bool, store: Path | None) -> SpaceEvaluate:
    from npuvm.explore.study import SpaceEvaluate

    space = study.space
    return SpaceEvaluate(
        space.path.resolve(),
        space.text,
        None if no_sharing else store,
        sharing=not no_sharing,
        bounds=study.settings.bounds,
    )


def _executor(make: SpaceEvaluate, where: Where, address: str | None, processes: int | None) -> Executor:
    from npuvm.explore.study import InProcess, ProcessPool, ray_tasks

    if where is Where.RAY:
        return ray_tasks(make, address)
    return InProcess(make) if (processes or os.cpu_count()) == 1 else ProcessPool(make, processes)


def _ending(outcome: Outcome, screen: Screen | None) -> str:
    """Why a search ended before it had as many points as were wanted."""
    from npuvm.explore.study.candidates import MOST_REFUSED

    if outcome == "sparse":
        return f"the search ended: none of {MOST_REFUSED} other combinations is a point that can be of the front"
    if screen is None:
        return "the search ended: every point of the space was evaluated"
    over, beaten = screen.out["over_budget"], screen.out["beaten"]
    return f"the front is whole: of all other points {over} break a budget and {beaten} are beaten, by their limits"


def _show_plan(plan: Plan, as_json: bool) -> None:
    if as_json:
        typer.echo(json_text(plan.to_json()), nl=False)
        return
    console = wide_console()
    console.print(plan.table())
    for line in plan.lines():
        typer.echo(line)


for _verb in (pick, compare, report):
    explore_app.command()(_verb)
