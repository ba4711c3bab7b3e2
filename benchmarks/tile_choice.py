"""How near chosen tiles come to the best that a search by simulation finds, beside other ways to choose.

    python benchmarks/tile_choice.py [--family gemm]... [--chip ascend_910b1]... [--shapes N] [--sample 32] [--worst 5]
                                     [--native] [--json FILE]

Families are modules of `benchmarks/tiles`, which say what their shapes are, where the best is looked for, and what else
chooses. Shapes are drawn with seed 0 where there are more than asked for. For each way to choose the tables show the share of
the best (geometric mean, fifth percentile, worst) and by how much its launches are slower than the compiler's own.

A choice's time is CPU time with nothing remembered of the shape, and again; a lookup in a dict of Python stands beside it. With
`--native` the compiler's choices are made by machine code (`npuvm.compiler.load_native`): the same in less time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.tiles import attention, convs, products, rows  # noqa: E402
from benchmarks.tiles.report import Report, print_report  # noqa: E402

from npuvm.compiler import load_native  # noqa: E402


class _Family(NamedTuple):
    """A family of operators: `measure(chip, shapes, sample)`, and how many shapes are measured by default."""

    measure: Callable[[str, int, int], Report]
    shapes: int


FAMILIES = {
    "gemm": _Family(products.measure, 300),
    "conv": _Family(convs.measure, 100),
    "rows": _Family(rows.measure, 100),
    "attention": _Family(attention.measure, 60),
}


def main() -> None:
    """Measure family by family and chip by chip, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", action="append", choices=FAMILIES, help="repeatable; gemm without it")
    parser.add_argument("--chip", action="append", help="repeatable; ascend_910b1 without it")
    counts = ", ".join(f"{name} {family.shapes}" for name, family in FAMILIES.items())
    parser.add_argument("--shapes", type=int, help=f"without it {counts}")
    parser.add_argument("--sample", type=int, default=32, help="tiles simulated for each shape beside those taken")
    parser.add_argument("--worst", type=int, default=5, help="shapes listed where the compiler's own choice is worst")
    parser.add_argument("--native", action="store_true", help="let machine code make choices (needs npuvm[fast])")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.native:
        print(f"choices by {load_native().label}")
    found = []
    for family in options.family or ["gemm"]:
        for chip in options.chip or ["ascend_910b1"]:
            began = time.process_time()
            report = FAMILIES[family].measure(chip, options.shapes or FAMILIES[family].shapes, options.sample)
            print_report(report, options.worst)
            seconds = time.process_time() - began
            print(f"{seconds:.0f} s of host CPU time (measured)", flush=True)
            found.append({**report.as_json(), "cpu_s": round(seconds, 1)})
            if options.json is not None:
                options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
