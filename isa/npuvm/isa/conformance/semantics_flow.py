"""Programs in which each unit of the matrix core in turn does all it has to do.

All instructions of a stage stand together, and one semaphore leads from each stage to the next, so that a case tests nothing
of synchronisation. Tiles are dense in global memory; on chip every one has a place of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from npuvm.isa.conformance.oracle_numbers import FLOATS, Array
from npuvm.isa.conformance.semantics_board import dense_pitch
from npuvm.isa.conformance.semantics_text import Program

__all__ = ["Flow", "accumulator"]

_ALIGN = 32

_STAGES = ("load", "move", "cube", "fixpipe", "store", "move again", "fixpipe again")
"""The order in which data goes through the units."""


@dataclass
class Flow:
    """A program in which every unit in turn does all it has to do; argument 0 is what is read, argument 1 what is written."""

    program: Program = field(default_factory=Program)
    read: bytearray = field(default_factory=bytearray)
    places: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def room(self, space: str, nbytes: int) -> int:
        """A place of its own in a buffer."""
        at = self.places.get(space, 0)
        self.places[space] = at + -(-max(nbytes, 1) // _ALIGN) * _ALIGN
        return at

    def tile(self, space: str, shape: tuple[int, ...], itemsize: int) -> str:
        """A descriptor of a new tile (rows, cols) on chip."""
        rows, cols = shape
        pitch = dense_pitch(max(cols, 1), itemsize)
        return self.program.desc(space, self.room(space, max(rows, 1) * max(pitch, cols * itemsize)), pitch)

    def add(self, stage: str, line: str) -> None:
        """An instruction of a stage."""
        self.lines.setdefault(stage, []).append(line)

    def load(self, values: Array, dtype: str, *, again: bool = False) -> str:
        """Bring a tile (rows, cols) to L1; its descriptor, with `again` one that reads the first row for all."""
        rows, cols = values.shape
        source = self.program.desc("gm", len(self.read), cols * values.dtype.itemsize, arg=0)
        self.read += np.ascontiguousarray(values).tobytes()
        self.read += bytes(-len(self.read) % 4)
        place = self.places.get("l1", 0)
        target = self.tile("l1", values.shape, values.dtype.itemsize)
        self.add("load", f"ld.{dtype} dst={target} src={source} {self.sizes(rows=rows, cols=cols)}")
        return self.program.desc("l1", place, 0) if again else target

    def sizes(self, **values: int) -> str:
        """Size operands."""
        return " ".join(f"{name}={self.program.size(value)}" for name, value in values.items())

    def out(self, source: str, rows: int, cols: int, acc: str, at: int, *, arg: int = 1, stage: str = "fixpipe") -> int:
        """Store accumulators as they are, densely from element `at` of an argument on; the element after them."""
        target = self.program.desc("gm", at * 4, max(cols, 1) * 4, arg=arg)
        self.add(stage, f"fix.{acc}->{acc} dst={target} src={source} {self.sizes(rows=rows, cols=cols)}")
        return at + rows * cols

    def text(self, args: int = 2) -> str:
        """The program for so many arguments."""
        before = None
        used = [stage for stage in _STAGES if stage in self.lines]
        for stage in used:
            lines = self.lines[stage]
            after = None if stage == used[-1] else self.program.signal()
            for i, line in enumerate(lines):
                waits = f" wait {before}" if before and i == 0 else ""
                sets = f" set {after}" if after and i == len(lines) - 1 else ""
                self.program.add(f"{line} |{waits}{sets}" if waits or sets else line)
            before = after
        return self.program.text(args)


def accumulator(dtype: str) -> str:
    """The type in which products of a type are summed up."""
    return "fp32" if dtype in FLOATS else "int32"
