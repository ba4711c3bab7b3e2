"""`npuvm schema`: the JSON Schema of npuvm's YAML files, for editors that complete and check them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from npuvm.cli.output import json_text, write_atomic
from npuvm.explore.space import space_json_schema
from npuvm.hw.config import chip_json_schema
from npuvm.hw.energy import technology_json_schema
from npuvm.runtime.scenarios.schema import scenario_schema

__all__ = ["SchemaKind", "schema"]


class SchemaKind(StrEnum):
    """The kinds of file that have a schema."""

    CHIP = "chip"
    SCENARIO = "scenario"
    TECHNOLOGY = "technology"
    SPACE = "space"


_SCHEMAS = {
    SchemaKind.CHIP: chip_json_schema,
    SchemaKind.SCENARIO: scenario_schema,
    SchemaKind.TECHNOLOGY: technology_json_schema,
    SchemaKind.SPACE: space_json_schema,
}


def schema(
    kind: Annotated[SchemaKind, typer.Argument(help="Which kind of file.")] = SchemaKind.CHIP,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead of stdout.")] = None,
) -> None:
    """Print the JSON Schema of a chip, a scenario, a technology or a design space file."""
    text = json_text(_SCHEMAS[kind]())
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(out, text)
