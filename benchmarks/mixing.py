"""Simulated time of products with what is around them: in launches of their own, in one program, and as the estimate chooses.

    python benchmarks/mixing.py [--chip CHIP ...] [--case NAME ...] [--json FILE]

The baseline is the same kernel with a launch for each segment: the same tile choice, templates and instruction set. "chip"
is the cycles of all launches on a chip whose L2 is as the call before left it; "each" the
time from one call to the next where the host issues ten in a row, with `launch_us` for each launch. The last column of a case
says how much faster one program is, by cycles and from call to call. "chosen" is what `compile_kernel` takes unasked.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, Pins, compile_kernel, kernel
from npuvm.runtime import Device

CHIPS = ("ascend_910b1", "ascend_910a", "edge")
CALLS = 10
WAYS: Mapping[str, Pins | None] = {"apart": Pins(stack="launches"), "one program": Pins(stack="mix"), "chosen": None}


@kernel(x="fp16[M, K]", w="fp16[K, N]", bias="fp16[N]")
def gelu_layer(k: KernelBuilder, x: ParamRef, w: ParamRef, bias: ParamRef) -> None:
    k.store(k.gelu(k.matmul(k.load(x), k.load(w)) + k.load(bias), approximate="tanh"))


@kernel(x="fp16[M, K]", w="fp16[K, N]", residual="fp16[M, N]")
def residual_layer(k: KernelBuilder, x: ParamRef, w: ParamRef, residual: ParamRef) -> None:
    k.store(k.matmul(k.load(x), k.load(w)) + k.load(residual))


@kernel(q="fp16[H, S, D]", p="fp16[H, T, D]", v="fp16[H, T, D]")
def attention(k: KernelBuilder, q: ParamRef, p: ParamRef, v: ParamRef) -> None:
    scores = k.matmul(k.load(q), k.load(p), transpose_b=True) * 0.125
    risen = k.exp(scores - k.max(scores, -1, keepdims=True))
    k.store(k.matmul(risen / k.sum(risen, -1, keepdims=True), k.load(v)))


@kernel(x="fp16[M, K]", w="fp16[K, N]")
def softmax_layer(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
    y = k.matmul(k.load(x), k.load(w))
    risen = k.exp(y - k.max(y, -1, keepdims=True))
    k.store(risen / k.sum(risen, -1, keepdims=True))


@kernel(x="fp16[M, K]", gain="fp16[K]", w="fp16[K, N]")
def norm_layer(k: KernelBuilder, x: ParamRef, gain: ParamRef, w: ParamRef) -> None:
    value = k.cast(k.load(x), "fp32")
    unit = k.cast(value * k.rsqrt(k.mean(value * value, -1, keepdims=True) + 1e-5), "fp16")
    k.store(k.matmul(unit * k.load(gain), k.load(w)))


@kernel(x="fp16[N, C, S, S]", scale="fp16[C, 1, 1]", shift="fp16[C, 1, 1]", w="fp16[F, C, 3, 3]")
def planes_layer(k: KernelBuilder, x: ParamRef, scale: ParamRef, shift: ParamRef, w: ParamRef) -> None:
    k.store(k.conv2d(k.relu(k.load(x) * k.load(scale) + k.load(shift)), k.load(w), padding=1))


@kernel(x="fp16[N, S, S, C]", scale="fp16[C]", shift="fp16[C]", w="fp16[F, 3, 3, C]")
def pixels_layer(k: KernelBuilder, x: ParamRef, scale: ParamRef, shift: ParamRef, w: ParamRef) -> None:
    k.store(k.conv2d(k.relu(k.load(x) * k.load(scale) + k.load(shift)), k.load(w), padding=1, layout="NHWC"))


class Case(NamedTuple):
    """A kernel and values of its symbols; cases that are large are left to large chips."""

    name: str
    made: Kernel
    sizes: Mapping[str, int]
    large: bool = False


_IMAGES = ((64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7), (128, 32, 28))
"""Channels, filters and edge of the image of layers of ResNets and DenseNets."""

CASES = (
    Case("gelu 128", gelu_layer, {"M": 128, "K": 384, "N": 1536}),
    Case("gelu 2048", gelu_layer, {"M": 2048, "K": 1024, "N": 4096}, large=True),
    Case("gelu 4096", gelu_layer, {"M": 4096, "K": 4096, "N": 4096}, large=True),
    Case("residual 128", residual_layer, {"M": 128, "K": 1536, "N": 384}),
    Case("residual 2048", residual_layer, {"M": 2048, "K": 4096, "N": 1024}, large=True),
    Case("attention 12 x 128", attention, {"H": 12, "S": 128, "T": 128, "D": 64}),
    Case("attention 96 x 128", attention, {"H": 96, "S": 128, "T": 128, "D": 64}, large=True),
    Case("attention 32 x 512", attention, {"H": 32, "S": 512, "T": 512, "D": 128}, large=True),
    Case("attention 32 x 2048", attention, {"H": 32, "S": 2048, "T": 2048, "D": 128}, large=True),
    Case("attention 8 x 4096", attention, {"H": 8, "S": 4096, "T": 4096, "D": 64}, large=True),
    Case("attention 128 x 1 of 1024", attention, {"H": 128, "S": 1, "T": 1024, "D": 128}, large=True),
    Case("softmax 512", softmax_layer, {"M": 512, "K": 512, "N": 512}),
    Case("softmax 4096", softmax_layer, {"M": 4096, "K": 1024, "N": 1024}, large=True),
    Case("norm 128", norm_layer, {"M": 128, "K": 384, "N": 384}),
    Case("norm 2048", norm_layer, {"M": 2048, "K": 1024, "N": 4096}, large=True),
    *(
        Case(f"{name} {images} x {channels} x {edge} to {filters}", made, sizes, large=images > 1)
        for name, made in (("planes", planes_layer), ("pixels", pixels_layer))
        for channels, filters, edge in _IMAGES
        for images in (1, 8)
        for sizes in ({"N": images, "C": channels, "F": filters, "S": edge},)
    ),
)


def main() -> None:
    """Measure everything, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", nargs="+", default=list(CHIPS))
    parser.add_argument("--case", nargs="+", default=[each.name for each in CASES])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{'':40} {'way':12} {'launches':24} {'cycles':>11} {'each us':>9} {'workspace KiB':>14}")
    rows: list[dict[str, Any]] = []
    for chip in options.chip:
        for case in CASES:
            if case.name in options.case and not (case.large and chip == "edge"):
                rows += measure(case, chip)
    if options.json is not None:
        options.json.write_text(json.dumps({"calls": CALLS, "rows": rows}, indent=1) + "\n")


def measure(case: Case, chip: str) -> list[dict[str, Any]]:
    """The rows of a case on a chip, printed as they come."""
    rows: list[dict[str, Any]] = []
    for way, pins in WAYS.items():
        row = {"chip": chip, "case": case.name, "way": way, **timed(case, chip, pins)}
        rows.append(row)
        gain = ""
        if way != "apart":
            base = rows[0]
            gain = f"{base['cycles'] / row['cycles']:6.2f} {base['each_us'] / row['each_us']:6.2f}"
        kinds = " ".join(row["launches"])
        space = row["workspace_bytes"] / 1024
        print(
            f"{chip + ' ' + case.name:40} {way:12} {kinds:24} {row['cycles']:11,} {row['each_us']:9.2f} {space:14,.0f} {gain}",
            flush=True,
        )
    return rows


def timed(case: Case, chip: str, pins: Pins | None) -> dict[str, Any]:
    """Cycles of one call and time from call to call."""
    device = Device(chip, timing_only=True)
    shapes = {
        each.name: tuple(case.sizes[dim] if isinstance(dim, str) else dim for dim in each.type.shape)
        for each in case.made.graph.params
    }
    made = compile_kernel(case.made, shapes, device.chip, device.isa, pins)
    inputs = {each.name: device.empty(shapes[each.name], each.type.dtype) for each in case.made.graph.params}

    def call() -> None:
        for tensor in device.run(case.made, inputs, pins=pins).values():
            tensor.free()

    call()
    before, first = len(device.launches), device.stream.end_us
    call()
    cycles = sum(record.result.cycles for record in device.launches[before:])
    for _ in range(CALLS - 1):
        call()
    return {
        "launches": [launch.kind for launch in made.launches],
        "cycles": cycles,
        "each_us": (device.stream.end_us - first) / CALLS,
        "workspace_bytes": made.workspace_bytes,
    }


if __name__ == "__main__":
    main()
