"""`npuvm tune`: builds a chip's tile library, which the compiler chooses tiles of products from."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from npuvm.cli.options import AsJson, Overrides
from npuvm.cli.output import DelayedBar, OutputError, json_text
from npuvm.compiler.tiles.library import user_folder
from npuvm.explore.tuning import SPREAD, tune_chip
from npuvm.hw.config import load_chip

__all__ = ["Measured", "tune"]


class Measured(Enum):
    """How far up measurements go, as `MEASURABLE` of the tile library."""

    NONE = "none"
    L0 = "l0"
    L1 = "l1"
    CORE = "core"


def tune(
    chip: Annotated[str, typer.Argument(help="Chip: shipped name or path ending in .yaml.", show_default=False)],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where the library is written. Without it where the compiler looks for a user's own; "
            "NPUVM_TILES names other folders to look in.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            "-j",
            min=1,
            help="Processes; without it one for each 100 tiles, at most one a core.",
            show_default=False,
        ),
    ] = None,
    measured: Annotated[
        Measured,
        typer.Option(
            help="The highest level that is measured: none, l0 (the cube and its moves), l1 (one core), core (all at once)."
        ),
    ] = Measured.L1,
    all_tiles: Annotated[
        bool, typer.Option("--all-tiles", help=f"Measure every tile, not {SPREAD} that all others follow from.")
    ] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Measure tiles of matrix products on one core of a chip's simulator, no tensor's shape in mind, and write them down.

    A run that was stopped goes on where it was.
    """
    target = load_chip(chip, overrides or ())
    place = folder or user_folder()
    with DelayedBar(f"tiles of {target.name}") as bar:
        try:
            built = tune_chip(
                target,
                place,
                processes,
                lambda done, total: bar.update(done, total, target.name),
                measured=measured.value,
                spread=None if all_tiles else SPREAD,
            )
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", str(error.filename or place)) from None
    if as_json:
        report = {
            "library": str(built.path),
            "tiles": built.tiles,
            "measured_tiles": built.measured,
            "simulations": built.simulations,
            "cpu_s": round(built.cpu_seconds, 3),
        }
        typer.echo(json_text(report), nl=False)
        return
    typer.echo(
        f"{built.path}: {built.tiles} tiles, {built.measured} of them measured; "
        f"{built.simulations} launches simulated in {built.cpu_seconds:.1f} s of CPU time"
    )
