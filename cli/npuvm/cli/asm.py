"""`npuvm asm`: assembly text to a program image."""

from __future__ import annotations

from typing import Annotated

import typer

from npuvm.cli.options import Extensions, InputFile, IsaName, OutFile, instruction_set, read_text
from npuvm.cli.output import write_atomic
from npuvm.hw.config import load_chip
from npuvm.isa import assemble, verify
from npuvm.runtime.device.device import capacity_limits

__all__ = ["IMAGE_SUFFIX", "asm"]

IMAGE_SUFFIX = ".npuimg"


def asm(
    file: InputFile,
    out: OutFile = None,
    chip: Annotated[
        str | None,
        typer.Option("--chip", help="Verify the image for this chip, a name or a file, and use its instruction set."),
    ] = None,
    isa: IsaName = None,
    extension: Extensions = None,
) -> None:
    """Assemble FILE into a program image (default: its name with .npuimg)."""
    target_chip = None if chip is None else load_chip(chip)
    chosen = instruction_set(isa, extension, target_chip)
    image = assemble(chosen, read_text(file), str(file))
    verdict = ""
    if target_chip is not None:
        verify(chosen, image, capacity_limits(target_chip))
        verdict = f", verified for {target_chip.name}"
    target = out or file.with_suffix(IMAGE_SUFFIX)
    data = image.to_bytes()
    write_atomic(target, data)
    typer.echo(
        f"{target}: {image.name}, {len(image.words)} words, {len(image.entries)} cores, "
        f"{len(image.relocs)} relocations, {len(data)} bytes{verdict}"
    )
