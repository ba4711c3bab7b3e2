"""`npuvm disasm`: a program image to assembly text."""

from __future__ import annotations

from typing import Annotated

import typer

from npuvm.cli.options import Extensions, InputFile, IsaName, OutFile, instruction_set
from npuvm.cli.output import write_atomic
from npuvm.isa import Image, disassemble

__all__ = ["disasm"]


def disasm(
    image: InputFile,
    out: OutFile = None,
    offsets: Annotated[bool, typer.Option("--offsets", help="End each line with its word index.")] = False,
    isa: IsaName = None,
    extension: Extensions = None,
) -> None:
    """Print IMAGE as the assembly text that `npuvm asm` turns into the same image."""
    parsed = Image.from_bytes(image.read_bytes(), str(image))
    text = disassemble(instruction_set(isa, extension), parsed, offsets)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(out, text)
