"""Vector add as the measured sample does it: contiguous pieces of each core's part, with one buffer or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.validation.builders import Case, builder, placed

from npuvm.compiler import Pins, compile_kernel, kernel
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["vector_add_case"]


@kernel(x="fp16[N]", y="fp16[N]")
def add(k: Any, x: Any, y: Any) -> None:
    k.store(k.load(x) + k.load(y), name="z")


@builder("vector_add")
def vector_add_case(chip: NpuConfig, isa: Isa, params: Mapping[str, Any]) -> Case:
    """The launch of one row.

    The source cuts rows of 8192 over the cores and pieces from these; the kernel cuts pieces and deals them out, so that a core
    has at most half a piece more or less. Where the source's two buffers of an operand do not lie one behind the other they
    are put so, with the same bank groups and, between the operands, the same distances modulo a row of all groups.
    """
    addresses = {name: tuple(each) for name, each in params["addresses"].items()}
    pins = Pins(
        tile={"vector": (1, params["piece"])},
        cores=params["cores"],
        ring_depth={name: len(each) for name, each in addresses.items()},
        address=_rings(addresses, 2 * params["piece"]),
        cache={"x": "stream", "y": "stream"} if params["bypass"] else {},
    )
    shape = (params["elements"],)
    return placed(compile_kernel(add, {"x": shape, "y": shape}, chip, isa, pins), ("x", "y", "z"))


GROUPS_BYTES = 512
"""A row of all bank groups of UB."""


def _rings(addresses: Mapping[str, tuple[int, ...]], piece: int) -> dict[str, int]:
    """Where each operand's ring of buffers begins: at its first buffer, or behind the ring before."""
    placed_at: dict[str, int] = {}
    end = 0
    for name, each in addresses.items():
        start = each[0]
        if len(each) > 1:
            start = end + (start - end) % GROUPS_BYTES
        placed_at[name] = start
        end = start + len(each) * piece
    return placed_at
