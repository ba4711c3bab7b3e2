"""The registry of validation kernels: a name gives a function that makes the launches of one measured row.

A module of this folder adds its own with `@builder("name")` and stands in `MODULES`, by which `find_builder` imports it. A
builder gets the chip, the instruction set and the row's parameters, and returns a `Case`. It must not look at what was
measured.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npuvm.compiler import CompiledKernel
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa

__all__ = ["MODULES", "Builder", "Case", "Launch", "builder", "find_builder", "placed"]

MODULES = {
    "vector_add": "vector_add",
    "data_copy": "data_copy",
    "bank_conflict": "bank_conflict",
    "tile_op": "tile_ops",
    "matmul": "matmul",
    "attention": "attention",
}
"""The module of this folder that holds each builder."""

ALIGNMENT = 1 << 21
"""Bytes to which tensors are aligned in global memory: a huge page, as a driver hands them out."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: an image and the byte addresses of its arguments."""

    image: Image
    addresses: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """What one measured task runs.

    `launches` run one after the other. `cold` says that the task was measured on an empty L2; otherwise the whole case runs
    once before, and the second run counts. Cycles per operation are `cycles / operations`: a sample that repeats one
    instruction 1000 times and prints their mean has 1000.
    """

    launches: tuple[Launch, ...]
    cold: bool = False
    operations: int = 1


Builder = Callable[[NpuConfig, Isa, Mapping[str, Any]], Case]
_BUILDERS: dict[str, Builder] = {}


def builder(name: str) -> Callable[[Builder], Builder]:
    """Register a builder under the name that rows use in `kernel`; ValueError when the name is taken."""

    def register(function: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"builder {name!r} is defined twice")
        _BUILDERS[name] = function
        return function

    return register


def find_builder(name: str) -> Builder:
    """The builder of a name; KeyError that lists the known ones."""
    if name not in MODULES:
        raise KeyError(f"no builder {name!r}; known are {', '.join(MODULES)}")
    importlib.import_module(f"benchmarks.validation.{MODULES[name]}")
    return _BUILDERS[name]


def placed(compiled: CompiledKernel, order: Sequence[str] = ()) -> Case:
    """A compiled kernel with its tensors one behind the other in global memory, each at a multiple of `ALIGNMENT`.

    `order` puts the named tensors first; the others follow as the kernel lists them.
    """
    rank = {name: i for i, name in enumerate(order)}
    addresses: dict[str, int] = {}
    end = ALIGNMENT
    for tensor in sorted(compiled.tensors, key=lambda each: rank.get(each.name, len(rank))):
        addresses[tensor.name] = end
        end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    launches = (Launch(each.image, tuple(addresses[arg] for arg in each.args)) for each in compiled.launches)
    return Case(tuple(launches))
