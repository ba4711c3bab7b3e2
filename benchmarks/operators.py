"""How near compiled kernels come to what the chip allows, in simulated time: efficiency against roofline, for 20 shapes each.

    python benchmarks/operators.py [--chip ascend_910b1] [--family vector]... [--quick] [--tiles 120] [--json FILE]

Families, each with its aim:

* vector: element-wise kernels whose bound is at least 50 times their fill latency (the cycles that the same kernel takes
  for one element); 90 % of the bound;
* rows: softmax and layer norm of rows, likewise; 80 %;
* gemm: fp16 products from 4096 cubed up; 80 % of the cube's peak, in core time;
* small-gemm, attention: within 90 % of the best tile that a search by simulation finds, each launch alone with an empty
  L2. Tiles are the candidates of the compiler's own choice (about a thousand for a product) and, for vector segments, a
  grid over both dims. Where there are more than `--tiles`, half of those simulated have the lowest estimates, half are
  drawn with seed 0;
* launch-bound: kernels so small that the host's launch is most of their time.

Three limits stand beside the cycles. The bound is the highest of docs/timing-model.md, Bounds; it knows the program as it
is, and main memory at its nominal rate. "Reachable" is the same with a row of main memory opened for every line, as it is
for lines of many cores that stream from places of their own. The roof knows only the work: HBM traffic, repeats of vector
instructions without their start-up, elements through the load and store ports, multiplications at the cube's peak. Where
the cycles went is the stack of npuvm.hw.explain. In the tables `~` marks what meets its aim only of what is reachable,
`!` what does not meet it either way.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.efficiency import kernels  # noqa: E402
from benchmarks.efficiency.kernels import Case  # noqa: E402
from benchmarks.efficiency.measure import Measured, measure, reasons  # noqa: E402
from benchmarks.efficiency.search import Searched, search  # noqa: E402

from npuvm.hw.config import NpuConfig, load_chip  # noqa: E402
from npuvm.isa import load_isa  # noqa: E402

FILLS = 50
"""Fill latencies that the roof of a kernel must have for an aim to hold."""

ROOFS = {"vector": (kernels.VECTOR, 0.9), "rows": (kernels.ROWS, 0.8), "gemm": (kernels.LARGE_PRODUCTS, 0.8)}
SEARCHES = {"small-gemm": (kernels.SMALL_PRODUCTS, 0.9), "attention": (kernels.ATTENTION, 0.9)}
FAMILIES = (*ROOFS, *SEARCHES, "launch-bound")


def main() -> None:
    """Measure the families, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--family", action="append", choices=FAMILIES)
    parser.add_argument("--quick", action="store_true", help="two shapes of each kernel, 24 tiles each")
    parser.add_argument("--tiles", type=int, default=120, help="tiles that are simulated for a shape, at most")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chip = load_chip(options.chip)
    wanted = options.family or FAMILIES
    report: dict[str, Any] = {"chip": chip.name, "families": {}}
    begin = time.perf_counter()
    for name, (cases, aim) in ROOFS.items():
        if name in wanted:
            report["families"][name] = roof_family(name, _few(cases, options.quick), aim, chip)
    for name, (cases, aim) in SEARCHES.items():
        if name in wanted:
            tiles = 24 if options.quick else options.tiles
            report["families"][name] = search_family(name, _few(cases, options.quick), aim, chip, tiles)
    if "launch-bound" in wanted:
        report["families"]["launch-bound"] = launch_family(_few(kernels.LAUNCH_BOUND, options.quick), chip)
    print(f"{time.perf_counter() - begin:.0f} s of host time (measured)")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _few(cases: Sequence[Case], quick: bool) -> list[Case]:
    """All cases, or the first two of each kernel."""
    if not quick:
        return list(cases)
    names = [case.kernel.name for case in cases]
    return [case for at, case in enumerate(cases) if names[:at].count(names[at]) < 2]


def roof_family(name: str, cases: Sequence[Case], aim: float, chip: NpuConfig) -> dict[str, Any]:
    """Efficiency of each case against its roof."""
    what = "cube's peak" if name == "gemm" else "bound"
    print(f"\n{name} on {chip.name}: aim {aim:.0%} of the {what} where that is at least {FILLS} fill latencies")
    print(
        f"{'kernel':12} {'sizes':24} {'cycles':>10} {'bound':>10} {'by':8} {'fills':>6} {'of bound':>8} {'reachable':>9} "
        f"{'of roof':>8}   tile; where core cycles went"
    )
    fills: dict[str, int] = {}
    rows = []
    for case in cases:
        if case.kernel.name not in fills:
            fills[case.kernel.name] = measure(kernels.one_element(case.kernel), chip).cycles
        found = measure(case, chip)
        row = _row(found)
        if name == "gemm":  # the aim is of the cube's peak, which a program does not change
            row["of_bound"] = row["of_reachable"] = row["of_roof"]
        row["fill_latencies"] = row["bound_cycles"] / fills[case.kernel.name]
        row["counts"] = row["fill_latencies"] >= FILLS
        row["meets_aim"], row["meets_aim_of_reachable"] = row["of_bound"] >= aim, row["of_reachable"] >= aim
        rows.append(row)
        mark = " " if not row["counts"] or row["meets_aim"] else "~" if row["meets_aim_of_reachable"] else "!"
        print(
            f"{case.kernel.name:12} {case.sizes:24} {found.cycles:10,} {row['bound_cycles']:10,.0f} {row['bound']:8} "
            f"{row['fill_latencies']:6.0f} {row['of_bound']:8.1%} {row['of_reachable']:8.1%}{mark} {row['of_roof']:8.1%}   "
            f"{found.tiles}; {reasons(found.runs)}",
            flush=True,
        )
    _roof_summary(rows, aim)
    return {"aim": aim, "rows": rows}


def _row(found: Measured) -> dict[str, Any]:
    by, bound = found.bound
    return {
        "kernel": found.case.kernel.name,
        "shapes": {name: list(shape) for name, shape in found.case.shapes.items()},
        "cycles": found.cycles,
        "bound_cycles": bound,
        "bound": by,
        "of_bound": found.share(found.bounds),
        "of_reachable": found.share(found.reachable),
        "of_roof": found.share(found.roofs),
        "tiles": found.tiles,
        "went": reasons(found.runs, most=5),
    }


def _roof_summary(rows: Sequence[dict[str, Any]], aim: float) -> None:
    """Of each kernel, over the shapes that count: least, median, how many meet the aim, and the worst with its reasons."""
    for name in dict.fromkeys(row["kernel"] for row in rows):
        own = [row for row in rows if row["kernel"] == name and row["counts"]]
        if not own:
            print(f"{name}: no shape has a bound of {FILLS} fill latencies")
            continue
        worst = min(own, key=lambda row: row["of_bound"])
        medians = ", ".join(
            f"{statistics.median(row[key] for row in own):.1%}" for key in ("of_bound", "of_reachable", "of_roof")
        )
        met = sum(row["meets_aim"] for row in own), sum(row["meets_aim_of_reachable"] for row in own)
        print(
            f"{name}: {met[0]} of {len(own)} meet {aim:.0%}, {met[1]} of what is reachable; medians {medians}; "
            f"worst {worst['of_bound']:.1%} at {_shapes_text(worst)}: {worst['went']}"
        )


def _shapes_text(row: dict[str, Any]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in row["shapes"].values())


def search_family(name: str, cases: Sequence[Case], aim: float, chip: NpuConfig, tiles: int) -> dict[str, Any]:
    """The tiles taken against the best ones found, launch by launch, and both against the highest bound of a unit."""
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    print(
        f"\n{name} on {chip.name}: aim {aim:.0%} of the best tile found; at most {tiles} tiles a launch are simulated"
    )
    print(
        f"{'sizes':26} {'launch':6} {'cycles':>9} {'best':>9} {'reached':>8} {'tried':>5} {'of':>5} {'bound':>9} {'by':9} "
        f"taken -> best; where core cycles went"
    )
    rows = []
    for case in cases:
        launches = search(case, chip, isa, tiles)
        for each in launches:
            bound, cycles = each.run.bound
            rest = f"{each.taken} -> {each.best}" if each.best != each.taken else each.taken
            print(
                f"{case.sizes:26} {each.name:6} {each.cycles:9,} {each.best_cycles:9,} {each.reached:8.1%} {each.tried:5} "
                f"{each.space:5} {float(cycles):9,.0f} {bound:9} {rest}; {reasons([each.run])}",
                flush=True,
            )
        rows.append(_searched_row(case, launches, aim))
    met = sum(row["meets_aim"] for row in rows)
    worst = min(rows, key=lambda row: row["reached"])
    middle = statistics.median(row["reached"] for row in rows)
    print(
        f"{name}: {met} of {len(rows)} within {aim:.0%} of the best found; median {middle:.1%}, "
        f"worst {worst['reached']:.1%} at {_shapes_text(worst)}"
    )
    return {"aim": aim, "tiles": tiles, "rows": rows}


def _searched_row(case: Case, launches: Sequence[Searched], aim: float) -> dict[str, Any]:
    """All launches of a case together."""
    reached = sum(each.best_cycles for each in launches) / sum(each.cycles for each in launches)
    return {
        "kernel": case.kernel.name,
        "shapes": {name: list(shape) for name, shape in case.shapes.items()},
        "reached": reached,
        "meets_aim": reached >= aim,
        "launches": [
            {
                "name": each.name,
                "tile": each.taken,
                "cycles": each.cycles,
                "best_tile": each.best,
                "best_cycles": each.best_cycles,
                "tried": each.tried,
                "tiles": each.space,
                "bounds": {name: float(cycles) for name, cycles in each.run.bounds.items()},
                "went": reasons([each.run], most=5),
            }
            for each in launches
        ],
    }


def launch_family(cases: Sequence[Case], chip: NpuConfig) -> dict[str, Any]:
    """Small kernels: time in the cores beside that of the host's launch."""
    host, start = float(chip.host.launch_us), float(chip.host.start_latency_us)
    print(f"\nlaunch-bound on {chip.name}: a launch costs the host {host:g} us, and starts {start:g} us later")
    print(
        f"{'kernel':12} {'sizes':24} {'cycles':>8} {'core us':>8} {'alone us':>9} {'host share':>10} {'in a stream us':>14}"
    )
    rows = []
    for case in cases:
        found = measure(case, chip)
        launches = len(found.runs)
        steady = max(launches * host, found.core_us)
        share = 1 - found.core_us / found.stream_us
        print(
            f"{case.kernel.name:12} {case.sizes:24} {found.cycles:8,} {found.core_us:8.2f} {found.stream_us:9.2f} "
            f"{share:10.1%} {steady:14.2f}{' by the host' if steady > found.core_us else ''}"
        )
        rows.append({**_row(found), "core_us": found.core_us, "alone_us": found.stream_us, "in_a_stream_us": steady})
    return {"launch_us": host, "start_latency_us": start, "rows": rows}


if __name__ == "__main__":
    main()
