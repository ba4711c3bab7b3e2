"""What the instruction decoder costs: cells, transistors and logic depth, by yosys and its abc.

The numbers are those of the decoder alone, mapped to two-input gates: no wires, no timing, no execution unit. They
compare instruction sets with one another; they are no area of a chip. abc works by heuristics: what a small change
does to a netlist that is mapped for speed is mostly noise, so cells are counted in one that is mapped for area.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npuvm.hw.errors import RtlError
from npuvm.hw.rtl.equivalence import DECODER_MODULE
from npuvm.hw.rtl.yosys import Yosys, read_command

__all__ = ["GATES", "DecoderArea", "extension_sets", "measure_area"]

GATES = ("AND", "OR", "XOR", "MUX", "NOT")
"""The cells that the decoder is mapped to: two inputs each, MUX three, NOT one."""

_FOR_AREA = "strash;ifraig;scorr;dc2;resub,-K,8;rewrite;resub,-K,10,-N,2;refactor;dc2;resub,-K,12;dc2;amap"
"""abc commands for area: of those tried, the ones whose counts vary least when only an opcode's number changes."""

_STAT, _PATH = "stat.json", "path.txt"


@dataclass(frozen=True)
class DecoderArea:
    """A decoder mapped to `GATES`.

    Mapped for area: `cells` counts each gate, `transistors` is yosys' estimate for static CMOS. Mapped for speed:
    `depth` is the number of gates on the longest path from an input to an output. `seconds` is the time yosys took.
    """

    cells: Mapping[str, int]
    transistors: int
    depth: int
    seconds: float

    @property
    def total(self) -> int:
        """All cells."""
        return sum(self.cells.values())


def measure_area(yosys: Yosys, sources: Sequence[Path], folder: Path) -> DecoderArea:
    """Synthesise `npu_decoder` from `sources`, packages first, working in `folder`; RtlError when yosys cannot."""
    begin = time.perf_counter()
    gates = ",".join(gate for gate in GATES if gate != "NOT")  # abc offers NOT in any case
    commands = [
        read_command(sources, folder),
        f"synth -flatten -noabc -top {DECODER_MODULE}",
        "design -save unmapped",
        f"abc -g {gates} -script +{_FOR_AREA}",
        "opt_clean",
        f"tee -q -o {_STAT} stat -json -tech cmos",
        "design -load unmapped",
        f"abc -g {gates}",
        "opt_clean",
        f"tee -q -o {_PATH} ltp -noff",
    ]
    yosys.run(commands, folder)
    seconds = time.perf_counter() - begin
    module = _module(_json_in((folder / _STAT).read_text(encoding="utf-8")))
    path = re.search(r"\(length=(\d+)\)", (folder / _PATH).read_text(encoding="utf-8"))
    if path is None:
        raise RtlError(f"yosys names no longest path of {DECODER_MODULE}")
    return DecoderArea(_cells(module["num_cells_by_type"]), _transistors(module), int(path[1]), seconds)


def extension_sets(extensions: Iterable[str]) -> list[tuple[str, ...]]:
    """The combinations that a table compares: none, each alone, and all together when they are more than one."""
    names = tuple(dict.fromkeys(extensions))
    return [(), *((name,) for name in names), *([names] if len(names) > 1 else [])]


def _json_in(text: str) -> dict[str, Any]:
    """The JSON in a file that yosys may put a line before."""
    found: dict[str, Any] = json.loads(text[text.index("{") :])
    return found


def _module(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The decoder's entry; a module's name is written with a backslash."""
    entry: Mapping[str, Any] = report["modules"][f"\\{DECODER_MODULE}"]
    return entry


def _cells(by_type: Mapping[str, int]) -> dict[str, int]:
    cells = {gate: int(by_type.get(f"$_{gate}_", 0)) for gate in GATES}
    others = sorted(set(by_type) - {f"$_{gate}_" for gate in GATES})
    if others:
        raise RtlError(f"the mapped decoder holds cells other than {', '.join(GATES)}: {', '.join(others)}")
    return cells


def _transistors(module: Mapping[str, Any]) -> int:
    estimate = str(module["estimated_num_transistors"])
    if not estimate.isdigit():
        raise RtlError(f"yosys estimates {estimate!r} transistors; some cell is unknown to it")
    return int(estimate)
