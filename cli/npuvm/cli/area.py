"""`npuvm area`: an estimate of a chip's area by component."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from npuvm.cli.options import AsJson, Overrides
from npuvm.cli.output import json_text
from npuvm.hw.config import load_chip
from npuvm.hw.energy import estimate_area, load_technology
from npuvm.runtime.analysis.energy import DEFAULT_TECHNOLOGY, render_area

__all__ = ["area"]


def area(
    chip: Annotated[str, typer.Argument(help="Chip: shipped name or path ending in .yaml.", show_default=False)],
    technology: Annotated[
        str, typer.Option("--technology", help="Technology of the estimate: shipped name or path ending in .yaml.")
    ] = DEFAULT_TECHNOLOGY,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Estimate a chip's area by component, in a technology."""
    report = estimate_area(load_chip(chip, overrides or ()), load_technology(technology))
    if as_json:
        typer.echo(json_text(report.to_json()), nl=False)
    else:
        Console(highlight=False).print(render_area(report))
