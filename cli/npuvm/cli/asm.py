"""`npuvm asm`: assembly text to a program image."""

from __future__ import annotations

import typer

from npuvm.cli.options import Extensions, InputFile, IsaName, OutFile, read_text
from npuvm.cli.output import write_atomic
from npuvm.isa import assemble, load_isa

__all__ = ["IMAGE_SUFFIX", "asm"]

IMAGE_SUFFIX = ".npuimg"


def asm(file: InputFile, out: OutFile = None, isa: IsaName = "npu_v1", extension: Extensions = None) -> None:
    """Assemble FILE into a program image (default: its name with .npuimg)."""
    image = assemble(load_isa(isa, extension or ()), read_text(file), str(file))
    target = out or file.with_suffix(IMAGE_SUFFIX)
    data = image.to_bytes()
    write_atomic(target, data)
    typer.echo(
        f"{target}: {image.name}, {len(image.words)} words, {len(image.entries)} cores, "
        f"{len(image.relocs)} relocations, {len(data)} bytes"
    )
