"""Convolutions: tiles that the compiler and others choose, and the best that a search by simulation finds.

Shapes are layers of DeepBench, ResNet-50, VGG, GoogLeNet and MobileNet, and of sizes that are prime, for 1 to 32 images, fp16,
of at most 5 thousand million multiplications, in turn with channels last and first. Each runs as one launch with an empty L2.
Kernels of one pixel, with neither stride nor padding, are none of them: the compiler makes matrix products of those.
"""

from __future__ import annotations

from benchmarks.tiles.conv_oracle import ConvOracle
from benchmarks.tiles.conv_rivals import conv_rivals
from benchmarks.tiles.conv_shapes import Conv, convolutions
from benchmarks.tiles.report import Report, Row, Selection, selection_time

from npuvm.compiler.conv.plan import ConvTile
from npuvm.compiler.conv.spec import ConvSizes, sizes_of
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa

__all__ = ["measure"]


def measure(name: str, count: int, sample: int) -> Report:
    """Cycles of every way's tile and of the best found, by shape, and the time of a choice."""
    chip = load_chip(name)
    oracle = ConvOracle(chip, load_isa(chip.isa.base, chip.isa.extensions))
    ways = {planes: conv_rivals(oracle, planes, chip) for planes in (False, True)}
    shapes, rows = convolutions(count), []
    for conv in shapes:
        sizes = sizes_of(conv.spec())
        taken = {way: choose(sizes) for way, choose in ways[conv.planes].items()}
        best = oracle.search(conv, sample, taken.values())
        rows.append(
            Row(
                str(conv),
                ("channels first" if conv.planes else "channels last",),
                best.cycles,
                str(best.tile),
                best.tried,
                best.space,
                {way: oracle.launch_cycles(conv, tile) for way, tile in taken.items()},
                {way: str(tile) for way, tile in taken.items()},
            )
        )
    searched = (
        f"the fastest of {sample} of all legal tiles of whole blocks, a third of them by estimates, a third drawn and a third "
        "beside the best so far, and of every tile taken"
    )
    return Report("conv", name, searched, rows, _selection(oracle, shapes))


def _selection(oracle: ConvOracle, shapes: list[Conv]) -> Selection:
    """Of layers that are known, for numbers of images that are new: candidates are made for a layer."""
    choosers = {planes: oracle.new_chooser(planes) for planes in (False, True)}
    planes_of: dict[ConvSizes, bool] = {}

    def choose(sizes: ConvSizes) -> ConvTile:
        return choosers[planes_of[sizes]].choose(sizes, "conv")

    found, warm = [], []
    for conv in shapes:
        sizes = sizes_of(conv.spec())
        other = sizes._replace(images=sizes.images + 1)
        planes_of[sizes] = planes_of[other] = conv.planes
        found.append(sizes)
        warm.append(other)
    found = list(dict.fromkeys(found))
    return selection_time(choose, found, [each for each in warm if each not in set(found)])
