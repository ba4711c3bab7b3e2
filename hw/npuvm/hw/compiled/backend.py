"""The kernels compiled by numba, or as they stand in Python, on arrays or on lists.

The kernels are plain functions. For numba each is copied with the compiled ones that it calls in its globals, and the entries
of `npuvm.hw.compiled.machine_code` call them. The copy of an entry carries a digest of all sources in its name, for numba's
cache looks at the file of the entry alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from npuvm.hw.compiled import calendar, cores, hints, layout, lines, loop, ports, requests, signals, units
from npuvm.hw.compiled.layout import Store
from npuvm.hw.errors import DeviceError

__all__ = ["Backend", "BackendName", "backend_of"]

BackendName: TypeAlias = Literal["numba", "python"]


_MODULES: tuple[ModuleType, ...] = (calendar, hints, lines, requests, ports, signals, units, cores, loop)
"""Every module of kernels."""


_OPTIONS = {"error_model": "numpy", "_nrt": False}
"""Without counting references: no kernel makes or keeps an array, and counting them takes four fifths of the time."""

_INLINED = frozenset(
    {
        "append",
        "at_slot",
        "charge_start",
        "cut",
        "dispatch",
        "entry",
        "first_signal",
        "foresee",
        "full_ring",
        "issue",
        "passed",
        "passes_l2",
        "read_piece",
        "request",
        "run_unit",
        "send",
        "short_of_lines",
        "take",
        "touch",
        "visible",
        "write_piece",
    }
)
"""What every instruction and every request of a DMA engine passes through."""

_HOST_LINE = 64
"""Bytes of a line of the host's caches."""

_ENTRIES = ("run", "discard", "fill")
"""The kernels that are called from outside."""


@dataclass(frozen=True)
class Backend:
    """How kernels run: `run` of `npuvm.hw.compiled.loop`, `discard` and `fill` of `lines`; `label` is for reports."""

    name: BackendName
    label: str
    run: Callable[..., int]
    discard: Callable[..., int]
    fill: Callable[..., None]

    def ints(self, values: Sequence[int] | NDArray[np.int64]) -> Store:
        """A store of these values; an array that is given may become it."""
        if self.name == "numba":
            return cast("Store", np.asarray(values, dtype=np.int64))
        return values.tolist() if isinstance(values, np.ndarray) else list(values)

    def full(self, size: int, value: int = 0, small: bool = False) -> Store:
        """A store of `size` equal values; `small` for such as fit 32 bits."""
        if self.name == "python":
            return [value] * size
        dtype = np.int32 if small else np.int64
        store = _zeros(size, np.dtype(dtype))
        if value:
            store[:] = value
        return cast("Store", store)

    def grown(self, store: Store, size: int, value: int = 0) -> Store:
        """The store with equal values put behind it, up to `size`."""
        if self.name == "python":
            store.extend([value] * (size - len(store)))
            return store
        old = np.asarray(store)
        larger = _zeros(size, old.dtype)
        larger[: len(old)] = old
        if value:
            larger[len(old) :] = value
        return cast("Store", larger)

    def put(self, store: Store, at: int, values: NDArray[np.int64]) -> None:
        """Write values into a store from place `at` on."""
        if self.name == "python":
            store[at : at + len(values)] = values.tolist()
        else:
            np.asarray(store)[at : at + len(values)] = values


def _zeros(size: int, dtype: np.dtype[np.signedinteger]) -> NDArray[np.signedinteger]:
    """Zeros, which take no memory before they are touched; they begin with a line of the host's caches, as do their records."""
    spare = _HOST_LINE // dtype.itemsize
    store = np.zeros(size + spare, dtype=dtype)
    first = -store.ctypes.data % _HOST_LINE // dtype.itemsize
    return store[first : first + size]


_PYTHON = Backend("python", "compiled (Python)", loop.run, lines.discard, lines.fill)


def backend_of(name: BackendName | None = None) -> Backend:
    """The backend of this name; None: numba where it is installed, else plain Python.

    DeviceError when numba is asked for and not installed.
    """
    if name is None:
        name = "numba" if find_spec("numba") is not None else "python"
    if name == "numba":
        return _numba()
    return _PYTHON


@cache
def _numba() -> Backend:
    try:
        import numba
    except ImportError:
        raise DeviceError("the numba backend of the compiled engine needs numba; install npuvm[fast]") from None
    from npuvm.hw.compiled import machine_code

    digest = sha256(numba.__version__.encode())
    for file in (__file__, *(str(module.__file__) for module in (layout, machine_code, *_MODULES))):
        digest.update(Path(file).read_bytes())
    kernels = {
        name: kernel
        for module in _MODULES
        for name, kernel in vars(module).items()
        if isinstance(kernel, FunctionType) and kernel.__module__ == module.__name__
    }
    compiled: dict[str, Any] = {"soon": machine_code.soon}
    entries = [
        _entry(numba, getattr(machine_code, name), _compile(numba, name, kernels, compiled), digest.hexdigest()[:16])
        for name in _ENTRIES
    ]
    version = ".".join(numba.__version__.split(".")[:2])
    return Backend("numba", f"compiled (numba {version})", *entries)


def _compile(numba: ModuleType, name: str, kernels: Mapping[str, FunctionType], compiled: dict[str, Any]) -> Any:
    """Prepare a kernel for compilation, those that it calls before it."""
    kernel = kernels[name]
    for called in kernel.__code__.co_names:
        if called in kernels and called not in compiled:
            _compile(numba, called, kernels, compiled)
    copy = FunctionType(kernel.__code__, {**kernel.__globals__, **compiled}, name)
    copy.__module__, copy.__qualname__ = kernel.__module__, kernel.__qualname__
    compiled[name] = numba.njit(copy, forceinline=name in _INLINED, **_OPTIONS)
    return compiled[name]


def _entry(numba: ModuleType, entry: FunctionType, kernel: Any, digest: str) -> Any:
    """An entry that calls this kernel; its machine code is cached."""
    copy = FunctionType(entry.__code__, {**entry.__globals__, "kernel": kernel}, entry.__name__)
    copy.__module__, copy.__qualname__ = entry.__module__, f"{entry.__qualname__}_{digest}"
    try:
        return numba.njit(copy, cache=True, **_OPTIONS)
    except RuntimeError:
        # No folder for the cache can be written; the kernels are compiled anew in every process.
        return numba.njit(copy, **_OPTIONS)
