"""What a tuner that samples programs for given shapes costs and gives, beside a library made with no shape in mind.

    python benchmarks/sample_driven.py [--given layer|family] [--chip ascend_910b1] [--trials N] [--log FILE] [--json FILE]

Both are for fp16 products on one chip and simulator. The tuner is DietCode's in kind (`benchmarks/tiles/sampled.py`): `layer`
gives it the shapes of DietCode's published experiment, 16 T x 768 -> 2304 for 8 values of T, and 1000 trials; `family` 48
products of `benchmarks/tile_choice.py`, with as many trials for each shape. Then both choose tiles for the given shapes and for
as many others of the same kind, which neither has seen. The library is built anew, as `npuvm tune` does.

Compared are cycles of the tuner's tiles with those of the library's, both as operands lie; and of its launches, with copied
operands where that is faster, with what the compiler makes of a product by its library, which may also have parts of k,
other orders, and tails.

Counted are simulated launches and CPU seconds, all included: for the tuner programs, simulation, and its model; for the library
candidates, programs, simulation, and what follows for tiles that are not measured. A run that is stopped goes on from its log.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.tiles.oracle import Oracle, Way  # noqa: E402
from benchmarks.tiles.report import geomean  # noqa: E402
from benchmarks.tiles.sampled import PER_SHAPE, SampledTuner  # noqa: E402
from benchmarks.tiles.shapes import products  # noqa: E402

from npuvm.compiler.cube.chooser import TileChooser  # noqa: E402
from npuvm.compiler.cube.problem import CubeTile, ProductSizes  # noqa: E402
from npuvm.explore.tuning import tune_chip  # noqa: E402
from npuvm.hw.config import load_chip  # noqa: E402
from npuvm.isa import load_isa  # noqa: E402

_LAYER = (768, 2304)
"""k and n of the published experiment's layer; m is 16 times the number of tokens."""

_TOKENS = (5, 24, 43, 62, 81, 100, 119, 128)

_FAMILY = 48


def main() -> None:
    """Tune, build, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--given", choices=("layer", "family"), default="layer")
    parser.add_argument("--trials", type=int, help=f"without it {PER_SHAPE} for each given shape")
    parser.add_argument("--log", type=Path, help="where trials are kept; without it they are not")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    given, others = _shapes(options.given)
    with tempfile.TemporaryDirectory() as folder:
        log = options.log or Path(folder) / "trials.jsonl"
        report = compare(options.chip, given, others, options.trials or PER_SHAPE * len(given), log, Path(folder))
    report = {"chip": options.chip, "given": options.given, **report}
    _print(report)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _shapes(kind: str) -> tuple[list[ProductSizes], list[ProductSizes]]:
    """The given shapes, and others of their kind."""
    if kind == "layer":
        k, n = _LAYER
        rest = random.Random(0).sample([tokens for tokens in range(1, 129) if tokens not in _TOKENS], len(_TOKENS))
        return [_sizes(16 * tokens, n, k) for tokens in _TOKENS], [_sizes(16 * tokens, n, k) for tokens in rest]
    every = [_sizes(*sizes) for sizes in products(2 * _FAMILY, seed=1)]
    return every[:_FAMILY], every[_FAMILY:]


def _sizes(m: int, n: int, k: int) -> ProductSizes:
    return ProductSizes(m, n, k, 1, 2 * k, 2 * n)


def compare(
    name: str, given: list[ProductSizes], others: list[ProductSizes], trials: int, log: Path, folder: Path
) -> dict[str, Any]:
    """Costs of both builds, and by how much launches with the tuner's kernels are slower than with the library's."""
    chip = load_chip(name)
    oracle = Oracle(chip, load_isa(chip.isa.base, chip.isa.extensions))
    tuner = SampledTuner(chip, oracle, given, log)
    tuner.run(trials, lambda done, total: print(f"\r{done} of {total} trials", end="", file=sys.stderr, flush=True))
    print(file=sys.stderr)
    built = tune_chip(chip, folder, 1)
    chooser = TileChooser(oracle.problem, oracle.cores)
    slower, cold = {}, {}
    for kind, shapes in (("given", given), ("others", others)):
        started = time.process_time()
        taken = [tuner.choose(sizes) for sizes in shapes]
        cold[kind] = 1e6 * (time.process_time() - started) / len(shapes)
        pairs = list(zip(shapes, taken, strict=True))
        tiles = [
            oracle.cycles(sizes, Way(tile)) / oracle.cycles(sizes, Way(chooser.choose(sizes))) for sizes, tile in pairs
        ]
        launches = [_least(oracle, sizes, tile) / oracle.compiled(sizes)[0] for sizes, tile in pairs]
        slower[kind] = {"shapes": len(shapes), "tiles": _summary(tiles), "launches": _summary(launches)}
    return {
        "tuner": {"launches": tuner.trials, "cpu_s": tuner.cpu_seconds, "kernels": tuner.kernels, "choice_us": cold},
        "library": {"launches": built.simulations, "cpu_s": built.cpu_seconds, "kernels": built.tiles},
        "slower": slower,
    }


def _least(oracle: Oracle, sizes: ProductSizes, tile: CubeTile) -> int:
    """Cycles of a launch with a tile, the faster of two where operands may be copied."""
    lies = (False, True) if oracle.may_be_padded(sizes) else (False,)
    return min(oracle.cycles(sizes, Way(tile, padded=padded)) for padded in lies)


def _summary(ratios: list[float]) -> dict[str, float]:
    return {"geomean": geomean(ratios), "worst": max(ratios), "best": min(ratios)}


def _print(report: dict[str, Any]) -> None:
    print(f"{report['chip']}, shapes given: {report['given']}")
    for name in ("tuner", "library"):
        each = report[name]
        print(
            f"  {name:8s} {each['launches']:6d} launches, {each['cpu_s']:7.1f} s of CPU time, {each['kernels']} kernels kept"
        )
    tuner, library = report["tuner"], report["library"]
    print(
        f"  the tuner takes {tuner['cpu_s'] / library['cpu_s']:.1f} times the CPU time and "
        f"{tuner['launches'] / library['launches']:.2f} times the launches"
    )
    for kind, each in report["slower"].items():
        print(
            f"  {each['shapes']} {kind} shapes, a choice of the tuner's takes {tuner['choice_us'][kind]:.0f} us; it takes"
        )
        for name, other in (
            ("tiles", "with the library's tiles, as operands lie"),
            ("launches", "of the compiler's launches"),
        ):
            ratio = each[name]
            print(f"    {ratio['geomean']:.3f} times the cycles {other} ({ratio['best']:.2f} to {ratio['worst']:.2f})")


if __name__ == "__main__":
    main()
