"""`npuvm isa`: look at an instruction set, check it, and make what is generated from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from npuvm.cli.isa_area import area
from npuvm.cli.isa_prove import prove
from npuvm.cli.isa_usage import usage
from npuvm.cli.options import Extensions, IsaName, instruction_set
from npuvm.cli.output import write_together
from npuvm.isa import Instruction, Isa, IsaError, load_isa
from npuvm.isa.conformance.layout import Layout
from npuvm.isa.conformance.lint import lint_cases
from npuvm.isa.generate import (
    OpcodeState,
    OpcodeUse,
    artifacts,
    decoder_ports,
    field_rows,
    free_ranges,
    opcode_uses,
    stale_files,
)
from npuvm.isa.resources import data_root
from npuvm.isa.yaml_strict import load_yaml

__all__ = ["isa_app"]

EXIT_STALE = 1


def generate(
    isa: IsaName = None,
    extension: Extensions = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write to. Default: this clone, for the set that it ships."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 when a file differs from what would be written.")
    ] = False,
) -> None:
    """Write the SystemVerilog decoder, the C header, the resolved JSON with its schema and the reference pages.

    A set that `npuvm isa lint` finds something wrong with is refused, and nothing is written.
    """
    root = _generated_root(isa, extension) if out is None else out
    chosen = instruction_set(isa, extension)
    _refuse_wrong(chosen, _title(chosen))
    wanted = artifacts(chosen)
    if not check:
        write_together({root / path: text for path, text in wanted.items()})
        typer.echo(f"{len(wanted)} files written")
        return
    stale = stale_files(root, wanted)
    for each in stale:
        typer.echo(f"stale: {each.path}\n{each.difference}")
    typer.echo(f"{len(wanted)} files checked, {len(stale)} stale")
    if stale:
        typer.echo("npuvm: run `npuvm isa generate` to write them again", err=True)
        raise typer.Exit(EXIT_STALE)


def show(
    name: Annotated[str, typer.Argument(metavar="INSTRUCTION", show_default=False)],
    isa: IsaName = None,
    extension: Extensions = None,
) -> None:
    """Print what an instruction is: its encoding, its operands, its types, what it means and what it may trap on."""
    chosen = instruction_set(isa, extension)
    instruction = chosen.instruction(name)
    for line in _description(chosen, instruction):
        typer.echo(line)
    rows = field_rows(instruction)
    if rows:
        table = Table(box=None, pad_edge=False)
        for column in ("operand", "read as", "what"):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(row.name, row.read, row.what.replace("`", ""))
        Console(highlight=False, markup=False).print(table)


def opcode_map(isa: IsaName = None, extension: Extensions = None) -> None:
    """Print which opcode is which instruction, and what is free."""
    chosen = instruction_set(isa, extension)
    uses = opcode_uses(chosen)
    columns = 16
    width = max(len(_cell(use)) for use in uses) + 1
    typer.echo(f"opcodes of {_title(chosen)}; . free, + free for extensions, (off) of a feature that is off")
    typer.echo("".join(["    ", *(f"_{column:x}".ljust(width) for column in range(columns))]).rstrip())
    for start in range(0, len(uses), columns):
        cells = (_cell(use).ljust(width) for use in uses[start : start + columns])
        typer.echo("".join([f"{start >> 4:x}_  ", *cells]).rstrip())
    for state, what in ((OpcodeState.FREE, "free"), (OpcodeState.CUSTOM, "free for extensions")):
        ranges = free_ranges(uses, state)
        count = sum(last - first + 1 for first, last in ranges)
        spans = ", ".join(f"{first:#04x}-{last:#04x}" if last > first else f"{first:#04x}" for first, last in ranges)
        typer.echo(f"{what}: {count} of {len(uses)}" + (f" ({spans})" if spans else ""))


def lint(
    file: Annotated[Path, typer.Argument(help="An instruction set, or an extension.", show_default=False)],
    isa: Annotated[
        str | None, typer.Option("--isa", help="What an extension is laid over. Default: npu_v1.", show_default=False)
    ] = None,
) -> None:
    """Check FILE, an instruction set or an extension: that it loads, what the conformance suite's level lint asks, and
    that everything can be generated."""
    if not file.is_file():
        raise IsaError("no such file", str(file))
    document = load_yaml(file)
    is_extension = isinstance(document.data, dict) and "extension" in document.data
    if isa is not None and not is_extension:
        raise typer.BadParameter("--isa is for extensions; this file is an instruction set itself")
    base, extensions = (isa, [file.resolve()]) if is_extension else (file.resolve(), [])
    chosen = load_isa(base, extensions)
    _refuse_wrong(chosen, str(file))
    artifacts(chosen)
    ports = decoder_ports(chosen)
    formats = {instruction.format for instruction in chosen.instructions.values()}
    typer.echo(
        f"{file}: nothing wrong; {_title(chosen)} has {len(chosen.instructions)} instructions in {len(formats)} formats, "
        f"its decoder {sum(port.direction == 'output' for port in ports)} outputs"
    )


def _refuse_wrong(isa: Isa, where: str) -> None:
    """IsaError when a check of level lint fails; each that does is printed."""
    wrong = [check for check in lint_cases(isa, Layout(isa.resolved)) if check.got != check.expected]
    for check in wrong:
        typer.echo(f"{check.id}: {check.got}")
    if wrong:
        raise IsaError(f"{len(wrong)} checks failed", where)


def _generated_root(isa: str | None, extension: list[str] | None) -> Path:
    """Where the committed files lie; they are those of the shipped set without extensions, and only a clone has them."""
    if isa is not None or extension:
        raise typer.BadParameter(
            "with --isa or --extension give --out: the files in this clone are those of npu_v1 alone"
        )
    root = data_root()
    if not (root / "docs").is_dir():
        raise typer.BadParameter("an installed npuvm has no generated files of its own; give --out")
    return root


def _title(isa: Isa) -> str:
    return " with ".join([f"{isa.name} {isa.version}", *([", ".join(isa.extensions)] if isa.extensions else [])])


def _cell(use: OpcodeUse) -> str:
    marks = {OpcodeState.FREE: ".", OpcodeState.CUSTOM: "+", OpcodeState.NEVER: "-"}
    if use.state is OpcodeState.OFF:
        return f"({use.name})"
    return use.name or marks[use.state]


def _description(isa: Isa, instruction: Instruction) -> list[str]:
    pairs = ("->".join(name for name in pair if name) for pair in instruction.dtypes)
    on = "" if isa.features[instruction.feature] else ", which is off"
    facts = {
        "meaning": instruction.semantics or instruction.function,
        "types": ", ".join(pairs),
        "timing": instruction.timing
        or ("sum of its primitives" if instruction.semantics and instruction.dtypes else None),
        "traps": ", ".join(instruction.traps),
        "feature": instruction.feature + on,
    }
    words = f"{instruction.words + 1} word{'s' if instruction.words else ''}"
    return [
        f"{instruction.name}: {instruction.doc}",
        f"  opcode   {instruction.opcode:#04x}, {words}, format {instruction.format}, unit {instruction.unit}",
        *(f"  {name:<8} {text}" for name, text in facts.items() if text),
    ]


isa_app = typer.Typer(help="Look at an instruction set, check it, generate its decoder, header and pages.")
for _verb in (show, opcode_map, lint, generate, prove, area, usage):
    isa_app.command("map" if _verb is opcode_map else None)(_verb)
