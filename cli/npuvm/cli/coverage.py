"""`npuvm coverage`: where each operator of a model would run, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from npuvm.cli.model_files import ModelFile, open_model
from npuvm.cli.options import AsJson
from npuvm.cli.output import json_text, wide_console

if TYPE_CHECKING:
    from npuvm.compiler.graph.model import Model

__all__ = ["coverage"]

EXIT_HOST = 1


def coverage(
    model: ModelFile,
    symbols: Annotated[
        bool, typer.Option("--symbols", help="Print sizes too: symbols, what is known of them, what is assumed.")
    ] = False,
    only_host: Annotated[bool, typer.Option("--only-host", help="Leave out what is on the device.")] = False,
    no_host: Annotated[
        bool, typer.Option("--no-host", help="Exit code 1 where an operator would run on the host.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """List the operators of an ONNX model, where each would run, and why not on the device. Runs nothing."""
    proto = open_model(model)
    from npuvm.compiler.frontends.onnx import import_model
    from npuvm.runtime.session.coverage import coverage_json, coverage_of, render_coverage, render_summary

    imported = import_model(proto)
    placed = coverage_of(proto, imported)
    left = [each for each in placed if each.where == "host"]
    if as_json:
        found: dict[str, Any] = {"model": imported.name, "operators": coverage_json(placed)}
        if symbols:
            found["symbols"] = _symbols(imported).splitlines()
        typer.echo(json_text(found), nl=False)
        return EXIT_HOST if no_host and left else 0
    console = wide_console()
    shown = [each for each in placed if not only_host or each.where in ("host", "control")]
    if shown:
        console.print(render_coverage(shown))
    console.print(render_summary(placed))
    if symbols:
        typer.echo(_symbols(imported), nl=False)
    typer.echo(f"{len(placed)} operators, {len(left)} on the host; nothing was run")
    return EXIT_HOST if no_host and left else 0


def _symbols(model: Model) -> str:
    from npuvm.compiler.deduction import report

    return report(model)
