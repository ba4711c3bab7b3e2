"""Matrix products: tiles that the compiler and others choose, and the best that a search by simulation finds.

Shapes are products of DeepBench and of layers of language and recommendation models over 1 to 8192 tokens, fp16, of at most
12 thousand million multiplications. Each runs as one launch with an empty L2. `compiler` is all that the compiler decides. The
others only choose a tile, hand rules also parts of k; for rows off blocks of memory they have the faster of two launches, with
and without copies.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.tiles.oracle import Oracle
from benchmarks.tiles.report import Report, Row, Selection, selection_time
from benchmarks.tiles.rivals import rivals
from benchmarks.tiles.shapes import products

from npuvm.compiler.cube.chooser import TileChooser
from npuvm.compiler.cube.problem import ProductSizes, TileProblem
from npuvm.hw.config import load_chip
from npuvm.isa import load_isa

__all__ = ["measure"]

_BLOCK = 16
"""Elements of fp16 in a block of 32 bytes."""


def measure(name: str, count: int, sample: int) -> Report:
    """Cycles of every way's tile and of the best found, by shape, and the time of a choice."""
    chip = load_chip(name)
    oracle = Oracle(chip, load_isa(chip.isa.base, chip.isa.extensions))
    ways = rivals(oracle.problem, oracle.cores)
    rows = []
    for m, n, k in products(count):
        sizes = ProductSizes(m, n, k, 1, 2 * k, 2 * n)
        lies = (False, True) if oracle.may_be_padded(sizes) else (False,)
        taken = {
            name: [replace(way, padded=padded) for padded in lies if not (padded and way.split > 1)]
            for name, way in ((name, choose(sizes)) for name, choose in ways.items())
        }
        best = oracle.search(sizes, sample, [way for each in taken.values() for way in each])
        cycles, text = oracle.compiled(sizes)
        alone = {name: min((oracle.cycles(sizes, way), str(way)) for way in each) for name, each in taken.items()}
        rows.append(
            Row(
                f"{m} x {n} x {k}",
                ("rows at blocks" if n % _BLOCK == k % _BLOCK == 0 else "rows off blocks",),
                min(best.cycles, cycles),
                str(best.way) if best.cycles < cycles else "what the compiler does",
                best.tried,
                best.space,
                {"compiler": cycles} | {way: each for way, (each, _) in alone.items()},
                {"compiler": text} | {way: each for way, (_, each) in alone.items()},
                oracle.elsewhere(sizes, best.way) if best.cycles < cycles else 1.0,
            )
        )
    searched = (
        f"the fastest of {sample} of all legal tiles, edges of whole blocks up to 512, half of them by estimates and half "
        "drawn, of every tile taken, and of what a walk from the best to its neighbours, other orders and parts of k find"
    )
    return Report("gemm", name, searched, rows, _selection(oracle.problem, oracle.cores, products(count)))


def _selection(problem: TileProblem, cores: int, shapes: list[tuple[int, int, int]]) -> Selection:
    chooser = TileChooser(problem, cores)
    sizes = [ProductSizes(m, n, k, 1, 2 * k, 2 * n) for m, n, k in shapes]
    # Tables are made for intervals of k, whatever the shape.
    return selection_time(chooser.choose, sizes, [each._replace(m=each.m + 1) for each in sizes])
