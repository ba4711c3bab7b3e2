"""`npuvm run`: runs an ONNX model on a simulated chip, at as many sizes as one likes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from npuvm.cli.model_files import ModelFile, open_model
from npuvm.cli.options import AsJson, Buffering, Overrides
from npuvm.cli.output import json_text, wide_console, write_atomic

if TYPE_CHECKING:
    from npuvm.runtime.session.feeds import InputSpec
    from npuvm.runtime.session.session import Session

__all__ = ["run"]

Fusion = Literal["none", "pattern", "stack", "both"]
RunEngine = Literal["functional_first", "functional", "simpy"]
Data = Literal["random", "zeros"]

_MUCH = 0.2
"""Least share of a run's time that transfers of operators of the host take where it is said."""

_MANY_LAUNCHES = 8
"""Fewest launches for which it is said what they take."""


def run(
    model: ModelFile,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=DIMS",
            help="Dims of an input (x=1,16 or x=1,? or ids=2,16:int64), or its data (x=@file.npy). Said again: the next run.",
        ),
    ] = None,
    chip: Annotated[str, typer.Option("--chip", help="The chip, a name or a file.")] = "ascend_910b1",
    overrides: Overrides = None,
    fusion: Annotated[
        Fusion | None,
        typer.Option("--fusion", help="What shares a program and a launch. Default: pattern."),
    ] = None,
    buffering: Buffering = None,
    no_host: Annotated[
        bool, typer.Option("--no-host", help="An operator that the host would run is an error.")
    ] = False,
    timing_only: Annotated[bool, typer.Option("--timing-only", help="Simulate time without tensor data.")] = False,
    engine: Annotated[
        RunEngine, typer.Option("--engine", help="Data and then time; data alone; or both at once, which is slow.")
    ] = "functional_first",
    data: Annotated[Data, typer.Option("--data", help="What inputs without a file hold.")] = "random",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of random inputs.")] = 0,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range", metavar="NAME=LOW:HIGH", help="Random integers of an input; HIGH is left out. Default: 0:2."
        ),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time of the last run went, by kernel and by operator.")
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="File for the last run's launches and transfers in time: open it in Perfetto."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for outputs, RUN-NAME.npy each.")] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="Take programs from this plan file where it is there, and write it at the end."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run an ONNX model on a simulated chip and print what it took.

    Figures of the chip are simulated; those of the compiler are measured on this machine and say so.
    """
    if timing_only and out is not None:
        raise typer.BadParameter("--timing-only gives no data; leave out --out")
    untimed = [name for name, asked in (("--profile", profile), ("--trace", trace is not None)) if asked]
    if untimed and engine == "functional":
        raise typer.BadParameter(f"--engine functional simulates no time; leave out {', '.join(untimed)}")
    proto = open_model(model)
    from npuvm.runtime.session import Session
    from npuvm.runtime.session.feeds import parse_input, runs_of

    specs = [parse_input(text) for text in inputs or ()]
    options: dict[str, Any] = {
        "fusion": fusion,
        "buffering": buffering,
        "engine": None if timing_only else engine,
        "timing_only": timing_only,
        "no_host": no_host,
    }
    if plan is not None and plan.exists():
        session = Session.load(plan, proto, chip, overrides or (), **options)
    else:
        session = Session(proto, chip, overrides or (), **options)
    found = _Found(session, {name: (low, high) for name, low, high in map(_range, ranges or ())})
    for number, each in enumerate(runs_of(specs, session.model)):
        found.add(number, each, None if data == "zeros" else np.random.default_rng(seed), out)
    if plan is not None:
        session.save(plan)
    if trace is not None and session.last.calls is not None:
        write_atomic(trace, json_text(session.last.calls.timeline.chrome_trace()))
    if as_json:
        typer.echo(json_text(found.json(profile)), nl=False)
    else:
        found.show(profile)
        if fusion is None:
            found.hint()
        found.hint_of_hosts()


def _range(text: str) -> tuple[str, int, int]:
    name, _, ends = text.partition("=")
    low, _, high = ends.partition(":")
    try:
        found = name, int(low), int(high)
    except ValueError:
        raise typer.BadParameter(f"--range {text!r}; allowed: NAME=LOW:HIGH, as ids=0:30522") from None
    if found[1] >= found[2]:
        raise typer.BadParameter(f"--range {text!r}: there is no number from {low} on below {high}")
    return found


class _Found:
    """The runs of a session, to be shown."""

    def __init__(self, session: Session, ranges: dict[str, tuple[int, int]]) -> None:
        from npuvm.runtime.session.report import RunReport

        self.session, self._ranges = session, ranges
        self.reports: list[RunReport] = []
        self.outputs: dict[str, Any] = {}

    def add(self, number: int, specs: dict[str, InputSpec], rng: np.random.Generator | None, out: Path | None) -> None:
        """Run once more."""
        from npuvm.runtime.session.feeds import arrays_of, shapes_of

        session = self.session
        if session.device.timing_only:
            self.reports.append(session.time(shapes_of(specs, session.model)))
            return
        self.outputs = session.run(arrays_of(specs, session.model, rng, self._ranges))
        self.reports.append(session.last)
        for name, array in self.outputs.items() if out is not None else ():
            assert out is not None
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            write_atomic(out / f"{number}-{name.replace('/', '_')}.npy", buffer.getvalue())

    def json(self, profile: bool) -> dict[str, Any]:
        from npuvm.runtime.session.profile import profile_json
        from npuvm.runtime.session.show import report_json

        session = self.session
        found: dict[str, Any] = {
            "model": session.model.name,
            "chip": session.device.chip.name,
            "isa": session.device.isa.hash,
            "runs": [report_json(each) for each in self.reports],
        }
        if profile:
            found["kernels"] = profile_json(session.profile())
            found["nodes"] = profile_json(session.profile_nodes())
            found["transfers"] = profile_json(session.profile_transfers())
        return found

    def show(self, profile: bool) -> None:
        from npuvm.runtime.session.show import (
            render_hosts,
            render_nodes,
            render_outputs,
            render_profile,
            render_runs,
            render_transfers,
        )

        session, console = self.session, wide_console()
        title = f"{session.model.name} on {session.device.chip.name}"
        console.print(render_runs(title, self.reports))
        if self.outputs:
            console.print(render_outputs(self.outputs))
        if self.reports[-1].hosts:
            console.print(render_hosts(self.reports[-1]))
        if profile:
            console.print(render_profile(session.profile()))
            console.print(render_nodes(session.profile_nodes()))
            console.print(render_transfers(session.profile_transfers()))
        for number, each in enumerate(self.reports):
            if each.reread:
                typer.echo(
                    f"npuvm: run {number}: the model was read again for these sizes alone: {each.reread}", err=True
                )

    def hint(self) -> None:
        """Say so where the host's launches take most of the last run's simulated time."""
        last = self.reports[-1]
        on_chip_us = sum(sum(group) for group in last.launch_groups_us)
        if last.launches >= _MANY_LAUNCHES and last.simulated_us > 2 * on_chip_us:
            share = 1 - on_chip_us / last.simulated_us
            text = f"{share:.0%} of the simulated time is the host's, for {last.launches} launches"
            typer.echo(
                f"npuvm: {text}; --fusion both makes fewer of them, and takes longer to verify new sizes", err=True
            )

    def hint_of_hosts(self) -> None:
        """Say so where transfers for operators of the host take much of the last run's simulated time."""
        last = self.reports[-1]
        crossing_us = sum(use.to_host_us + use.to_device_us for use in last.hosts.values())
        if crossing_us > _MUCH * last.with_transfers_us:
            share = crossing_us / last.with_transfers_us
            count = f"{len(last.hosts)} operator{'s' if len(last.hosts) > 1 else ''}"
            text = (
                f"transfers for {count} of the host take {crossing_us:.1f} us, {share:.0%} of the time with transfers"
            )
            typer.echo(f"npuvm: {text}; npuvm coverage says why they are there", err=True)
