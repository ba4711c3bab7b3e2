"""How near the fuser comes to the best fusion that an exhaustive search by simulation finds.

    python benchmarks/fusion_oracle.py [--chip CHIP] [--case NAME ...] [--shapes small|medium|all] [--most N] [--json FILE]

For each subgraph of `benchmarks/fusing` with at most 8 operators all partitions into connected groups that do not wait for each
other in a circle are compared, up to `--most` (a case with more says so). Each group is compiled as a kernel of its own and
simulated in time only; the partitions with the lowest sums are simulated again, group behind group, where L2 is as the call
of all groups before left it. A group without a program of its own is not legal. "us" is the
time of one call with the chip's `launch_us` for each launch and its `start_latency_us`; "cycles" has no time of the host. The
compiler's choice is that of pin fusion = "pattern", and for "cycles" what it takes where launches cost the host nothing. "of
best" is the best time by its own; its own is one of those compared, as it may lay values out better than groups apart do.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.fusing.groups import Operators  # noqa: E402
from benchmarks.fusing.oracle import Searched, search  # noqa: E402
from benchmarks.fusing.subgraphs import CASES  # noqa: E402

from npuvm.hw.config import load_chip  # noqa: E402

SIZES = ("small", "medium")
MOST_OPERATORS = 8


def main() -> None:
    """Search case by case, print the table and the geometric means, write the JSON."""
    small = [name for name, case in CASES.items() if len(Operators(case.kernel).all) <= MOST_OPERATORS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--case", nargs="+", choices=small, metavar="NAME", help=", ".join(small))
    parser.add_argument("--shapes", choices=(*SIZES, "all"), default="all")
    parser.add_argument("--most", type=int, default=5000, help="partitions that are compared at most")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chip = load_chip(options.chip)
    rows: list[dict[str, Any]] = []
    print(f"{options.chip}: {'one call, us':>54} {'chip alone, cycles':>44}")
    columns = f"{'operators':>9} {'partitions':>10} {'unfused':>9} {'chosen':>9} {'best':>9} {'of best':>7}"
    print(f"{'':26} {columns} {'unfused':>9} {'chosen':>9} {'best':>9} {'of best':>7}")
    for name in options.case or small:
        for at, label in enumerate(SIZES):
            if options.shapes in (label, "all"):
                found = search(CASES[name], at, chip, options.most)
                rows.append({"case": name, "shape": label, "sizes": dict(CASES[name].sizes[at]), **_row(found)})
                _print(name, label, found)
    for label in SIZES:
        own = [row for row in rows if row["shape"] == label]
        if own:
            us, cycles = (_mean([row[key] for row in own]) for key in ("us_of_best", "cycles_of_best"))
            print(f"{label}, {len(own)} cases: of best, geometric mean: us {us:.3f}, cycles {cycles:.3f}")
    if options.json is not None:
        options.json.write_text(json.dumps({"chip": options.chip, "rows": rows}, indent=1) + "\n")


def _row(found: Searched) -> dict[str, Any]:
    return {
        **found._asdict(),
        "us_of_best": found.best_us.one_us / found.chosen.one_us,
        "cycles_of_best": found.best_cycles.total / found.chosen_free.total,
    }


def _print(name: str, label: str, found: Searched) -> None:
    row = _row(found)
    us = [each.one_us for each in (found.unfused, found.chosen, found.best_us)]
    cycles = [each.total for each in (found.unfused, found.chosen_free, found.best_cycles)]
    more = "" if found.exhaustive else "+"
    print(
        f"{name:19} {label:6} {found.operators:9} {f'{found.partitions}{more}':>10} "
        f"{' '.join(f'{each:9.2f}' for each in us)} {row['us_of_best']:7.3f} "
        f"{' '.join(f'{each:9,}' for each in cycles)} {row['cycles_of_best']:7.3f}",
        flush=True,
    )


def _mean(values: list[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main()
