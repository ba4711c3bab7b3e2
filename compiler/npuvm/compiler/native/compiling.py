"""Compiling kernels by numba. Imported where machine code was asked for only, as all that imports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba import njit, types
from numba.core.dispatcher import Dispatcher

__all__ = [
    "ASKED",
    "BOTH",
    "CHUNKS",
    "CODE",
    "CONV_TILE",
    "FLAG",
    "FLOAT",
    "FLOATS",
    "INT",
    "INTS",
    "LABEL",
    "LINES",
    "MET",
    "NAMED",
    "REDUCE",
    "ROWS",
    "TABLE",
    "TILE",
    "WAY",
    "inlined",
    "kernel",
    "part",
]

LABEL = f"numba {'.'.join(numba.__version__.split('.')[:2])}"


INT, FLOAT, FLAG = types.int64, types.float64, types.boolean
INTS, ROWS = types.Array(INT, 1, "C"), types.Array(INT, 2, "C")
CODE = types.Array(types.int16, 2, "C")
FLOATS, TABLE, LINES, BOTH = (types.Array(FLOAT, dims, "C") for dims in (1, 2, 3, 4))
ASKED = types.Array(INT, 1, "C", readonly=True)
"""Types of arguments; that of a view of packed bytes cannot be written."""

TILE, WAY = types.Tuple((INT, FLOAT, INT, INT)), types.Tuple((INT, FLOAT, FLOAT, INT, INT))
CHUNKS = types.Tuple((INT, FLOAT, FLOAT, *[INT] * 5))
MET, NAMED = types.Tuple((INT, FLOAT, FLOAT)), types.Tuple((INT, FLOAT))
CONV_TILE = types.Tuple((INT, INT, FLAG, *[INT] * 6))
REDUCE = types.Tuple((INT, *WAY.types, *CHUNKS.types[1:], *WAY.types))
"""Types of results: what was found, estimates, and whole numbers. A few numbers are sooner at hand than arrays of them."""


def _digest(function: FunctionType) -> str:
    """Of what is compiled in: all sources, and constants of a kernel's module and of those whose parts it calls, some of which
    are from elsewhere.

    numba's cache looks at the file of a kernel alone.
    """
    found = sha256(_SOURCES)
    for line in sorted(_constants(function.__globals__, set())):
        found.update(line.encode())
    return found.hexdigest()[:16]


def _constants(scope: Mapping[str, object], seen: set[str]) -> Iterator[str]:
    """Names and values of constants that functions of a module see, each module once."""
    seen.add(str(scope["__name__"]))
    for name, value in scope.items():
        if name.lstrip("_").isupper():
            yield f"{scope['__name__']}.{name}={value!r}\n"
        elif isinstance(value, Dispatcher) and value.py_func.__module__ not in seen:
            yield from _constants(value.py_func.__globals__, seen)


def _sources() -> bytes:
    found = sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.digest()


_SOURCES = _sources()

_PART: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
"""Parts count no references to arrays, as they make and keep none: counting takes most of the time of a small one."""


def part(function: Callable[..., Any]) -> Any:
    """What kernels call."""
    return njit(**_PART)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """A small part that is written out where it is called, for kernels that call many of them for each candidate."""
    return njit(forceinline=True, **_PART)(function)


def kernel(result: types.Type, *arguments: types.Type) -> Callable[[Callable[..., Any]], Any]:
    """What is called from outside: compiled at once, for these types; its machine code is kept for other processes."""

    def compiled(function: Callable[..., Any]) -> Any:
        assert isinstance(function, FunctionType)
        copy = FunctionType(function.__code__, function.__globals__, function.__name__)
        copy.__module__, copy.__qualname__ = function.__module__, f"{function.__qualname__}_{_digest(function)}"
        signature = result(*arguments)
        try:
            return njit(signature, cache=True, error_model="numpy")(copy)
        except RuntimeError:
            # No folder for the cache can be written; the kernel is compiled anew in every process.
            return njit(signature, error_model="numpy")(copy)

    return compiled
