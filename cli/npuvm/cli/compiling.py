"""`npuvm compile`: a kernel from a Python file through the compiler, every phase of it on paper."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from npuvm.cli.compiling_report import IndexKind, launch_rows, render_compiled, render_launches, to_json
from npuvm.cli.kernel_files import load_kernel, parse_shapes
from npuvm.cli.options import Buffering, ColdL2, Overrides
from npuvm.cli.output import json_text, wide_console, write_together
from npuvm.compiler import CompileError, Kernel, Pins, Stack
from npuvm.compiler.fusion.report import FusionReport, fusion_report
from npuvm.compiler.inspection.kernel import inspect_kernel
from npuvm.compiler.inspection.stack import InspectedStack, inspect_stack, stack_phase_texts
from npuvm.compiler.inspection.text import PHASE_NAMES, library_note, phase_texts
from npuvm.compiler.language.kinds import pins_of_kind
from npuvm.compiler.program.kinds import for_shapes
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.isa import Isa, load_isa

__all__ = ["compile_file"]

_PHASE_FILE = re.compile(rf"\d{{2,}}-([\w+.]+[-.])?({'|'.join(PHASE_NAMES)})\.txt")


def compile_file(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py[:KERNEL]", help="A Python file; of several kernels and stacks in it, this one."
        ),
    ],
    shapes: Annotated[
        str,
        typer.Option(
            "--shapes", metavar="SHAPES", help='Sizes of every parameter: "x=128x512, w=512"; a scalar is "s=".'
        ),
    ] = "",
    chip: Annotated[str, typer.Option("--chip", help="Compile for this chip, a name or a file.")] = "ascend_910b1",
    overrides: Overrides = None,
    buffering: Buffering = None,
    dump: Annotated[
        Path | None,
        typer.Option("--dump", help="Folder for one numbered text file of each phase.", show_default=False),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Simulate it too, and print tiles, buffers, reuse, events, estimate and cycles."
        ),
    ] = False,
    fusion: Annotated[
        bool,
        typer.Option(
            "--fusion-report", help="Print which operators share programs and which do not, with the estimates."
        ),
    ] = False,
    indices: Annotated[
        IndexKind | None,
        typer.Option("--indices", help="What the indices of gathers are like, for --explain.", show_default=False),
    ] = None,
    cold_l2: ColdL2 = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables.")] = False,
) -> None:
    """Compile a kernel or stack of a Python file for concrete shapes, and show what became of it."""
    loaded = load_kernel(source)
    target = load_chip(chip, overrides or ())
    isa = load_isa(target.isa.base, target.isa.extensions)
    kernel, sizes = for_shapes(loaded, parse_shapes(shapes))
    ktype = f"{loaded.kind} of kernels" if isinstance(loaded, Stack) else loaded.graph.ktype
    pins = _pins(kernel, buffering)
    found = (
        inspect_stack(kernel, sizes, target, isa, buffering)
        if isinstance(kernel, Stack)
        else inspect_kernel(kernel, sizes, target, isa, pins)
    )
    fused = _fusion(kernel, sizes, target, isa, buffering) if fusion else None
    rows = launch_rows(kernel, found, target, cold_l2, indices, pins) if explain else None
    written: Sequence[Path] = ()
    if dump is not None:
        texts = (
            stack_phase_texts(found, target, isa)
            if isinstance(found, InspectedStack)
            else phase_texts(found, target, isa)
        )
        width = max(2, len(str(len(texts))))
        files = {dump / f"{at:0{width}}-{phase.name}.txt": phase.text for at, phase in enumerate(texts, 1)}
        write_together(files)
        written = tuple(files)
        _remove_old(dump, written)
    note = library_note(found.segments, target, isa)
    if as_json:
        report: dict[str, Any] = to_json(found, target, rows, ktype, note)
        if fused is not None:
            report["fusion"] = asdict(fused)
        typer.echo(json_text({**report, "files": [str(path) for path in written]}), nl=False)
        return
    console = wide_console()
    console.print(render_compiled(found, target, ktype, note))
    if rows is not None:
        console.print(render_launches(found, target, rows))
    if fused is not None:
        typer.echo(str(fused))
    if written:
        typer.echo(f"{len(written)} files in {dump}: {written[0].name} to {written[-1].name}")


def _pins(kernel: Kernel | Stack, buffering: str | None) -> Pins | None:
    """The pins of the kernel with the buffering that is asked for; None for its own."""
    if buffering is None:
        return None
    return replace(Pins() if isinstance(kernel, Stack) else kernel.graph.pins, buffering=buffering)


def _fusion(
    kernel: Kernel | Stack, shapes: Mapping[str, Sequence[int]], chip: NpuConfig, isa: Isa, buffering: str | None
) -> FusionReport:
    """The report of a kernel whose segments the compiler puts together; CompileError for those that say it themselves."""
    if isinstance(kernel, Stack):
        raise CompileError("no fusion report of a stack; allowed: its kernels one by one", kernel.name)
    linked = pins_of_kind(kernel.graph).stack == "sequence"
    pins = _pins(kernel, buffering) or kernel.graph.pins
    return fusion_report(kernel.graph, shapes, chip, isa, linked=linked, buffering=pins.buffering)


def _remove_old(folder: Path, written: Collection[Path]) -> None:
    """Phases of an earlier compilation that has more of them, or other segments, would stand between those of this one."""
    for path in folder.glob("*.txt"):
        if path not in written and _PHASE_FILE.fullmatch(path.name):
            path.unlink()
