"""Host time to verify programs before their first launch: of a new kernel, of a new shape, known ones; and one by one.

    python benchmarks/verify_time.py [--chip ascend_910b1] [--shapes 200] [--kernel NAME]... [--json FILE]

The kernels and random shapes of `compile_time.py`. All times are CPU time of one process, in microseconds for all images of a
kernel call (most have one), beside those of the exact verifier for the same images.

- new kernel: a verifier that has seen nothing; the median of five shapes.
- new shape: one verifier for all shapes, each compiled right before, without the first one. Proofs and forms that later shapes
  need fall into it.
- known: images that have passed before.
- exact: `npuvm.isa.verify` of the images of the new shapes, which looks at each by itself.

"forms" counts programs that differ in more than numbers, "alone" images of known forms that were verified one by one anyway.
The cycle collector is on; what lived before a series is frozen, as `compile_time.py` does it.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.compile_time import clocked, distinct, spin  # noqa: E402
from benchmarks.compiling.kernels import KERNELS, Shapes, Subject  # noqa: E402

from npuvm.compiler import compile_kernel  # noqa: E402
from npuvm.hw.config import NpuConfig, load_chip  # noqa: E402
from npuvm.isa import Image, Isa, load_isa, verify  # noqa: E402
from npuvm.isa.verifier import CapacityLimits, Verifier  # noqa: E402
from npuvm.runtime.device.device import capacity_limits  # noqa: E402

FRESH = 5
"""Shapes that are each verified as the first."""

AIM = 10
"""How many times faster than one by one a new shape is to be."""


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--shapes", type=int, default=200, help="new shapes of each kernel")
    parser.add_argument("--kernel", action="append", choices=[each.name for each in KERNELS], help="only these")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chip = load_chip(options.chip)
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    subjects = [each for each in KERNELS if options.kernel is None or each.name in options.kernel]
    rows = [measure(each, chip, isa, options.shapes) for each in subjects]
    loop = spin()
    print_rows(rows, options.chip, loop)
    if options.json is not None:
        found = {"chip": options.chip, "isa": isa.hash, "empty_loop_ns": loop, "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def check(verifier: Verifier, images: list[Image]) -> None:
    """Verify the images of a call."""
    for image in images:
        verifier.check(image)


def exact(isa: Isa, limits: CapacityLimits, images: list[Image]) -> None:
    """Verify the images of a call one by one."""
    for image in images:
        verify(isa, image, limits)


def measure(subject: Subject, chip: NpuConfig, isa: Isa, count: int) -> dict[str, Any]:
    """Times of one kernel in microseconds."""
    source = random.Random(subject.name)
    kernel, limits = subject.make(), capacity_limits(chip)
    shapes = distinct(subject, source, FRESH + count + 1)

    def compiled(each: Shapes) -> list[Image]:
        return [launch.image for launch in compile_kernel(kernel, each, chip, isa).launches]

    first = [images for each in shapes[: FRESH + 1] if (images := compiled(each))]
    check(Verifier(isa, limits), first[0])  # tables of the instruction set
    gc.collect()
    gc.freeze()
    fresh = [clocked(partial(check, Verifier(isa, limits), images))[0] for images in first[:FRESH]]
    verifier = Verifier(isa, limits)
    check(verifier, first[-1])
    calls, new = [], []
    for each in shapes[FRESH + 1 :]:
        if images := compiled(each):
            calls.append(images)
            new.append(clocked(partial(check, verifier, images))[0])
    alone = [clocked(partial(exact, isa, limits, images))[0] for images in calls]
    known = [clocked(partial(check, verifier, images))[0] for images in calls[-FRESH:]]
    gc.unfreeze()
    return {
        "kernel": subject.name,
        "images": verifier.images,
        "forms": verifier.forms,
        "one_by_one": verifier.images - verifier.forms - verifier.by_form,
        "fresh": statistics.median(fresh),
        "new": statistics.median(new),
        "new_mean": statistics.fmean(new),
        "new_most": max(new),
        "known": statistics.median(known),
        "exact": statistics.median(alone),
        "exact_mean": statistics.fmean(alone),
        "exact_most": max(alone),
    }


def print_rows(rows: list[dict[str, Any]], chip: str, loop: float) -> None:
    """The table, with how many times faster than one by one a new shape is."""
    print(f"{chip}; CPU microseconds; an empty loop's turn took {loop:.0f} ns\n")
    print(f"{'':46} {'new shape':>23} {'':7} {'one by one':>23} {'times faster':>13}")
    head = f"{'images':>6} {'forms':>5} {'alone':>5} {'new kernel':>10}"
    three = f"{'median':>7} {'mean':>7} {'most':>7}"
    print(f"{'kernel':16} {head} {three} {'known':>7} {three} {'median':>7} {'mean':>5}")
    for row in rows:
        counts = f"{row['images']:6} {row['forms']:5} {row['one_by_one']:5} {row['fresh']:10,.0f}"
        new = " ".join(f"{row[name]:7,.0f}" for name in ("new", "new_mean", "new_most", "known"))
        alone = " ".join(f"{row[name]:7,.0f}" for name in ("exact", "exact_mean", "exact_most"))
        print(f"{row['kernel']:16} {counts} {new} {alone} {times(row, ''):7.1f} {times(row, '_mean'):5.1f}")
    middle = statistics.median(times(row, "") for row in rows)
    print(f"\nmedian of kernels: a new shape {middle:.1f} times faster than one by one (aim {AIM})")


def times(row: dict[str, Any], which: str) -> float:
    """How many times longer one by one takes than a new shape."""
    return float(row[f"exact{which}"] / row[f"new{which}"])


if __name__ == "__main__":
    main()
