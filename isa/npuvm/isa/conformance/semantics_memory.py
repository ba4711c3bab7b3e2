"""Cases of the DMA engines: tiles between global memory and the unified buffer, with windows, pads and pitches; atomic adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from npuvm.isa.conformance.needs import type_pairs
from npuvm.isa.conformance.oracle_numbers import FLOATS, STORAGE, Array, converted, edge_values, rounded, stored, wide
from npuvm.isa.conformance.semantics_board import dense_pitch
from npuvm.isa.conformance.semantics_text import Program, Window
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.model import Isa

__all__ = ["memory_cases"]

_ROWS, _COLS = 6, 40
"""The tensor in global memory."""


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile: its size, its first element in the tensor, how its rows lie on both sides, and its window if it has one.

    `gm_pitch` counts elements, None for the tensor's; `spread` is added to the aligned pitch on chip, None makes it 0.
    """

    rows: int
    cols: int
    row: int = 0
    col: int = 0
    gm_pitch: int | None = None
    spread: int | None = 0
    window: bool = False


_TILES: Mapping[str, _Tile] = {
    "one-element": _Tile(1, 1, 1, 3),
    "no-rows": _Tile(0, 5),
    "no-columns": _Tile(5, 0),
    "unaligned-tail": _Tile(3, 17, 2, 5),
    "spread-rows": _Tile(4, 9, 1, 1, spread=64),
    "dense": _Tile(2, _COLS),
    "column": _Tile(5, 1, 0, 7),
    "row-again": _Tile(3, 8, 2, 0, gm_pitch=0),
    "window-inside": _Tile(2, 9, 1, 2, window=True),
    "window-before-rows": _Tile(4, 6, -2, 3, window=True),
    "window-before-columns": _Tile(3, 9, 1, -4, window=True),
    "window-past-the-end": _Tile(4, 12, _ROWS - 2, _COLS - 5, window=True),
    "window-all-sides": _Tile(_ROWS + 3, _COLS + 6, -1, -2, window=True),
    "window-three-sides": _Tile(_ROWS + 3, _COLS, -1, -2, window=True),
    "window-outside": _Tile(3, 5, _ROWS + 1, 2, window=True),
    "window-far-outside": _Tile(2, 3, -9, -70, window=True),
}
"""Kinds of tiles by the name of their bin."""


def memory_cases(isa: Isa, seed: int) -> Iterator[ProgramCase]:
    """Loads, stores and atomic adds in every data type."""
    for name, build in (("ld", _loads), ("st", _stores), ("stadd", _adds)):
        for index, (dtype, _) in enumerate(type_pairs(isa, name)):
            yield build(dtype, np.random.default_rng([seed, index, ord(name[-1])]))


def _raw(random: np.random.Generator, dtype: str, shape: tuple[int, int]) -> Array:
    """A tensor of any bits; of bool, of truth values."""
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(np.bool_)
    return random.integers(0, 256, (shape[0], shape[1] * STORAGE[dtype].itemsize), np.uint8).view(STORAGE[dtype])


def _part(tile: _Tile) -> tuple[slice, slice, slice, slice]:
    """What of a tile lies in the tensor: rows and columns of the tile, rows and columns of the tensor."""
    row, col = max(0, -tile.row), max(0, -tile.col)
    end_row = max(row, min(tile.rows, _ROWS - tile.row))
    end_col = max(col, min(tile.cols, _COLS - tile.col))
    inside = slice(row, end_row), slice(col, end_col)
    return *inside, slice(tile.row + row, tile.row + end_row), slice(tile.col + col, tile.col + end_col)


class _Picture:
    """Tiles laid out in the unified buffer as bytes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def place(self, tile: _Tile, itemsize: int) -> tuple[int, int]:
        """(first byte, pitch) of room for a tile."""
        pitch = 0 if tile.spread is None else dense_pitch(max(tile.cols, 1), itemsize) + tile.spread
        if tile.spread and tile.cols != 1:
            pitch = -(-pitch // 32) * 32
        at = len(self.data)
        needed = max(0, tile.rows - 1) * pitch + tile.cols * itemsize
        self.data += bytes([0x5A]) * (-(-needed // 32) * 32 + 32)
        return at, pitch

    def rows(self, at: int, pitch: int, values: Array) -> Iterator[tuple[slice, bytes]]:
        """Where the rows of a tile lie, and their bytes."""
        for i, row in enumerate(values):
            raw = np.ascontiguousarray(row).tobytes()
            yield slice(at + i * pitch, at + i * pitch + len(raw)), raw


def _gm(program: Program, tile: _Tile, itemsize: int, arg: int) -> str:
    """The descriptor of a tile in the tensor."""
    pitch = (_COLS if tile.gm_pitch is None else tile.gm_pitch) * itemsize
    offset = (tile.row * _COLS + tile.col) * itemsize
    window = Window(tile.row, tile.col, _ROWS, _COLS) if tile.window else None
    return program.desc("gm", offset, pitch, arg=arg, window=window)


def _pad(dtype: str) -> tuple[int, Array]:
    """A pad, as bits and as stored: rounded, or out of range for int8."""
    if dtype in FLOATS:
        value = np.float32(2.3)
        return int(value.view(np.uint32)), stored(np.array(float(value)), dtype)
    return 300, converted(np.array(300), dtype)


def _loads(dtype: str, random: np.random.Generator) -> ProgramCase:
    """Every kind of tile loaded beside the others; the picture is stored as bytes, so nothing else may have changed."""
    tensor = _raw(random, dtype, (_ROWS, _COLS))
    item = tensor.dtype.itemsize
    program, picture = Program(), _Picture()
    bits, pad = _pad(dtype)
    places = {name: picture.place(tile, item) for name, tile in _TILES.items()}
    before = np.frombuffer(bytes(picture.data), np.uint8)
    one, whole, ready = program.size(1), program.size(before.nbytes), program.signal()
    program.add(f"ld.int8 dst={program.desc('ub', 0)} src={program.desc('gm', 0, arg=1)} rows={one} cols={whole}")
    for i, (name, tile) in enumerate(_TILES.items()):
        at, pitch = places[name]
        operands = f"dst={program.desc('ub', at, pitch)} src={_gm(program, tile, item, 0)}"
        sizes = f"rows={program.size(tile.rows)} cols={program.size(tile.cols)}"
        rest = f"pad={bits:#x}" + " cache=stream" * (i % 2)
        last = f" | set {ready}" if i == len(_TILES) - 1 else ""
        program.add(f"ld.{dtype} {operands} {sizes} {rest}{last}")
        for where, raw in picture.rows(at, pitch, _loaded(tensor, tile, pad)):
            picture.data[where] = raw
    program.add(
        f"st.int8 dst={program.desc('gm', 0, arg=1)} src={program.desc('ub', 0)} rows={one} cols={whole} | wait {ready}"
    )
    after = np.frombuffer(bytes(picture.data), np.uint8)
    return _case("ld", dtype, program, (tensor, before), {1: after}, _TILES)


def _loaded(tensor: Array, tile: _Tile, pad: Array) -> Array:
    """What a load leaves in its tile."""
    if not (tile.rows and tile.cols):
        return np.zeros((0, 0), tensor.dtype)
    if tile.gm_pitch == 0:
        return np.repeat(tensor[tile.row : tile.row + 1, tile.col : tile.col + tile.cols], tile.rows, axis=0)
    values = np.full((tile.rows, tile.cols), pad, tensor.dtype)
    rows, cols, from_rows, from_cols = _part(tile)
    values[rows, cols] = tensor[from_rows, from_cols]
    return values


_STORED = {**_TILES, "row-again": _Tile(3, 8, 2, 0, spread=None)}
"""Tiles of stores: a row that is read again lies on chip."""


def _written(dtype: str, random: np.random.Generator, name: str) -> tuple[_Picture, dict[str, tuple[int, int, Array]]]:
    """A picture of tiles with values, and (first byte, pitch, values) of each."""
    picture = _Picture()
    tiles = {}
    for what, tile in _STORED.items():
        at, pitch = picture.place(tile, STORAGE[dtype].itemsize)
        if name == "st":
            values = _raw(random, dtype, (tile.rows, tile.cols))
        else:
            values = random.choice(edge_values(dtype), (tile.rows, tile.cols))
        if tile.spread is None:
            values[1:] = values[:1]
        for where, raw in picture.rows(at, pitch, values):
            picture.data[where] = raw
        tiles[what] = (at, pitch, values)
    return picture, tiles


def _store_program(name: str, dtype: str, nbytes: int, tiles: Mapping[str, tuple[int, int, Array]]) -> Program:
    """Loads the picture, then stores every tile to a tensor of its own in argument 1."""
    program = Program()
    one, whole, ready = program.size(1), program.size(nbytes), program.signal()
    source = f"src={program.desc('gm', 0, arg=0)} rows={one} cols={whole}"
    program.add(f"ld.int8 dst={program.desc('ub', 0)} {source} | set {ready}")
    item = STORAGE[dtype].itemsize
    for i, (what, (at, pitch, _)) in enumerate(tiles.items()):
        tile = _STORED[what]
        offset = ((i * _ROWS + tile.row) * _COLS + tile.col) * item
        window = Window(tile.row, tile.col, _ROWS, _COLS) if tile.window else None
        target = program.desc("gm", offset, _COLS * item, arg=1, window=window)
        operands = f"dst={target} src={program.desc('ub', at, pitch)}"
        sizes = f"rows={program.size(tile.rows)} cols={program.size(tile.cols)}"
        rest = " cache=stream" * (i % 2) + f" | wait {ready}" * (i == 0)
        program.add(f"{name}.{dtype} {operands} {sizes}{rest}")
    return program


def _stores(dtype: str, random: np.random.Generator) -> ProgramCase:
    """Every kind of tile stored to a tensor of its own."""
    picture, tiles = _written(dtype, random, "st")
    program = _store_program("st", dtype, len(picture.data), tiles)
    old = _raw(random, dtype, (len(tiles) * _ROWS, _COLS))
    new = old.copy()
    for i, (what, (_, _, values)) in enumerate(tiles.items()):
        rows, cols, to_rows, to_cols = _part(_STORED[what])
        new[i * _ROWS : (i + 1) * _ROWS][to_rows, to_cols] = values[rows, cols]
    before = np.frombuffer(bytes(picture.data), np.uint8)
    expected = np.frombuffer(new.tobytes(), np.uint8)
    return _case("st", dtype, program, (before, old), {1: expected}, _STORED)


def _adds(dtype: str, random: np.random.Generator) -> ProgramCase:
    """Every kind of tile added to a tensor of its own, edge values to edge values."""
    picture, tiles = _written(dtype, random, "stadd")
    program = _store_program("stadd", dtype, len(picture.data), tiles)
    old = random.choice(edge_values(dtype), (len(tiles) * _ROWS, _COLS))
    new = old.copy()
    for i, (what, (_, _, values)) in enumerate(tiles.items()):
        rows, cols, to_rows, to_cols = _part(_STORED[what])
        part = new[i * _ROWS : (i + 1) * _ROWS]
        part[to_rows, to_cols] = _sum(part[to_rows, to_cols], values[rows, cols], dtype)
    before = np.frombuffer(bytes(picture.data), np.uint8)
    return _case("stadd", dtype, program, (before, old), {1: new}, _STORED)


def _sum(a: Array, b: Array, dtype: str) -> Array:
    with np.errstate(all="ignore"):
        total = wide(a) + wide(b)
        return stored(rounded(total, "fp32") if dtype in FLOATS else total, dtype)


def _case(
    name: str,
    dtype: str,
    program: Program,
    arguments: tuple[Array, ...],
    expected: dict[int, Array],
    tiles: Mapping[str, _Tile],
) -> ProgramCase:
    prefix = f"semantics/{name}/{dtype}"
    return ProgramCase(
        id=prefix,
        level=Level.SEMANTICS,
        chip="edge",
        text=program.text(2),
        arguments=arguments,
        expected=expected,
        bins=tuple(f"{prefix}/{what}" for what in tiles),
    )
