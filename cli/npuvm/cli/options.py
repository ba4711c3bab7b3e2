"""Arguments and options that several verbs take, spelt once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa, load_isa
from npuvm.isa.errors import AsmError

__all__ = [
    "AsJson",
    "AsJsonList",
    "Buffering",
    "ChipName",
    "ColdL2",
    "Extensions",
    "InputFile",
    "IsaName",
    "OutFile",
    "Overrides",
    "ScenarioFiles",
    "instruction_set",
    "read_text",
]

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
ScenarioFiles: TypeAlias = Annotated[list[Path], typer.Argument(help="Scenario files.", show_default=False)]
ChipName: TypeAlias = Annotated[
    str | None, typer.Option("--chip", help="Run on this chip, a name or a file, instead of the scenario's.")
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change the chip: core.ub_kib=512. Repeatable."),
]
Buffering: TypeAlias = Annotated[
    Literal["auto", "single", "double"] | None,
    typer.Option(
        "--buffering",
        help="Most slots of every ring on chip: one, two, or as the compiler chooses.",
        show_default=False,
    ),
]
ColdL2: TypeAlias = Annotated[
    bool, typer.Option("--cold-l2", help="Every launch finds L2 empty, not as the one before left it.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]
AsJsonList: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON list instead of tables.")]


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
