"""`npuvm area`: an estimate of a chip's area by component."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from npuvm.hw.config import load_chip
from npuvm.hw.energy import estimate_area, load_technology
from npuvm.runtime.energy import DEFAULT_TECHNOLOGY, render_area

__all__ = ["TechnologyName", "area"]

TechnologyName = Annotated[
    str, typer.Option("--technology", help="Technology of the estimate: shipped name or path ending in .yaml.")
]


def area(
    chip: Annotated[str, typer.Argument(help="Chip: shipped name or path ending in .yaml.", show_default=False)],
    technology: TechnologyName = DEFAULT_TECHNOLOGY,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change the chip: core.ub_kib=512. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Estimate a chip's area by component, in a technology."""
    report = estimate_area(load_chip(chip, overrides or ()), load_technology(technology))
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2, allow_nan=False))
    else:
        Console(highlight=False).print(render_area(report))
