"""The same computations compiled by torch.compile (Inductor, CPU), in a process of its own with an empty cache."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Inductor", "compare"]

_WORKER = Path(__file__).with_name("inductor_worker.py")


@dataclass(frozen=True)
class Inductor:
    """Measures `shapes` new static shapes of each computation."""

    shapes: int

    def run(self, names: Sequence[str]) -> dict[str, Any] | None:
        """CPU seconds by computation; None where torch is not installed."""
        if importlib.util.find_spec("torch") is None:
            return None
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, str(_WORKER), str(self.shapes), *names],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def compare(results: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Print Inductor's seconds, and the ratios of a new shape in a warm process."""
    print(f"\nInductor (torch {results['torch']}), CPU seconds with its C++ compiler")
    print(f"{'kernel':18} {'one more':>9} {'dynamic':>8} {'new shape':>10} {'most':>7}")
    for name, row in results["kernels"].items():
        new = row["new"]
        print(f"{name:18} {row['first']:9.2f} {row['dynamic']:8.2f} {statistics.median(new):10.2f} {max(new):7.2f}")
    theirs = [second for row in results["kernels"].values() for second in row["new"]]
    middle = statistics.median(theirs), statistics.median(row["new"] for row in rows) / 1e6
    most = max(theirs), max(row["new_most"] for row in rows) / 1e6
    orders = {"median": math.log10(middle[0] / middle[1]), "maximum": math.log10(most[0] / most[1])}
    print(f"\nfirst ever, in a new process: {results['first_ever']:.2f} s")
    print(f"new shape, warm process, medians: {middle[0]:.2f} s / {middle[1] * 1e6:.0f} us = 10^{orders['median']:.2f}")
    print(f"new shape, warm process, maxima: {most[0]:.2f} s / {most[1] * 1e6:.0f} us = 10^{orders['maximum']:.2f}")
    return {**results, "orders_of_magnitude": orders}
