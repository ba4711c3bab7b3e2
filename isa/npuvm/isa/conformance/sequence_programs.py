"""The legal programs of the suite, each with its data and with what numpy says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from npuvm.isa.conformance.program_files import program_text
from npuvm.isa.conformance.target import Level, ProgramCase

__all__ = ["legal_programs", "matmul_data", "tiles_data"]

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class _Data:
    """Arguments before, and those that change as they are afterwards."""

    arguments: tuple[Array, ...]
    expected: dict[int, Array]


def _random(*shape: int) -> Array:
    """Small whole numbers, with which fp16 and fp32 calculate exactly; the same at every call."""
    return np.random.default_rng(7).integers(-8, 9, shape)


def tiles_data(rows: int = 187) -> _Data:
    """y = 3 x."""
    x = _random(rows, 64).astype(np.float16)
    return _Data((x, np.zeros_like(x)), {1: (3 * x.astype(np.int64)).astype(np.float16)})


def matmul_data() -> _Data:
    """C = A B."""
    a, b = _random(40, 48), _random(48, 24)
    product = np.einsum("mk,kn->mn", a, b)
    operands = (a.astype(np.float16), b.astype(np.float16))
    return _Data((*operands, np.zeros((40, 24), np.float16)), {2: product.astype(np.float16)})


def _phases() -> _Data:
    x = (_random(8, 16) * 1000).astype(np.int32)
    y = np.where(x > 0, x, 0).astype(np.int32)
    return _Data((x, np.zeros_like(x), np.zeros_like(x)), {1: y, 2: (x + y).astype(np.int32)})


_PROGRAMS: Sequence[tuple[str, Callable[[], _Data], tuple[str, ...]]] = (
    (
        "tiles",
        tiles_data,
        ("ring/two-slots", "ring/three-slots", "size/tail", "wait/two-units", "order/read-after-write"),
    ),
    (
        "matmul",
        matmul_data,
        ("ring/two-buffers-of-a-slot", "usync/waits", "usync/sets", "predicate/first", "predicate/not_first"),
    ),
    ("phases", _phases, ("barrier/core", "sem/again-after-a-barrier")),
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
            text=program_text(name),
            arguments=made.arguments,
            expected=made.expected,
            bins=tuple(f"sequences/{bin}" for bin in covered),
        )
