"""What compiled kernels need of memory: the unified buffer on the chip, images, the program cache on the host.

    python benchmarks/memory.py [--chip ascend_910b1]... [--quick] [--json FILE]

* UB: for each kernel over 20 shapes, the bytes of its buffers as a share of UB (median and highest), the share of them that is
  rounding (tiles to whole blocks, and to stripes of bank groups where the chip has banks), what the same buffers would need if
  all had the size of the largest, as DVM has them, and what every value would need with a buffer of its own. Reuse and sizes
  are exact; the tile is the one taken, so a kernel with equal buffers would have to take a smaller one.
* Image: bytes of a kernel's images for tensors from a few elements up to past 2^31. The program text does not grow; there is an
  entry for each core that has something to do.
* Cache: bytes of host memory that one more shape of a known kernel keeps, measured by tracemalloc over many new shapes,
  interpreter's objects included, beside the bytes of its images. What choices of tiles keep of earlier shapes has a limit; it
  stands apart, and is reached before by another kernel's shapes.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.efficiency import kernels  # noqa: E402
from benchmarks.efficiency.kernels import Case  # noqa: E402

from npuvm.compiler import Kernel, compile_kernel  # noqa: E402
from npuvm.compiler.inspection.buffers import BufferUse  # noqa: E402
from npuvm.compiler.inspection.kernel import inspect_kernel  # noqa: E402
from npuvm.compiler.program.family import KEPT_SHAPES  # noqa: E402
from npuvm.hw.config import NpuConfig, load_chip  # noqa: E402
from npuvm.isa import Isa, load_isa  # noqa: E402

CASES = (*kernels.VECTOR, *kernels.ROWS, *kernels.ATTENTION)
GROWING = (1, 64, 1024, 8192, 65536)
"""Sizes of M and N, and of the others; the last is a tensor of 2^32 elements."""

Shapes = dict[str, tuple[int, ...]]

FILLING = 1000
"""Shapes after which choices of tiles keep as much as they ever do."""


def main() -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", action="append", help="default: ascend_910b1, ascend_910a and edge")
    parser.add_argument("--quick", action="store_true", help="three shapes of each kernel, fewer shapes in the cache")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = []
    for name in options.chip or ("ascend_910b1", "ascend_910a", "edge"):
        chip = load_chip(name)
        isa = load_isa(chip.isa.base, chip.isa.extensions)
        names = list(dict.fromkeys(case.kernel.name for case in CASES))
        by_kernel = {name: [case for case in CASES if case.kernel.name == name] for name in names}
        if options.quick:
            by_kernel = {name: cases[:3] for name, cases in by_kernel.items()}
        made = {name: cases[0].kernel for name, cases in by_kernel.items()} | {
            "matmul": kernels.SMALL_PRODUCTS[0].kernel
        }
        report.append(
            {
                "chip": chip.name,
                "ub": ub_table(by_kernel, chip, isa),
                "images": image_table(made, chip, isa),
                "cache": cache_table(made, chip, isa, 50 if options.quick else 400),
            }
        )
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


# The unified buffer.


def ub_table(by_kernel: dict[str, list[Case]], chip: NpuConfig, isa: Isa) -> list[dict[str, Any]]:
    """UB of every kernel's vector segments over its shapes."""
    capacity = chip.capacity_bytes("ub")
    print(f"\nUB of {chip.name}, {capacity:,} bytes; shares are medians over the shapes, in brackets the highest")
    print(
        f"{'kernel':12} {'launches':>8} {'buffers':>7} {'of UB':>18} {'rounding':>18} {'equal buffers':>18} {'no reuse':>18}"
    )
    rows = []
    for name, cases in by_kernel.items():
        found = [row for case in cases for row in _ub_rows(case, chip, isa)]
        rows += found
        cells = [_middle(found, key) for key in ("of_ub", "rounding", "equal_buffers", "no_reuse")]
        shown = f"{cells[0]:>18} {cells[1]:>18} {cells[2]:>18} {cells[3]:>18}"
        print(f"{name:12} {len(found):8} {max(row['buffers'] for row in found):7} {shown}", flush=True)
    print("equal buffers and no reuse: bytes that they would need, as multiples of what is needed")
    return rows


def _ub_rows(case: Case, chip: NpuConfig, isa: Isa) -> list[dict[str, Any]]:
    rows = []
    for segment in inspect_kernel(case.kernel, case.shapes, chip, isa).segments:
        buffers = [each for each in segment.buffers if each.space == "ub"]
        if buffers:
            sizes = {name: list(shape) for name, shape in case.shapes.items()}
            head = {"kernel": case.kernel.name, "shapes": sizes, "segment": segment.name, "tile": segment.tile}
            rows.append(head | _ub_row(buffers, chip.capacity_bytes("ub")))
    return rows


def _ub_row(buffers: Sequence[BufferUse], capacity: int) -> dict[str, Any]:
    total = sum(each.nbytes for each in buffers)
    needed = sum(each.used_bytes * each.slots for each in buffers)
    widest = max(each.slot_bytes for each in buffers)
    alone = sum(each.slot_bytes * (len(each.values) - 1) for each in buffers)
    return {
        "buffers": len(buffers),
        "bytes": total,
        "of_ub": total / capacity,
        "rounding": 1 - needed / total,
        "equal_buffers": widest * sum(each.slots for each in buffers) / total,
        "no_reuse": (total + alone) / total,
    }


def _middle(rows: Sequence[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows]
    if key in ("of_ub", "rounding"):
        return f"{statistics.median(values):.1%} ({max(values):.1%})"
    return f"{statistics.median(values):.2f} ({max(values):.2f})"


# Images.


def image_table(made: dict[str, Kernel], chip: NpuConfig, isa: Isa) -> list[dict[str, Any]]:
    """Bytes of images while the tensors grow."""
    print(
        f"\nimages on {chip.name}: words of the text and bytes of the image, all launches, as every size grows together"
    )
    print(f"{'kernel':12}" + "".join(f"{f'size {size}':>22}" for size in GROWING))
    rows = []
    for name, kernel in made.items():
        cells = []
        for size in GROWING:
            shapes = {each.name: _grown(each.type.shape, size) for each in kernel.graph.params}
            compiled = compile_kernel(kernel, shapes, chip, isa)
            words = sum(len(each.image.words) for each in compiled.launches)
            nbytes = sum(len(each.image.to_bytes()) for each in compiled.launches)
            tensors = sum(each.nbytes for each in compiled.tensors)
            cells.append(f"{words:,} w {nbytes:,} B")
            rows.append({"kernel": name, "size": size, "words": words, "image_bytes": nbytes, "tensor_bytes": tensors})
        print(f"{name:12}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
    return rows


def _grown(shape: Sequence[int | str], size: int) -> tuple[int, ...]:
    """All dims of the size, those of a head and of a batch no larger than the largest that attention has."""
    least = {"D": 64, "B": 32}
    return tuple(min(size, least.get(dim, size)) if isinstance(dim, str) else dim for dim in shape)


# The program cache.


def cache_table(made: dict[str, Kernel], chip: NpuConfig, isa: Isa, count: int) -> list[dict[str, Any]]:
    """Host bytes that each further shape of a kernel keeps, and those that choices keep, however many shapes there are."""
    print(
        f"\nprogram cache on {chip.name}: host bytes for each of {count} new shapes, beside the bytes of their images,"
    )
    print(f"and those that choices of tiles keep after {FILLING} shapes")
    print(f"{'kernel':12} {'a shape':>10} {'images':>10} {'choices':>12}")
    rows = []
    for name, kernel in made.items():
        params = kernel.graph.params
        shapes = [{each.name: _grown(each.type.shape, 98 + at) for each in params} for at in range(2 + count + FILLING)]
        alike = replace(kernel, graph=replace(kernel.graph, name="alike"))
        tracemalloc.start()
        # Another kernel fills what choices share, and gives its own shapes back.
        filled, _ = _kept(alike, shapes[:2], shapes[2 + count :], chip, isa)
        kept, images = _kept(kernel, shapes[:2], shapes[2 : 2 + count], chip, isa)
        tracemalloc.stop()
        choices = max(0.0, filled - kept * min(FILLING, KEPT_SHAPES) / count)
        rows.append(
            {"kernel": name, "bytes": kept / count, "image_word_bytes": images / count, "choice_bytes": choices}
        )
        print(f"{name:12} {kept / count:10,.0f} {images / count:10,.0f} {choices:12,.0f}", flush=True)
    return rows


def _kept(
    kernel: Kernel, warm: Sequence[Shapes], shapes: Sequence[Shapes], chip: NpuConfig, isa: Isa
) -> tuple[int, int]:
    """Host bytes that shapes keep behind some others, and the bytes of their images' words."""
    for each in warm:
        compile_kernel(kernel, each, chip, isa)
    gc.collect()
    before, images = tracemalloc.get_traced_memory()[0], 0
    for each in shapes:
        compiled = compile_kernel(kernel, each, chip, isa)
        images += sum(8 * len(launch.image.words) for launch in compiled.launches)
    del compiled
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before, images


if __name__ == "__main__":
    main()
