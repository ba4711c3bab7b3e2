"""Cases of rows by index: gathered from a table in global memory, scattered to one, added to one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from npuvm.isa.conformance.needs import type_pairs
from npuvm.isa.conformance.oracle_numbers import FLOATS, STORAGE, Array, edge_values, rounded, stored, wide
from npuvm.isa.conformance.semantics_board import dense_pitch
from npuvm.isa.conformance.semantics_text import Program
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.model import Isa

__all__ = ["indexed_cases"]

_TABLE = (9, 24)
"""Rows and columns of each table in global memory."""

_SLOT, _VECTOR = 1024, 128
"""Bytes of the unified buffer for the rows of a tile, and for its indices."""


@dataclass(frozen=True, slots=True)
class _Pick:
    """A tile of rows by index: indices, columns, the first of them in the table, and what lies between rows on chip.

    `apart` counts the elements between rows of the table, None for the table's columns; `spread` is added to the aligned pitch
    on chip; `index_pitch` are the bytes between indices.
    """

    index: tuple[int, ...]
    cols: int
    col: int = 0
    apart: int | None = None
    spread: int = 0
    index_pitch: int = 4


_PICKS: Mapping[str, _Pick] = {
    "one-element": _Pick((4,), 1, 3),
    "no-rows": _Pick((), 5),
    "no-columns": _Pick((1, 2), 0),
    "whole-rows": _Pick((8, 0, 5), _TABLE[1]),
    "in-order": _Pick((2, 3, 4, 5), 8),
    "again": _Pick((3, 7, 3, 3, 0, 7), 17, 2),
    "unaligned-tail": _Pick((6, 1, 8), 7, 5, spread=64),
    "column": _Pick((8, 1, 1, 0, 5), 1, 7),
    "spread-indices": _Pick((5, 0, 8, 2), 9, 1, index_pitch=32),
    "from-the-end": _Pick((-1, 0, -9, -3, 8), 11, 4),
    "every-other-row": _Pick((3, 1, 2), 6, 0, apart=2 * _TABLE[1]),
}
"""Kinds of tiles by the name of their bin."""


def indexed_cases(isa: Isa, seed: int) -> Iterator[ProgramCase]:
    """Gathers, scatters and atomic adds in every data type."""
    for number, name in enumerate(("ldx", "stx", "stxadd")):
        for index, (dtype, _) in enumerate(type_pairs(isa, name)):
            yield _case(name, dtype, np.random.default_rng([seed, index, number]))


def _values(name: str, dtype: str, random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Any bits; of bool truth values, of what is added edge values."""
    if name == "stxadd":
        return random.choice(edge_values(dtype), shape)
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(np.bool_)
    return random.integers(0, 256, (shape[0], shape[1] * STORAGE[dtype].itemsize), np.uint8).view(STORAGE[dtype])


def _pitch(pick: _Pick, item: int) -> int:
    """Bytes between the rows of a tile on chip."""
    return item if pick.cols == 1 else dense_pitch(max(pick.cols, 1), item) + pick.spread


def _case(name: str, dtype: str, random: np.random.Generator) -> ProgramCase:
    """Every kind of tile with a table of its own in argument 0; argument 1 holds the tiles on chip, 2 the index vectors."""
    tables = _values(name, dtype, random, (len(_PICKS) * _TABLE[0], _TABLE[1]))
    tiles = np.full(len(_PICKS) * _SLOT, 0x5A, np.uint8)
    after, picture = tables.copy(), tiles.copy()
    for i, pick in enumerate(_PICKS.values()):
        values = _values(name, dtype, random, (len(pick.index), pick.cols))
        table = after[i * _TABLE[0] : (i + 1) * _TABLE[0]].reshape(-1)
        for k, at in enumerate(pick.index):
            start = (at if at >= 0 else _TABLE[0] + at) * (pick.apart or _TABLE[1]) + pick.col
            row = table[start : start + pick.cols]
            raw = _bytes(row if name == "ldx" else values[k])
            where = i * _SLOT + k * _pitch(pick, tables.itemsize)
            picture[where : where + len(raw)] = raw
            if name == "stx":
                row[:] = values[k]
            elif name == "stxadd":
                row[:] = _sum(row, values[k], dtype)
    prefix = f"semantics/{name}/{dtype}"
    return ProgramCase(
        id=prefix,
        level=Level.SEMANTICS,
        chip="edge",
        text=_program(name, dtype, tables.itemsize),
        arguments=(tables, tiles if name == "ldx" else picture, _vectors()),
        expected={1: picture} if name == "ldx" else {0: after if name == "stxadd" else _bytes(after)},
        bins=tuple(f"{prefix}/{what}" for what in _PICKS),
    )


def _bytes(values: Array) -> Array:
    return np.frombuffer(values.tobytes(), np.uint8)


def _sum(a: Array, b: Array, dtype: str) -> Array:
    with np.errstate(all="ignore"):
        total = wide(a) + wide(b)
        return stored(rounded(total, "fp32") if dtype in FLOATS else total, dtype)


def _vectors() -> Array:
    """The index vectors as they lie on chip behind the tiles; between them are indices of no table."""
    vectors = np.full((len(_PICKS), _VECTOR), 0x7F, np.uint8)
    for i, pick in enumerate(_PICKS.values()):
        for k, at in enumerate(pick.index):
            vectors[i, k * pick.index_pitch :][:4] = np.frombuffer(np.int32(at).tobytes(), np.uint8)
    return vectors


def _program(name: str, dtype: str, item: int) -> str:
    """Loads tiles and indices, picks rows for every tile, and stores the tiles when they are what changed."""
    program = Program()
    one, tiles, ready = program.size(1), program.size(len(_PICKS) * _SLOT), program.signal()
    begin = len(_PICKS) * _SLOT
    for arg, base, size in ((1, 0, tiles), (2, begin, program.size(len(_PICKS) * _VECTOR))):
        operands = f"dst={program.desc('ub', base)} src={program.desc('gm', 0, arg=arg)} rows={one} cols={size}"
        program.add(f"ld.int8 {operands}" + f" | set {ready}" * (arg == 2))
    for i, pick in enumerate(_PICKS.values()):
        offset = (i * _TABLE[0] * _TABLE[1] + pick.col) * item
        far = program.desc("gm", offset, arg=0)
        near = program.desc("ub", i * _SLOT, _pitch(pick, item))
        index = program.desc("ub", begin + i * _VECTOR, pick.index_pitch)
        dst, src = (near, far) if name == "ldx" else (far, near)
        apart = pick.apart or _TABLE[1]
        rows = f"rows={program.size(len(pick.index))} cols={program.size(pick.cols)}"
        table = f"stride={apart * item} count={_TABLE[0] * _TABLE[1] // apart}"
        rest = " cache=stream" * (i % 2) + (f" | wait {ready}" if i == 0 else "")
        program.add(f"{name}.{dtype} dst={dst} src={src} index={index} {rows} {table}{rest}")
    if name == "ldx":
        done = program.signal()
        program.add(f"usync unit=load | order set {done}")
        operands = f"dst={program.desc('gm', 0, arg=1)} src={program.desc('ub', 0)} rows={one} cols={tiles}"
        program.add(f"st.int8 {operands} | wait {done}")
    return program.text(3)
