"""`npuvm isa area`: what the decoder of an instruction set costs in gates, and what each extension adds."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from npuvm.cli.options import AsJson, Extensions, IsaName
from npuvm.cli.output import DelayedBar, json_text
from npuvm.hw.errors import RtlError
from npuvm.hw.rtl.area import GATES, DecoderArea, extension_sets, measure_area
from npuvm.hw.rtl.simulators import decoder_sources
from npuvm.hw.rtl.yosys import Yosys, find_yosys
from npuvm.isa import Isa, load_isa

__all__ = ["area"]

_SCOPE = "the instruction decoder alone (npu_decoder), no execution unit"
_TABLE_WIDTH = 110
_MAPPING = (
    "two-input gates; cells and transistors (static CMOS estimate) mapped for area, depth in gates mapped for speed"
)


@dataclass(frozen=True)
class _Variant:
    """One row: an instruction set and what its decoder costs."""

    isa: Isa
    area: DecoderArea

    @property
    def title(self) -> str:
        """The base, by name and version."""
        return f"{self.isa.name} {self.isa.version}"

    @property
    def label(self) -> str:
        """What lies over the base; an extension's version is left out."""
        names = [f"+{extension.split()[0]}" for extension in self.isa.extensions]
        return " ".join(names) or "base"

    @property
    def instructions(self) -> int:
        """Instructions that are decoded: those of features that are on."""
        return sum(self.isa.features[i.feature] for i in self.isa.instructions.values())


def area(
    isa: IsaName = None,
    extension: Extensions = None,
    as_json: AsJson = False,
) -> None:
    """Synthesise the decoder with yosys: cells and logic depth of the base, with each extension, and with all of them."""
    yosys = find_yosys()
    if yosys.missing is not None:
        raise RtlError(yosys.missing)
    sets = [load_isa(isa, names) for names in extension_sets(extension or ())]
    variants: list[_Variant] = []
    with DelayedBar("synthesising", enabled=not as_json) as bar:
        for index, chosen in enumerate(sets):
            bar.update(index, len(sets), f"{chosen.name} {' '.join(chosen.extensions)}".strip())
            variants.append(_Variant(chosen, _measure(yosys, chosen)))
    if as_json:
        typer.echo(json_text(_document(yosys, variants)), nl=False)
        return
    Console(width=max(Console().width, _TABLE_WIDTH), highlight=False).print(_table(variants))
    typer.echo(f"{yosys.version}\ncounted: {_SCOPE}\nmapping: {_MAPPING}")


def _measure(yosys: Yosys, isa: Isa) -> DecoderArea:
    with tempfile.TemporaryDirectory(prefix="npuvm-area-") as folder:
        sources = decoder_sources(isa, Path(folder) / "sources")
        return measure_area(yosys, sources, Path(folder))


def _table(variants: list[_Variant]) -> Table:
    base = variants[0].area
    title = f"decoder of {variants[0].title} in gates"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("over it", no_wrap=True)
    for column in ("insns", "cells", "+", "%", "/".join(GATES), "transistors", "+", "depth", "+", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    for variant in variants:
        cost = variant.area
        more = cost.total - base.total
        table.add_row(
            variant.label,
            str(variant.instructions),
            str(cost.total),
            f"{more:+d}",
            f"{100 * more / base.total:+.1f}",
            "/".join(str(cost.cells[gate]) for gate in GATES),
            str(cost.transistors),
            f"{cost.transistors - base.transistors:+d}",
            str(cost.depth),
            f"{cost.depth - base.depth:+d}",
            f"{cost.seconds:.1f}",
        )
    return table


def _document(yosys: Yosys, variants: list[_Variant]) -> dict[str, Any]:
    base = variants[0].area
    return {
        "tool": yosys.version,
        "counted": _SCOPE,
        "mapping": _MAPPING,
        "variants": [
            {
                "isa": v.title,
                "extensions": list(v.isa.extensions),
                "isa_hash": v.isa.hash,
                "instructions": v.instructions,
                **asdict(v.area),
                "total_cells": v.area.total,
                "more_cells": v.area.total - base.total,
                "more_transistors": v.area.transistors - base.transistors,
                "more_depth": v.area.depth - base.depth,
            }
            for v in variants
        ],
    }
