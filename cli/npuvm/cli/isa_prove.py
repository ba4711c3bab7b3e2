"""`npuvm isa prove`: the generated decoder against the reference, for every possible input."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import typer

from npuvm.cli.options import Extensions, IsaName
from npuvm.hw.errors import RtlError
from npuvm.hw.rtl.equivalence import prove_equivalent, prove_hits
from npuvm.hw.rtl.reference_decoder import output_widths
from npuvm.hw.rtl.simulators import decoder_sources
from npuvm.hw.rtl.yosys import find_yosys
from npuvm.isa import load_isa

__all__ = ["prove"]

EXIT_DIFFERS = 1


def prove(isa: IsaName = None, extension: Extensions = None) -> None:
    """Prove with yosys that the generated decoder equals a reference written apart, or print words on which it does not."""
    yosys = find_yosys()
    if yosys.missing is not None:
        raise RtlError(yosys.missing)
    chosen = load_isa(isa, extension or ())
    resolved = json.loads(chosen.resolved_json())
    outputs = output_widths(resolved)
    claims = {
        "no words are two instructions at once": prove_hits,
        f"all {len(outputs)} outputs ({sum(outputs.values())} bits) equal the reference": prove_equivalent,
    }
    typer.echo(
        f"decoder of {chosen.name} {chosen.version}{''.join(f', {e}' for e in chosen.extensions)}; {yosys.version}"
    )
    with tempfile.TemporaryDirectory(prefix="npuvm-prove-") as name:
        folder = Path(name)
        sources = decoder_sources(chosen, folder / "sources")
        for claim, proof in claims.items():
            begin = time.perf_counter()
            found = proof(yosys, sources, resolved, folder)
            seconds = time.perf_counter() - begin
            if found is not None:
                typer.echo(f"refuted in {seconds:.1f} s: {claim}\n{found.describe(chosen)}")
                raise typer.Exit(EXIT_DIFFERS)
            typer.echo(f"proven in {seconds:.1f} s: {claim}")
