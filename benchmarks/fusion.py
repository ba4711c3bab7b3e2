"""Simulated time of subgraphs of models without fusion, with fusion into programs, with stacking of launches, and with both.

    python benchmarks/fusion.py [--chip CHIP ...] [--case NAME ...] [--shapes small|medium|all] [--json FILE]
    python benchmarks/fusion.py --models NAME ... [--full] [--sizes N] [--chip CHIP ...] [--json FILE]

Without fusion each operator of the source is a kernel and a launch of its own (pin fusion = "none"): the same instruction set,
tile choice and templates; views cost nothing where strides express them. "pattern" lets operators share programs, "stack"
has the programs of "none" in one launch, "both" the programs of "pattern" in as few launches as pay.

"cycles" are those on the chip, with a host that costs nothing; "L2" and "HBM" are bytes of one call. "one us" ends when its
result is there, with `launch_us` of the chip for each launch and its `start_latency_us`; "each us" is the time from call to
call of ten in a row, where the host issues launches while the chip works (docs/timing-model.md, host). "x" is how many times
faster than without fusion. The first shape of a case is small, where launches count, the second is medium.

With --models it is models of benchmarks/zoo, in their small configuration or the full one, at their first sizes. A session
waits for the result of each call, so "each us" is a second call, which finds in L2 what the first has left.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.fusing.models import measure_model  # noqa: E402
from benchmarks.fusing.modes import CALLS, Timed, measure  # noqa: E402
from benchmarks.fusing.subgraphs import CASES  # noqa: E402
from benchmarks.zoo.models import MODELS  # noqa: E402

from npuvm.compiler.language.pins import FUSIONS  # noqa: E402
from npuvm.hw.config import load_chip  # noqa: E402

SIZES = ("small", "medium")
TIMES = {"each_us": "call to call with host", "one_us": "one call with host", "cycles": "chip alone"}


def main() -> None:
    """Measure case by case, print the table and its summary, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", nargs="+", default=["ascend_910b1"])
    parser.add_argument("--case", nargs="+", choices=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--shapes", choices=(*SIZES, "all"), default="all")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--full", action="store_true", help="models in their full configuration")
    parser.add_argument("--sizes", type=int, default=2, metavar="N", help="how many sizes of each model")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.chip:
        chip = load_chip(name)
        host = f"launch_us {float(chip.host.launch_us):g}, start_latency_us {float(chip.host.start_latency_us):g}"
        print(f"{name}: {host}")
        print(
            f"{'':58} {'launches':>8} {'cycles':>10} {'x':>6} "
            f"{'L2 KiB':>9} {'HBM KiB':>9} {'one us':>9} {'each us':>9} {'x':>6}"
        )
        if options.models:
            for model in options.models:
                for sizes, found in measure_model(model, chip, small=not options.full, shapes=options.sizes):
                    rows += _rows(name, model, "model", sizes, found)
                    _print(model, sizes, found)
        else:
            for case in (CASES[each] for each in options.case or CASES):
                for at, label in enumerate(SIZES):
                    if options.shapes in (label, "all"):
                        found = measure(case, at, chip)
                        rows += _rows(name, case.name, label, case.sizes[at], found)
                        _print(case.name, case.sizes[at], found)
        for label in (*SIZES, "model"):
            _summary([row for row in rows if row["chip"] == name and row["shape"] == label], label)
    if options.json is not None:
        options.json.write_text(json.dumps({"calls": CALLS, "rows": rows}, indent=1) + "\n")


def _rows(chip: str, case: str, label: str, sizes: Mapping[str, int], found: dict[str, Timed]) -> list[dict[str, Any]]:
    where = {"chip": chip, "case": case, "shape": label, "sizes": dict(sizes)}
    return [{**where, "fusion": mode, **timed._asdict()} for mode, timed in found.items()]


def _print(name: str, sizes: Mapping[str, int], found: dict[str, Timed]) -> None:
    base = found["none"]
    shape = " ".join(f"{key}={value}" for key, value in sizes.items())
    for mode, timed in found.items():
        text = f"{name} {shape}" if mode == "none" else ""
        gains = base.cycles / timed.cycles, base.each_us / timed.each_us
        memory = f"{timed.l2_bytes / 1024:9.0f} {timed.hbm_bytes / 1024:9.0f}"
        times = f"{timed.one_us:9.2f} {timed.each_us:9.2f} {gains[1]:6.2f}"
        print(f"{text:50} {mode:7} {timed.launches:8} {timed.cycles:10,} {gains[0]:6.2f} {memory} {times}", flush=True)


def _summary(rows: Sequence[dict[str, Any]], label: str) -> None:
    """How many times faster the modes are than none, over all cases of a shape."""
    if not rows:
        return
    print(
        f"\n{label} shapes, {len(rows) // len(FUSIONS)} cases: times faster than without fusion, geometric mean and best"
    )
    base = {_of(row): row for row in rows if row["fusion"] == "none"}
    for mode in FUSIONS[1:]:
        texts = []
        for key, told in TIMES.items():
            gains = [base[_of(row)][key] / row[key] for row in rows if row["fusion"] == mode]
            mean = math.exp(math.fsum(map(math.log, gains)) / len(gains))
            texts.append(f"{told} {mean:5.2f} {max(gains):6.2f}")
        print(f"  {mode:8} {'   '.join(texts)}")


def _of(row: dict[str, Any]) -> tuple[object, ...]:
    return row["case"], *row["sizes"].items()


if __name__ == "__main__":
    main()
