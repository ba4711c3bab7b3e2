"""Simulated cycles of convolutions against the peak of the cubes, for layers of ResNet-50 and others.

    python benchmarks/convolution.py [--chip CHIP ...] [--images 8] [--shapes 100] [--json FILE]

Time only, on the compiled engine, from an L2 that holds nothing. "cycles" are of all launches. "share" is the time that all
cubes together need for the multiply-adds at their peak, divided by that of the run. "bound" is the larger of that time and of
what main memory needs for x and w once, divided by the run's: how much of what the chip could do at best is reached.
"copies" are cycles of launches that are no product. With channels last a kernel lies in memory as [O, KH, KW, C].
"new us" is host time, not simulated: the median CPU time of compiling the layer, planned once, for a number and size of images
that it has not seen, of --shapes random ones (1 to 16 images of up to 256 x 256 pixels).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import numpy as np

from npuvm.compiler import DTYPES, Kernel, KernelBuilder, ParamRef, compile_kernel, kernel
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.simulator import l2_state, simulate
from npuvm.isa import load_isa

CHIPS = ("ascend_910b1", "ascend_910a", "edge")
ALIGN = 512


@dataclass(frozen=True)
class Layer:
    """A convolution of square images and kernels, padded so that a stride of 1 keeps their size."""

    name: str
    size: int
    channels: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1

    def image(self, layout: str, *size: int | str) -> tuple[int | str, ...]:
        """Dims of one image."""
        return (self.channels, *size) if layout == "NCHW" else (*size, self.channels)

    def kernel_of(self, layout: str, dtype: str, *size: int | str) -> Kernel:
        """The kernel for any number of images, of `size` or of the layer's own."""
        taps, depth = (self.kernel, self.kernel), self.channels // self.groups
        image = self.image(layout, *(size or (self.size, self.size)))
        weights = (depth, *taps) if layout == "NCHW" else (*taps, depth)

        @kernel(x=f"{dtype}[N, {_dims(image)}]", w=f"{dtype}[{self.filters}, {_dims(weights)}]")
        def layer(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
            pad = self.kernel // 2
            k.store(
                k.conv2d(k.load(x), k.load(w), stride=self.stride, padding=pad, groups=self.groups, layout=layout), "y"
            )

        return layer


LAYERS = (
    Layer("stem 7x7/2", 224, 3, 64, 7, 2),
    Layer("conv2 1x1", 56, 64, 256, 1),
    Layer("conv2 3x3", 56, 64, 64, 3),
    Layer("conv3 3x3/2", 56, 128, 128, 3, 2),
    Layer("conv3 3x3", 28, 128, 128, 3),
    Layer("conv4 1x1", 14, 1024, 256, 1),
    Layer("conv4 3x3", 14, 256, 256, 3),
    Layer("conv5 3x3", 7, 512, 512, 3),
    Layer("groups of 4", 56, 128, 128, 3, groups=32),
    Layer("depthwise 3x3", 56, 128, 128, 3, groups=128),
)


@dataclass(frozen=True)
class Measured:
    """A layer on a chip; see the top of this file."""

    chip: str
    layer: str
    layout: str
    cycles: int
    copies: int
    share: float
    bound: float
    new_us: float


def new_shape_us(layer: Layer, layout: str, chip: NpuConfig, count: int, dtype: str = "fp16") -> float:
    """Median CPU time in us of compiling a planned layer for a shape that it has not seen; host time."""
    isa, made = load_isa(), layer.kernel_of(layout, dtype, "H", "W")
    rng, weights = np.random.default_rng(0), _weights(made)
    found = []
    for _ in range(count + 1):
        images, *size = int(rng.integers(1, 17)), *(int(each) for each in rng.integers(layer.kernel, 257, 2))
        shapes = {"x": (images, *(int(dim) for dim in layer.image(layout, *size))), "w": weights}
        start = time.process_time_ns()
        compile_kernel(made, shapes, chip, isa)
        found.append((time.process_time_ns() - start) / 1000)
    # The first one plans.
    return statistics.median(found[1:])


def measure(layer: Layer, layout: str, images: int, chip: NpuConfig, count: int, dtype: str = "fp16") -> Measured:
    """Compile and simulate one layer, and compile it for `count` other shapes."""
    isa = load_isa()
    made = layer.kernel_of(layout, dtype)
    image = (int(dim) for dim in layer.image(layout, layer.size, layer.size))
    shapes = {"x": (images, *image), "w": _weights(made)}
    compiled = compile_kernel(made, shapes, chip, isa)
    addresses, at = {}, ALIGN
    for tensor in compiled.tensors:
        addresses[tensor.name] = at
        at = (at + tensor.nbytes + ALIGN - 1) // ALIGN * ALIGN
    l2, cycles = l2_state(chip), {"cube": 0, "vector": 0}
    for launch in compiled.launches:
        places = [addresses[name] for name in launch.args]
        run = simulate(chip, isa, launch.image, addresses=places, data=False, l2=l2, engine="compiled")
        cycles[launch.kind] += run.cycles
    total = sum(cycles.values())
    (out,) = made.graph.output_shapes(made.graph.bind(shapes)).values()
    cube = chip.core.cube
    adds = prod(out) * prod(shapes["w"][1:])
    per_cycle = cube.m * cube.n * cube.k_bytes // DTYPES[dtype].item_bytes * chip.cores_with("cube")
    peak = adds / per_cycle * float(cube.cycles_per_block[dtype])
    moved = sum(map(prod, shapes.values())) * DTYPES[dtype].item_bytes / float(chip.hbm_bytes_per_cycle)
    return Measured(
        chip.name,
        layer.name,
        layout,
        total,
        cycles["vector"],
        round(peak / total, 3),
        round(max(peak, moved) / total, 3),
        round(new_shape_us(layer, layout, chip, count), 1),
    )


def _weights(made: Kernel) -> tuple[int, ...]:
    """The shape of the kernels of a convolution."""
    return next(tuple(int(dim) for dim in each.type.shape) for each in made.graph.params if each.name == "w")


def _dims(shape: tuple[int | str, ...]) -> str:
    return ", ".join(map(str, shape))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chip", action="append", choices=CHIPS)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--shapes", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'chip':14} {'layer':14} {'layout':6} {'cycles':>9} {'copies':>8} {'share':>6} {'bound':>6} {'new us':>8}")
    for name in options.chip or CHIPS:
        chip = load_chip(name)
        for layer in LAYERS:
            for layout in ("NHWC", "NCHW"):
                row = measure(layer, layout, options.images, chip, options.shapes)
                rows.append(row)
                figures = f"{row.cycles:9} {row.copies:8} {row.share:6.3f} {row.bound:6.3f} {row.new_us:8.1f}"
                print(f"{row.chip:14} {row.layer:14} {row.layout:6} {figures}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
