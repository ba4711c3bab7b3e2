"""Loads of a matrix into UB or L1 and nothing else, as the measured sample walks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from benchmarks.validation.builders import ALIGNMENT, Case, Launch, builder
from benchmarks.validation.programs import core_of, image_of

from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["data_copy_case"]

ITEM = 2
"""Bytes of an fp16 element."""


@dataclass(frozen=True)
class Axis:
    """One loop of the walk: its trip count and the elements from one step to the next in rows and columns."""

    trip: int
    rows: int = 0
    cols: int = 0


@builder("data_copy")
def data_copy_case(chip: NpuConfig, isa: Isa, params: Mapping[str, Any]) -> Case:
    """The launch of one row: each load instruction brings one tile, all to the same place, and none waits."""
    walk = _split if params["visit"] == "once" else _whole
    axes, ranges = walk(params)
    to, (rows, cols) = params["to"], params["tile"]
    column = max(i for i, axis in enumerate(axes) if axis.cols)
    width = params["cols"] // params["slices"]
    sizes = [f"szc size=s{i} full={axis.trip}" for i, axis in enumerate(axes)]
    last = width - cols * (axes[column].trip - 1)
    sizes.append(f"szc size=s10 full={rows}")
    sizes.append(f"szt size=s11 loop=l{column} full={cols} tail={last}")
    pitch = ITEM * params["cols"]
    strides = [
        f"dstr desc=d0 loop=l{i} stride={axis.rows * pitch + ITEM * axis.cols}"
        for i, axis in enumerate(axes)
        if axis.rows or axis.cols
    ]
    setup = [
        *sizes,
        f"desc desc=d0 space=gm base=@arg0 pitch={pitch}",
        *strides,
        f"desc desc=d1 space={to} base=0 pitch={ITEM * cols}",
    ]
    trips = " ".join(f"t{i}=s{i}" for i in range(len(axes)))
    hint = " cache=stream" if params.get("bypass") else ""
    phases = [
        line
        for phase in range(len(ranges[0]))
        for line in (
            f"grid loops={len(axes)} phase={phase} {trips}",
            f"  ld.fp16 dst=d1 src=d0 rows=s10 cols=s11{hint}",
            "endgrid",
        )
    ]
    core = core_of(chip, "vector" if to == "ub" else "cube")
    image = image_of(isa, "data_copy", core, 1, ranges, "\n".join([*setup, *phases]))
    return Case((Launch(image, (ALIGNMENT,)),))


Ranges = list[Sequence[tuple[int, int]]]


def _split(params: Mapping[str, Any]) -> tuple[list[Axis], Ranges]:
    """Rows are split over the cores; slices of the columns, each read `repeats` times, are walked by every core."""
    rows, cols = params["tile"]
    cores = params["cores"]
    share, width = params["rows"] // cores, params["cols"] // params["slices"]
    axes = [
        Axis(cores, share),
        Axis(params["slices"], 0, width),
        Axis(params["repeats"]),
        Axis(share // rows, rows),
        Axis(-(-width // cols), 0, cols),
    ]
    each = prod(axis.trip for axis in axes[1:])
    return axes, [((core * each, core * each + each),) for core in range(cores)]


def _whole(params: Mapping[str, Any]) -> tuple[list[Axis], Ranges]:
    """Every core reads the whole matrix; with `all_rotated` core c begins with block c, and ends with those before it."""
    rows, cols = params["tile"]
    cores = params["cores"]
    block = params["rows"] // cores
    axes = [Axis(cores, block), Axis(block // rows, rows), Axis(params["cols"] // cols, 0, cols)]
    each = axes[1].trip * axes[2].trip
    first = [core if params["visit"] == "all_rotated" else 0 for core in range(cores)]
    return axes, [((start * each, cores * each), (0, start * each)) for start in first]
