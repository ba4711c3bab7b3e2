"""How near chosen tiles of matrix products come to the best that a search by simulation finds, beside other ways to choose.

    python benchmarks/tile_choice.py [--chip ascend_910b1]... [--shapes 300] [--sample 32] [--json FILE]

Shapes are products of DeepBench and of layers of language and recommendation models over 1 to 8192 tokens, fp16, of at most
12 thousand million multiplications, drawn with seed 0. Each runs as one launch with an empty L2, its operands as they lie (the
compiler copies operands whose rows are off blocks where that pays; here nothing is copied). The best is the fastest of
`--sample` tiles of all legal ones (edges of whole blocks up to 512, not the compiler's candidates), of which half have the
lowest estimates and half are drawn, and of every tile that any of the rivals takes. The order in which cores walk tiles is the
compiler's for all; products are not split along k.

A choice's time is CPU time with nothing remembered of the shape, and again; a lookup in a dict of Python stands beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.tiles.oracle import Oracle  # noqa: E402
from benchmarks.tiles.rivals import rivals  # noqa: E402
from benchmarks.tiles.shapes import products  # noqa: E402

from npuvm.compiler.cube_chooser import TileChooser  # noqa: E402
from npuvm.compiler.cube_problem import ProductSizes, TileProblem  # noqa: E402
from npuvm.hw.config import load_chip  # noqa: E402
from npuvm.isa import load_isa  # noqa: E402


def main() -> None:
    """Measure chip by chip, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", action="append", help="repeatable; ascend_910b1 without it")
    parser.add_argument("--shapes", type=int, default=300)
    parser.add_argument("--sample", type=int, default=32, help="tiles simulated for each shape beside those taken")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = []
    for name in options.chip or ["ascend_910b1"]:
        began = time.process_time()
        report = measure(name, options.shapes, options.sample)
        print_report(report)
        print(f"{time.process_time() - began:.0f} s of host CPU time (measured)")
        found.append(report)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def measure(name: str, count: int, sample: int) -> dict[str, Any]:
    """Cycles of every rival's tile and of the best found, by shape, and the time of a choice."""
    chip = load_chip(name)
    oracle = Oracle(chip, load_isa(chip.isa.base, chip.isa.extensions))
    ways = rivals(oracle.problem, chip.cores_with("cube"))
    rows = []
    for m, n, k in products(count):
        sizes = ProductSizes(m, n, k, 1, 2 * k, 2 * n)
        taken = {way: choose(sizes) for way, choose in ways.items()}
        best = oracle.search(sizes, sample, taken.values())
        cycles = {way: oracle.cycles(sizes, tile) for way, tile in taken.items()}
        rows.append(
            {
                "sizes": (m, n, k),
                "best": best.cycles,
                "best_tile": (*best.tile.l1, best.tile.l0[2]),
                "tried": best.tried,
                "space": best.space,
                "cycles": cycles,
                "tiles": {way: (*tile.l1, tile.l0[2]) for way, tile in taken.items()},
            }
        )
    return {"chip": name, "rows": rows, "choice": choice_time(oracle.problem, chip.cores_with("cube"), rows)}


def choice_time(problem: TileProblem, cores: int, rows: list[dict[str, Any]]) -> dict[str, float]:
    """CPU microseconds of a choice, medians over the shapes."""
    chooser = TileChooser(problem, cores)
    shapes = [ProductSizes(m, n, k, 1, 2 * k, 2 * n) for m, n, k in (row["sizes"] for row in rows)]
    for sizes in shapes:  # tables are made for intervals of k, whatever the shape
        chooser.choose(sizes._replace(m=sizes.m + 1))
    cold = [_clocked(lambda sizes=sizes: chooser.choose(sizes)) for sizes in shapes]
    again = shapes[-100:]
    lookup = dict.fromkeys(again, 0)
    return {
        "cold": statistics.median(cold),
        "known": statistics.median(_clocked(lambda sizes=sizes: chooser.choose(sizes), 100) for sizes in again),
        "dict": statistics.median(_clocked(lambda sizes=sizes: lookup[sizes], 100) for sizes in again),
    }


def _clocked(call: Any, times: int = 1) -> float:
    start = time.process_time_ns()
    for _ in range(times):
        call()
    return (time.process_time_ns() - start) / 1000 / times


def print_report(report: dict[str, Any]) -> None:
    """Shares of the best by rival, for all products and for those whose rows lie at blocks of 32 bytes."""
    rows = report["rows"]
    print(f"\n{report['chip']}: {len(rows)} products, share of the best tile found")
    print(f"{'':16s} {'products':>8s} {'geomean':>8s} {'5 %':>6s} {'worst':>6s}  at m x n x k")
    lined = [row for row in rows if all(size % 16 == 0 for size in row["sizes"][1:])]
    for title, some in (("all", rows), ("rows at blocks", lined)):
        print(title)
        for way in rows[0]["cycles"]:
            shares = sorted((row["best"] / row["cycles"][way], row["sizes"]) for row in some)
            values = [share for share, _ in shares]
            mean = math.exp(statistics.fmean(map(math.log, values)))
            low = values[int(0.05 * len(values))]
            worst = " x ".join(map(str, shares[0][1]))
            print(f"  {way:14s} {len(values):8d} {mean:8.3f} {low:6.3f} {values[0]:6.3f}  {worst}")
    choice = report["choice"]
    print(
        f"a choice: {choice['cold']:.1f} us for a shape that is new, {choice['known']:.2f} us for one that is known; "
        f"a dict of Python {choice['dict']:.2f} us"
    )


if __name__ == "__main__":
    main()
