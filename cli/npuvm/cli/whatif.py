"""`npuvm whatif`: a scenario again on chips on which one thing is free, side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from npuvm.cli.launches import WithData, record_file, show
from npuvm.cli.options import AsJsonList, Buffering, ChipName, ColdL2, Overrides, ScenarioFiles
from npuvm.cli.output import DelayedBar, json_text
from npuvm.runtime.analysis.explain_report import render_whatif
from npuvm.runtime.analysis.idealise import VARIANTS, variant
from npuvm.runtime.analysis.whatif import what_if, whatif_json

__all__ = ["whatif"]

_NAMES = ", ".join(each.name for each in VARIANTS)


def whatif(
    config: ScenarioFiles,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--if",
            metavar="NAME",
            help=f"Only this, or a+b for both; repeatable. There are: {_NAMES}.",
            show_default=False,
        ),
    ] = None,
    chip: ChipName = None,
    overrides: Overrides = None,
    buffering: Buffering = None,
    data: WithData = False,
    cold_l2: ColdL2 = False,
    as_json: AsJsonList = False,
) -> None:
    """Run a scenario again as if something were free: its programs as they are, on a chip with other numbers."""
    variants = [variant(name) for name in names] if names else VARIANTS
    reports = []
    for path in config:
        name, records = record_file(path, chip, overrides or (), data, cold_l2, buffering=buffering)
        with DelayedBar(name) as bar:
            result = what_if(records, variants, bar.update)
        reports.append({"scenario": name, **whatif_json(result)})
        if not as_json:
            show(f"{name} on {result.chip}", render_whatif(result))
    if as_json:
        typer.echo(json_text(reports), nl=False)
