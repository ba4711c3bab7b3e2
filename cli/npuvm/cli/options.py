"""Arguments and options that several verbs take, spelt once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa, load_isa
from npuvm.isa.errors import AsmError

__all__ = ["Extensions", "InputFile", "IsaName", "OutFile", "instruction_set", "read_text"]

InputFile: TypeAlias = Annotated[Path, typer.Argument(exists=True, dir_okay=False, show_default=False)]
OutFile: TypeAlias = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file.", show_default=False)]
IsaName: TypeAlias = Annotated[
    str | None,
    typer.Option("--isa", help="Instruction set: shipped name or path ending in .yaml. Default: npu_v1."),
]
Extensions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--extension", "-x", help="Extension laid over it, by name or path; may be repeated."),
]


def instruction_set(isa: str | None, extensions: Sequence[str] | None, chip: NpuConfig | None = None) -> Isa:
    """The instruction set of the options, or that of the chip when one is given, which then must be the only source."""
    if chip is None:
        return load_isa(isa, extensions or ())
    if isa or extensions:
        raise typer.BadParameter("--chip brings its own instruction set; leave out --isa and --extension")
    return load_isa(chip.isa.base, chip.isa.extensions)


def read_text(path: Path) -> str:
    """The UTF-8 text of a source file; AsmError when it is something else."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise AsmError(f"not UTF-8 text: byte {exc.start} is {exc.object[exc.start]:#04x}", str(path)) from None
