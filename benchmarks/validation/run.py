"""Simulated against measured: every row of benchmarks/validation/rows on the chip that it was measured on.

    python benchmarks/validation/run.py [--family F] [--chip C] [--row ID] [--json FILE] [--check] [--uncertainty]

docs/validation.md says what is validated and how, docs/decisions/0033-validation-split.md which rows may be fitted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.validation.rows import Row, load_rows  # noqa: E402
from benchmarks.validation.simulation import ENGINES, Outcome, band_of, default_engine, simulate_row  # noqa: E402
from benchmarks.validation.tables import exclusions, missed_aims, report  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen rows and print the tables; 1 when `--check` is given and an aim is missed."""
    options = _options(arguments)
    rows = [row for row in load_rows() if _chosen(row, options)]
    outcomes = []
    for row in rows:
        if row.kind != "excluded":
            start = time.perf_counter()
            outcome = simulate_row(row, options.engine, options.set)
            if options.uncertainty:
                outcome = replace(outcome, band=band_of(row, options.engine, options.uncertainty, options.set))
            outcomes.append(outcome)
            print(f"{row.id}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    for line in report(outcomes):
        print(line)
    if not options.row:
        for line in exclusions(rows):
            print(line)
    if options.json is not None:
        options.json.write_text(json.dumps([_as_json(each) for each in outcomes], indent=1) + "\n")
    missed = missed_aims(outcomes)
    for line in missed:
        print(f"missed: {line}")
    return 1 if options.check and missed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", action="append", help="only rows of a file of rows/, by its name")
    parser.add_argument("--chip", action="append", help="only rows measured on this chip")
    parser.add_argument("--row", action="append", help="only this row")
    parser.add_argument("--kind", action="append", choices=["fitted", "held_out", "B"], help="only these rows")
    parser.add_argument("--engine", choices=ENGINES, default=default_engine())
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="another value of the chips")
    parser.add_argument(
        "--uncertainty", type=int, nargs="?", const=20, metavar="SAMPLES", help="p5 to p95 over the chips' error bars"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true", help="exit with 1 when an aim is missed")
    return parser.parse_args(arguments)


def _chosen(row: Row, options: argparse.Namespace) -> bool:
    return (
        (not options.family or row.family in options.family)
        and (not options.chip or row.chip in options.chip)
        and (not options.row or row.id in options.row)
        and (not options.kind or (row.set or row.kind) in options.kind)
    )


def _as_json(each: Outcome) -> dict[str, object]:
    row = each.row
    return {
        "id": row.id, "family": row.family, "chip": row.chip, "variant": row.variant, "class": row.kind, "set": row.set,
        "compare": row.compare, "measured": row.value, "simulated": each.value, "error": each.error,
        "cycles": each.cycles, "pipes": dict(each.pipes), "l2_hit_percent": each.l2_hit_percent,
        "band": None if each.band is None else each.band.to_json(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
