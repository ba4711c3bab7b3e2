"""Arguments and options that several verbs take, spelt once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from npuvm.isa.errors import AsmError

__all__ = ["Extensions", "InputFile", "IsaName", "OutFile", "read_text"]

InputFile: TypeAlias = Annotated[Path, typer.Argument(exists=True, dir_okay=False, show_default=False)]
OutFile: TypeAlias = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file.", show_default=False)]
IsaName: TypeAlias = Annotated[str, typer.Option("--isa", help="Shipped instruction set, or a path ending in .yaml.")]
Extensions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--extension", "-x", help="Extension laid over it, by name or path; may be repeated."),
]


def read_text(path: Path) -> str:
    """The UTF-8 text of a source file; AsmError when it is something else."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise AsmError(f"not UTF-8 text: byte {exc.start} is {exc.object[exc.start]:#04x}", str(path)) from None
