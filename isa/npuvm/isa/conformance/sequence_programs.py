"""The legal programs of the suite, each with its data and with what numpy says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.isa.conformance.program_files import program_text
from npuvm.isa.conformance.sequence_registers import REGISTER_ROWS, registers_text
from npuvm.isa.conformance.target import Level, ProgramCase

__all__ = ["Data", "legal_programs", "matmul_data", "phases_data", "small_numbers", "tiles_data"]

Array: TypeAlias = NDArray[Any]

_KINDS = ("first", "last", "not_first", "not_last", "changed", "changes")
_TRIPS = (
    "constant",
    "none",
    "none-with-a-loop-inside",
    "tail",
    "affine-up",
    "affine-down",
    "register",
    "negative-register",
)
_REGISTERS = ("li", "sadd", "ssub", "smul", "scdiv", "smin", "slt", "lds", "wraps", "predicate")


@dataclass(frozen=True)
class Data:
    """Arguments before, and those that change as they are afterwards."""

    arguments: tuple[Array, ...]
    expected: dict[int, Array]


def small_numbers(*shape: int) -> Array:
    """Small whole numbers, with which fp16 and fp32 calculate exactly; the same at every call."""
    return np.random.default_rng(7).integers(-8, 9, shape)


def tiles_data(rows: int = 187) -> Data:
    """y = 3 x."""
    x = small_numbers(rows, 64).astype(np.float16)
    return Data((x, np.zeros_like(x)), {1: (3 * x.astype(np.int64)).astype(np.float16)})


def matmul_data() -> Data:
    """C = A B."""
    a, b = small_numbers(40, 48), small_numbers(48, 24)
    product = np.einsum("mk,kn->mn", a, b)
    operands = (a.astype(np.float16), b.astype(np.float16))
    return Data((*operands, np.zeros((40, 24), np.float16)), {2: product.astype(np.float16)})


def phases_data() -> Data:
    """y = relu(x), z = x + y."""
    x = (small_numbers(8, 16) * 1000).astype(np.int32)
    y = np.where(x > 0, x, 0).astype(np.int32)
    return Data((x, np.zeros_like(x), np.zeros_like(x)), {1: y, 2: (x + y).astype(np.int32)})


_ONE = np.ones(1, np.int8)
"""The marker that a program stores."""


def _tile(index: int) -> tuple[int, int, int]:
    """Counters of a tile in a grid of 2 x 3 x 4, the last one fastest."""
    return index // 12, index // 4 % 3, index % 4


def _predicates() -> Data:
    """[predicate, tile, iteration] for tiles 3 to 20 and 3 iterations: 1 where it was on."""
    marks = np.zeros((9, 24, 3), np.int8)
    tiles = range(3, 20)
    for tile in tiles:
        i, j, k = _tile(tile)
        before, after = _tile(tile - 1), _tile(tile + 1)
        for n in range(3):
            marks[:, tile, n] = (
                True,
                k == 0,
                j == 2 and n == 2,
                not (i == 0 and n == 0),
                k != 3,
                tile == tiles[0] or before[1] != j,
                tile == tiles[0] or before[0] != i or before[2] != k,
                tile == tiles[-1] or after[1] != j,
                tile == tiles[-1] or after[0] != i,
            )
    return Data((_ONE, np.zeros_like(marks)), {1: marks})


def _masks() -> Data:
    """[predicate, tile] for tiles 1 to 3: of no counter each is the first and the last, and none ever changes."""
    marks = np.zeros((6, 5), np.int8)
    marks[:2, 1:4] = 1
    marks[4, 1] = marks[5, 3] = 1  # the first and the last tile of the core
    return Data((_ONE, np.zeros_like(marks)), {1: marks})


def _reuse() -> Data:
    a, b = small_numbers(3, 16).astype(np.int32), small_numbers(3, 4, 16).astype(np.int32)
    c = (a[:, None, :] + b).reshape(12, 16)
    c[[0, 11]] = 0  # the core's tiles are 1 to 10
    return Data((a, b, np.zeros_like(c)), {2: c.astype(np.int32)})


def _trips() -> Data:
    """[kind, outer, inner]: a marker for every iteration."""
    marks = np.zeros((8, 5, 8), np.int8)
    counts = ((4,) * 5, (0,) * 5, (3, 3, 3, 3, 1), (0, 0, 1, 2, 3), (4, 3, 0, 0, 0), (3,) * 5, (0,) * 5, (7,) * 5)
    for kind, trips in enumerate(counts):
        for outer, trip in enumerate(trips):
            marks[kind, outer, :trip] = 1
    nothing = np.zeros(64, np.int8)
    return Data((_ONE, np.zeros_like(marks), nothing), {1: marks, 2: nothing})


def _triangle() -> Data:
    marks = np.zeros((4, 8), np.int8)
    pairs = [(i, j) for i in range(4) for j in range(i + 1)]
    for i, j in pairs[2:9]:
        marks[3 - i, j] = 1
    return Data((_ONE, np.zeros_like(marks)), {1: marks})


def _nest() -> Data:
    marks = np.array([not (index & 1 and index & 128) for index in range(256)], np.int8)
    return Data((_ONE, np.zeros_like(marks)), {1: marks})


def _counts() -> Data:
    rows = small_numbers(3, 16).astype(np.int32)
    out = np.stack([rows[0] - rows[1], (rows[0] - rows[1]) * rows[2]])
    return Data((rows, np.zeros_like(out)), {1: out})


def _restart() -> Data:
    rows = small_numbers(3, 8).astype(np.int32)
    out = np.stack([2 * rows[0], rows[1] - rows[2]])
    return Data((rows, np.zeros_like(out)), {1: out})


def _windows() -> Data:
    x = small_numbers(10, 12).astype(np.int32)
    around = np.pad(x, ((1, 9), (2, 9)), constant_values=9)
    tiles = np.stack([around[3 * i : 3 * i + 4, 4 * j : 4 * j + 5] for i in range(4) for j in range(4)])
    return Data((x, np.zeros_like(tiles), np.zeros_like(x)), {1: tiles, 2: x})


def _affine() -> Data:
    sizes = [[max(0, min(6, 2 + 3 * i - 2 * j)) for j in range(4)] for i in range(4)]
    marks = np.array([[[column < size for column in range(8)] for size in row] for row in sizes], np.int8)
    return Data((np.ones(8, np.int8), np.zeros_like(marks)), {1: marks})


def _registers() -> Data:
    rows = np.array([[column < ones for column in range(16)] for ones in REGISTER_ROWS], np.int8)
    return Data((np.ones(16, np.int8), np.zeros_like(rows), np.array([3, -1, 4, 2], np.int32)), {1: rows})


_PROGRAMS: Sequence[tuple[str, Callable[[], Data], tuple[str, ...]]] = (
    (
        "tiles",
        tiles_data,
        ("ring/two-slots", "ring/three-slots", "size/tail", "wait/two-units", "order/read-after-write"),
    ),
    (
        "matmul",
        matmul_data,
        ("ring/two-buffers-of-a-slot", "usync/waits", "usync/sets", "order/accumulators", "loop/in-a-grid"),
    ),
    ("phases", phases_data, ("barrier/core", "sem/again-after-a-barrier")),
    ("restart", _restart, ("ring/begins-anew",)),
    ("predicates", _predicates, tuple(f"predicate/{kind}" for kind in _KINDS)),
    ("masks", _masks, ("predicate/over-no-loop",)),
    ("reuse", _reuse, ("ring/slot-for-several-tiles", "predicate/switches-off-signals", "grid/part-of-the-tiles")),
    ("trips", _trips, (*(f"loop/{what}" for what in _TRIPS), "grid/no-tiles")),
    ("triangle", _triangle, ("grid/trip-by-outer-counter", "desc/negative-stride")),
    ("nest", _nest, ("loop/eight-deep",)),
    ("windows", _windows, ("window/read", "window/written")),
    ("affine", _affine, ("size/two-loops",)),
    ("counts", _counts, ("wait/two", "set/two", "sem/counts-above-one", "sem/starts-above-zero")),
    (
        "registers",
        _registers,
        (*(f"register/{name}" for name in _REGISTERS), "desc/register-stride", "size/register"),
    ),
)
"""Name of the program, its data, and its bins."""


def legal_programs() -> Iterator[ProgramCase]:
    """Every legal program as a case; the last part of its id is the program's name."""
    for name, data, covered in _PROGRAMS:
        made = data()
        yield ProgramCase(
            id=f"sequences/legal/{name}",
            level=Level.SEQUENCES,
            chip="edge",
            text=registers_text() if name == "registers" else program_text(name),
            arguments=made.arguments,
            expected=made.expected,
            bins=tuple(f"sequences/{each}" for each in covered),
        )
