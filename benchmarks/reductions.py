"""Simulated time of reduces with few results: on as many cores as there are results, and shared by all cores.

    python benchmarks/reductions.py [--chip CHIP ...] [--json FILE]

"apart" is the kernel with a pin of how its programs are written, which leaves each result to one core; "ordered" without any
pin, "atomic" with `k.pin(reduce="atomic")`. Cycles are those of all launches; the share is that of the time in which main
memory moves the inputs once, at its nominal rate.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Pins, kernel
from npuvm.compiler.graph.types import DTYPES
from npuvm.runtime import Device

WAYS = {"apart": Pins(order="column"), "ordered": None, "atomic": Pins(reduce="atomic")}


@kernel(x="fp32[N]")
def total(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x)))


@kernel(x="fp32[M, N]")
def columns(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x), 0))


@kernel(x="fp32[M, N]")
def rows(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x), 1))


@kernel(x="fp16[M, N]", y="fp16[M, N]")
def squared_error(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    difference = k.cast(k.load(x), "fp32") - k.cast(k.load(y), "fp32")
    k.store(k.mean(difference * difference))


@kernel(x="fp32[N]")
def prefix_sums(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.cumsum(k.load(x)))


class Case(NamedTuple):
    """A kernel and the shape of all its parameters."""

    kernel: Kernel
    shape: tuple[int, ...]


CASES = (
    Case(total, (1 << 24,)),
    Case(total, (1 << 20,)),
    Case(total, (1 << 17,)),
    Case(columns, (65536, 64)),
    Case(columns, (65536, 512)),
    Case(columns, (4096, 4096)),
    Case(rows, (4, 1 << 20)),
    Case(squared_error, (4096, 2048)),
    Case(prefix_sums, (1 << 22,)),
)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = {}
    for chip in options.chip or ["ascend_910b1"]:
        print(f"\n{chip}: cycles, and share of the bound of main memory")
        print(f"{'kernel':14} {'shape':14} {'bound':>9}" + "".join(f"{way:>12}      " for way in WAYS))
        report[chip] = [_row(case, chip) for case in CASES]
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _row(case: Case, chip: str) -> Mapping[str, object]:
    cycles = {way: _cycles(case, chip, pins) for way, pins in WAYS.items()}
    device = Device(chip, timing_only=True)
    params = case.kernel.graph.params
    nbytes = prod(case.shape) * sum(DTYPES[each.type.dtype].item_bytes for each in params)
    bound = nbytes / float(device.chip.hbm_bytes_per_cycle)
    text = "".join(f"{each:12,} {bound / each:4.0%}" for each in cycles.values())
    sizes = " x ".join(map(str, case.shape))
    print(f"{case.kernel.name:14} {sizes:14} {bound:9,.0f}{text}", flush=True)
    return {"kernel": case.kernel.name, "shape": case.shape, "bound": bound, "cycles": cycles}


def _cycles(case: Case, chip: str, pins: Pins | None) -> int:
    device = Device(chip, timing_only=True)
    inputs = {each.name: device.empty(case.shape, each.type.dtype) for each in case.kernel.graph.params}
    device.run(case.kernel, inputs, pins)
    return sum(record.result.cycles for record in device.launches)


if __name__ == "__main__":
    main()
