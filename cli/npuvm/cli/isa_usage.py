"""`npuvm isa usage`: which of the programs of scenarios use which instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from npuvm.cli.options import Extensions
from npuvm.hw.config import load_chip
from npuvm.hw.errors import ConfigError
from npuvm.isa import Image, load_isa
from npuvm.runtime.analysis.usage import InstructionUse, count_uses, scenario_programs
from npuvm.runtime.scenarios.schema import KernelScenario, load_scenario

__all__ = ["usage"]


def usage(
    config: Annotated[list[Path], typer.Argument(help="Scenario files of kind kernels.", show_default=False)],
    chip: Annotated[
        str | None, typer.Option("--chip", help="Compile for this chip, a name or a file, instead of the scenario's.")
    ] = None,
    extension: Extensions = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", "-i", help="List the programs that use this one.", show_default=False)
    ] = None,
) -> None:
    """Compile the kernels of scenarios and count the instructions in their programs."""
    programs: list[tuple[str, Image]] = []
    isa = None
    for path in config:
        scenario = load_scenario(path)
        if not isinstance(scenario, KernelScenario):
            raise ConfigError(f"a scenario of kind {scenario.kind}; allowed here is kernels", str(path))
        loaded = load_chip(chip or scenario.chip)
        found = load_isa(loaded.isa.base, (*loaded.isa.extensions, *(extension or ())))
        if isa is not None and found.hash != isa.hash:
            raise ConfigError("runs another instruction set than the scenarios before it; use --chip", str(path))
        isa = found
        programs += scenario_programs(scenario, loaded, isa)
    assert isa is not None
    if instruction is not None:
        isa.instruction(instruction)
    uses = count_uses(isa, programs)
    if instruction is not None:
        (chosen,) = (use for use in uses if use.name == instruction)
        for name in chosen.programs:
            typer.echo(name)
        typer.echo(f"{instruction} stands in {len(chosen.programs)} of {len(programs)} programs, {chosen.count} times")
        return
    Console().print(_table(uses, len(programs)))
    unused = [use.name for use in uses if not use.count]
    typer.echo(f"not used: {', '.join(unused) or 'none'}")


def _table(uses: tuple[InstructionUse, ...], total: int) -> Table:
    table = Table(title=f"instructions in {total} programs", title_justify="left")
    for column in ("instruction", "dtypes"):
        table.add_column(column)
    for column in ("programs", "times"):
        table.add_column(column, justify="right")
    for use in uses:
        if use.count:
            table.add_row(use.name, ", ".join(use.dtypes), str(len(use.programs)), str(use.count))
    return table
