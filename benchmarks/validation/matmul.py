"""Matrix products as the measured samples cut them: base blocks at L0, large loads into L1, parts of cores, passes for L2.

A row's `base` is one cube instruction, (m, n, k). A load brings `step_ka` base blocks of a along k (`step_kb` of b) into L1,
which holds `depth_a` (`depth_b`) base blocks: with as many as one load brings, loads and moves take turns; with twice as many
they overlap. `single` is the (m, n) that a core of `grid` computes at a time; smaller parts are done in rounds, which is how
the samples keep one operand in L2. `unit_flag` stands for the fixpipe that follows the cube in grains of 512 bytes.

What is not in a row is taken from the samples. A core's tiles go down the rows first, unless `order` says "row". `scalar` (how
much the library works out at run time) changes no program here: that is time of the scalar unit, which the samples spend beside
the work of the units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.validation.builders import Case, builder, placed

from npuvm.compiler import Kernel, Pins, compile_kernel, kernel
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["matmul_case", "matmul_pins"]

UNIT_FLAG_PARTS = 8
"""Parts of the accumulators of a base block that the fixpipe takes one by one. The chip has finer grains; with eight parts
seven eighths of the overlap is there."""


@builder("matmul")
def matmul_case(chip: NpuConfig, isa: Isa, params: Mapping[str, Any]) -> Case:
    """The launch of one row."""
    m, n, k = params["m"], params["n"], params["k"]
    shapes = {"a": (m, k), "b": (n, k) if params["transpose_b"] else (k, n)}
    compiled = compile_kernel(
        _kernel(bool(params["transpose_b"]), str(params["out"])), shapes, chip, isa, matmul_pins(params)
    )
    return placed(compiled, ("a", "b"))


def matmul_pins(params: Mapping[str, Any]) -> Pins:
    """The pins that fix what the parameters of a row say."""
    m, n, k = params["base"]
    lengths = {"a": k * params["step_ka"], "b": k * params["step_kb"]}
    return Pins(
        tile={"l1": (m, n, max(lengths.values())), "l0": (m, n, k)},
        l1_k=lengths,
        ring_depth={
            "l1.a": params["depth_a"] // params["step_ka"],
            "l1.b": params["depth_b"] // params["step_kb"],
        },
        l0c_parts=UNIT_FLAG_PARTS if params["unit_flag"] else None,
        grid=tuple(params["grid"]),
        part=tuple(params["single"]),
        order=params.get("order", "column"),
    )


def _kernel(transpose_b: bool, out: str) -> Kernel:
    b_type = "fp16[N, K]" if transpose_b else "fp16[K, N]"

    @kernel(a="fp16[M, K]", b=b_type)
    def matmul(k: Any, a: Any, b: Any) -> None:
        k.store(k.matmul(k.load(a), k.load(b), transpose_b=transpose_b, dtype=out))

    return matmul
