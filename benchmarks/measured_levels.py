"""What it is worth to measure a level of the hardware on the simulator rather than to know it by formulas.

    python benchmarks/measured_levels.py [--chip edge] [--tiles 100] [--shapes 20] [--sample 16] [--json FILE]

Builds a library with measurements up to each level, as `npuvm tune --measured` does: none, l0 (the cube and its moves), l1 (one
core), core (all cores at once). Each has all tiles that grow for the chip, `--tiles` of them measured and the rest derived.
Then each chooses tiles of products, drawn from those of `benchmarks/tile_choice.py` with another seed, as they lie. The best is
looked for as there, but with k in one part.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.tiles.oracle import Oracle, Way  # noqa: E402
from benchmarks.tiles.report import Report, Row, print_report  # noqa: E402
from benchmarks.tiles.shapes import products  # noqa: E402

from npuvm.compiler.cube.chooser import TileChooser  # noqa: E402
from npuvm.compiler.cube.levels import grown_tiles  # noqa: E402
from npuvm.compiler.cube.problem import ProductSizes  # noqa: E402
from npuvm.compiler.tiles.library import FOLDERS, MEASURABLE, forget_libraries  # noqa: E402
from npuvm.explore.tuning import SPREAD, Built, tune_chip  # noqa: E402
from npuvm.hw.config import NpuConfig, load_chip  # noqa: E402
from npuvm.isa import load_isa  # noqa: E402

_SEED = 2


def main() -> None:
    """Build, choose, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="edge")
    parser.add_argument("--tiles", type=int, default=SPREAD, help="tiles that are measured")
    parser.add_argument("--shapes", type=int, default=20)
    parser.add_argument("--sample", type=int, default=16, help="tiles simulated for each shape beside those taken")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chip = load_chip(options.chip)
    oracle = Oracle(chip, load_isa(chip.isa.base, chip.isa.extensions))
    with tempfile.TemporaryDirectory() as folder:
        choosers, built = _choosers(chip, oracle, options.tiles, Path(folder))
    report = _compare(oracle, choosers, options)
    for name, each in built.items():
        counts = f"{each['measured']:5d} tiles measured, {each['launches']:6d} launches"
        print(f"{name:5s} {counts}, {each['cpu_s']:7.1f} s of CPU time")
    print_report(report, 0)
    if options.json is not None:
        options.json.write_text(json.dumps({**report.as_json(), "built": built}, indent=1) + "\n")


def _choosers(
    chip: NpuConfig, oracle: Oracle, tiles: int, folder: Path
) -> tuple[dict[str, TileChooser], dict[str, dict[str, Any]]]:
    """A chooser for each level that measurements go up to, and what its library took to build."""
    table, depths = grown_tiles(oracle.problem)
    choosers: dict[str, TileChooser] = {}
    built: dict[str, dict[str, Any]] = {}
    for measured in MEASURABLE:
        if measured == "none":
            choosers[measured] = TileChooser(oracle.problem, oracle.cores, (table, depths))
            built[measured] = {"measured": 0, "launches": 0, "cpu_s": 0.0}
            continue
        one: Built = tune_chip(chip, folder / measured, 1, measured=measured, spread=tiles)
        os.environ[FOLDERS] = str(folder / measured)
        forget_libraries()
        choosers[measured] = TileChooser(oracle.problem, oracle.cores)
        del os.environ[FOLDERS]
        forget_libraries()
        built[measured] = {"measured": one.measured, "launches": one.simulations, "cpu_s": one.cpu_seconds}
    return choosers, built


def _compare(oracle: Oracle, choosers: dict[str, TileChooser], options: argparse.Namespace) -> Report:
    rows = []
    for m, n, k in products(options.shapes, _SEED):
        sizes = ProductSizes(m, n, k, 1, 2 * k, 2 * n)
        ways = {name: Way(chooser.choose(sizes)) for name, chooser in choosers.items()}
        best = oracle.search(sizes, options.sample, ways.values(), split=False)
        cycles = {name: oracle.cycles(sizes, way) for name, way in ways.items()}
        texts = {name: str(way) for name, way in ways.items()}
        group = "rows at blocks" if n % 16 == k % 16 == 0 else "rows off blocks"
        shape = f"{m} x {n} x {k}"
        rows.append(Row(shape, (group,), best.cycles, str(best.way), best.tried, best.space, cycles, texts))
    searched = f"as benchmarks/tile_choice.py with --sample {options.sample}"
    return Report("measured levels of gemm", options.chip, searched, rows, None)


if __name__ == "__main__":
    main()
