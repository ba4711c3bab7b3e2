"""A program that runs many instructions on one picture of the unified buffer, and that picture before and after.

The whole buffer is loaded as bytes, the instructions run on tiles laid out in it, and the part with their results is stored as
bytes. So a case tests nothing of the DMA engines but a copy, and shows when an instruction writes beside its tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from npuvm.isa.conformance.oracle_numbers import Array

__all__ = ["ALIGN", "Board", "Tile", "dense_pitch"]

ALIGN = 32
"""Bytes to which tiles and rows are aligned on chip."""

_FILL = 0x5A
"""Bytes between tiles: a finite number in every float type."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a tile lies: its first byte in its part of the picture, bytes between rows, (rows, cols); `result` in that part."""

    offset: int
    pitch: int
    shape: tuple[int, int]
    result: bool


def dense_pitch(cols: int, itemsize: int) -> int:
    """The least pitch that is aligned: rows of one element may follow each other."""
    return itemsize if cols == 1 else -(-cols * itemsize // ALIGN) * ALIGN


@dataclass(frozen=True)
class _Run:
    """An instruction to run: its tiles and sizes by operand name, and the text of its other operands."""

    mnemonic: str
    tiles: Mapping[str, Tile]
    sizes: Mapping[str, int]
    rest: str


_FIRST_SIZE, _SIZES = 3, 64
_FIRST_DESC, _DESCS = 4, 256


class _Tables:
    """Sizes and descriptors that instructions use, set up together in front of as many instructions as the tables hold."""

    def __init__(self, split: int) -> None:
        self._split = split
        self._sizes: dict[int, int] = {}
        self._descs: dict[tuple[int, int], int] = {}

    def holds(self, run: _Run) -> bool:
        """Whether there is room for another instruction."""
        sizes = {*self._sizes, *run.sizes.values()}
        descs = {*self._descs, *(self._place(tile) for tile in run.tiles.values())}
        return len(sizes) <= _SIZES - _FIRST_SIZE and len(descs) <= _DESCS - _FIRST_DESC

    def line(self, run: _Run, sync: str) -> str:
        """The instruction, with the entries that it uses."""
        operands = [
            f"{name}=d{self._descs.setdefault(self._place(tile), _FIRST_DESC + len(self._descs))}"
            for name, tile in run.tiles.items()
        ]
        operands += [
            f"{name}=s{self._sizes.setdefault(value, _FIRST_SIZE + len(self._sizes))}"
            for name, value in run.sizes.items()
        ]
        return " ".join([run.mnemonic, *operands, *([run.rest] if run.rest else [])]) + sync

    def set_up(self) -> list[str]:
        """The instructions that fill the tables."""
        sizes = [f"szc size=s{index} full={value}" for value, index in self._sizes.items()]
        return sizes + [
            f"desc desc=d{index} space=ub base={base:#x} pitch={pitch}" for (base, pitch), index in self._descs.items()
        ]

    def _place(self, tile: Tile) -> tuple[int, int]:
        return tile.offset + (self._split if tile.result else 0), tile.pitch


class Board:
    """Collects instructions with their tiles; `text`, `before` and `after` are the case."""

    def __init__(self, result_dtype: np.dtype[np.generic]) -> None:
        self._parts = {False: bytearray(), True: bytearray()}
        self._after = bytearray()
        self._runs: list[_Run] = []
        self._dtype = np.dtype(np.uint8) if result_dtype.kind == "b" else result_dtype

    def place(self, values: Array, pitch: int | None = None, *, result: bool = False) -> Tile:
        """Lay out a tile (rows, cols) with its contents; with a pitch of 0 only its first row."""
        rows, cols = values.shape
        item = values.dtype.itemsize
        pitch = dense_pitch(cols, item) if pitch is None else pitch
        part = self._parts[result]
        tile = Tile(len(part), pitch, (rows, cols), result)
        needed = (rows - 1) * pitch + cols * item
        part += bytes([_FILL]) * (-(-needed // ALIGN) * ALIGN + ALIGN)
        _write(part, tile, values)
        if result:
            self._after += part[len(self._after) :]
        return tile

    def at(self, tile: Tile, shape: tuple[int, int], offset: int = 0) -> Tile:
        """Another tile of the same pitch, `offset` bytes behind the start of a placed one."""
        return Tile(tile.offset + offset, tile.pitch, shape, tile.result)

    def run(self, mnemonic: str, tiles: Mapping[str, Tile], sizes: Mapping[str, int], rest: str = "") -> None:
        """Add an instruction on tiles by operand name with these size operands; `rest` are its other operands."""
        self._runs.append(_Run(mnemonic, dict(tiles), dict(sizes), rest))

    def expect(self, tile: Tile, values: Array) -> None:
        """What a tile of the results holds in the end."""
        assert tile.result
        _write(self._after, tile, values)

    @property
    def inputs(self) -> Array:
        """The bytes of the operands: argument 0."""
        return np.frombuffer(bytes(self._parts[False]) or bytes(ALIGN), dtype=np.int8)

    @property
    def before(self) -> Array:
        """The results' part before, in the type of the results: argument 1."""
        return np.frombuffer(bytes(self._parts[True]), dtype=self._dtype)

    @property
    def after(self) -> Array:
        """And after."""
        return np.frombuffer(bytes(self._after), dtype=self._dtype)

    def text(self, core: str = "unified") -> str:
        """The program."""
        split = self.inputs.nbytes
        lines = [
            ".args 2",
            f".entry {core} 0",
            "szc size=s0 full=1",
            f"szc size=s1 full={split}",
            f"szc size=s2 full={self.before.nbytes}",
            "sem sem=m0 value=0",
            "sem sem=m1 value=0",
            "desc desc=d0 space=gm base=@arg0",
            "desc desc=d1 space=gm base=@arg1",
            "desc desc=d2 space=ub base=0",
            f"desc desc=d3 space=ub base={split}",
            "ld.int8 dst=d2 src=d0 rows=s0 cols=s1",
            "ld.int8 dst=d3 src=d1 rows=s0 cols=s2 | set m0",
        ]
        lines += self._body(split)
        lines += ["st.int8 dst=d1 src=d3 rows=s0 cols=s2 | wait m1", "halt", ""]
        return "\n".join(lines)

    def _body(self, split: int) -> list[str]:
        """The instructions and their set-up; the first waits for the loads, the last lets the store go."""
        lines: list[str] = []
        tables, group = _Tables(split), list[str]()
        for i, run in enumerate(self._runs):
            if not tables.holds(run):
                lines += tables.set_up() + group
                tables, group = _Tables(split), []
            sync = " wait m0" * (i == 0) + " set m1" * (i == len(self._runs) - 1)
            group.append(tables.line(run, f" |{sync}" if sync else ""))
        return lines + tables.set_up() + group


def _write(data: bytearray, tile: Tile, values: Array) -> None:
    """Put values in place, row after row; with a pitch of 0 the first row only."""
    rows, cols = values.shape
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(rows, cols * values.dtype.itemsize)
    for row in range(rows if tile.pitch else 1):
        at = tile.offset + row * tile.pitch
        data[at : at + raw.shape[1]] = raw[row].tobytes()
