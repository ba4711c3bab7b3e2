"""Random operator graphs x shapes x dtypes x chips against numpy, as many as wanted, in a run that can be taken up again.

    python benchmarks/property_cases.py [--cases 100000] [--first 0] [--processes 2] [--state build/property-cases.json]

Every seed is a kernel, five shapes of it are five cases on one chip (docs/reference/property-cases.md). With data; every
program passes the static verifier and runs under the hazard checker. Where torch can be imported, its values must fit too; the
report says whether they were asked for. After every block of seeds the state file holds how
far the run has come and what failed; the same command goes on from there. A failure does not end the run; the exit code
is 1 when there was one. `--seed N` runs that seed alone and shows the failure whole.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from tests.compiler.properties.random_run import SHAPES, run_seed  # noqa: E402
from tests.compiler.properties.torch_oracle import torch_version  # noqa: E402

BLOCK = 40
"""Seeds between two writes of the state."""


def main() -> int:
    """Run the cases; 1 when one of them failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--state", type=Path, default=Path("build/property-cases.json"))
    parser.add_argument("--seed", type=int, help="run this seed alone")
    options = parser.parse_args()
    if options.seed is not None:
        print(dict(run_seed(options.seed)))
        return 0
    state = _load(options.state, options.first)
    last = options.first - (-options.cases // SHAPES)
    begin = time.monotonic()
    print(f"oracles: {oracles()}")
    print(f"seeds {state['next']} to {last - 1}, of {options.first} to {last - 1}; state in {options.state}")
    with ProcessPoolExecutor(options.processes) as pool:
        while state["next"] < last:
            stop = min(state["next"] + BLOCK * options.processes, last)
            blocks = [range(at, min(at + BLOCK, stop)) for at in range(state["next"], stop, BLOCK)]
            for counts, failures in pool.map(run_block, blocks):
                state["counts"] = dict(Counter(state["counts"]) + Counter(counts))
                state["failures"] += failures
                for failure in failures:
                    print(f"FAILED {failure['message'].splitlines()[0]}", flush=True)
            state["next"] = stop
            _save(options.state, state)
            seconds = time.monotonic() - begin
            cases = state["counts"].get("cases", 0)
            print(
                f"up to seed {stop - 1}: {cases} cases, {len(state['failures'])} failures, {seconds:.0f} s", flush=True
            )
    total = ", ".join(f"{name} {count:,}" for name, count in sorted(state["counts"].items()))
    print(f"{total}; failed seeds: {', '.join(str(each['seed']) for each in state['failures']) or 'none'}")
    return 1 if state["failures"] else 0


def oracles() -> str:
    """What results are compared with, by name and version."""
    torch = torch_version()
    return f"numpy {np.__version__}, " + (f"torch {torch}" if torch else "no torch: it is not installed")


def run_block(seeds: range) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Counts of the seeds that passed, and what the others said."""
    counts: Counter[str] = Counter()
    failures = []
    for seed in seeds:
        try:
            counts += run_seed(seed)
        except Exception as exc:  # noqa: BLE001 - whatever goes wrong is a finding, and the next seed is to run
            failures.append({"seed": seed, "kind": type(exc).__name__, "message": str(exc) or repr(exc)})
    return dict(counts), failures


def _load(path: Path, first: int) -> dict[str, Any]:
    """The state of an earlier run that began at the same seed, or a new one."""
    if path.exists():
        state: dict[str, Any] = json.loads(path.read_text())
        if state["first"] != first:
            raise SystemExit(f"{path} began at seed {state['first']}; give --first {state['first']} or another --state")
        return state
    return {"first": first, "next": first, "counts": {}, "failures": []}


def _save(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all, so that an interrupted run can be taken up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(state, indent=1) + "\n")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
