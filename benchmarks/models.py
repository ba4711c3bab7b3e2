"""What ONNX models with unknown sizes cost on a chip, each read once and run at many sizes, beside onnxruntime's outputs.

    python benchmarks/models.py [--model NAME ...] [--small] [--timing-only] [--shapes N] [--steps N] [--chip C] [--json FILE]

The models are those of `benchmarks/zoo`. A model is read once, in one session; its first sizes come again at the end, when all
their programs are known. GPT-2 then decodes tokens with a cache that grows by one at every step, a new shape each time.

Launches, cycles and simulated us are of the chip; with "+ transfers" inputs and outputs on their way are in the us. The
difference is the largest to onnxruntime over all outputs, as a part of the output's largest magnitude. Measured on this host
are: s to import; us to compile for sizes that are new, to verify programs that are new, and of all else but simulation and
operators of the host; s of all together, onnxruntime included.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.zoo.measure import Row, Run, decode, measure  # noqa: E402
from benchmarks.zoo.models import MODELS  # noqa: E402

_PROMPT = 16

_COLUMNS = (
    f"  {'sizes':<20} {'launches':>8} {'cycles':>11} {'simulated us':>12} {'+ transfers':>11} {'difference':>10} "
    f"{'compile us':>10} {'verify us':>9} {'other us':>8} {'host s':>7}"
)


def main() -> None:
    """Run, print each row as it comes, write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", action="append", choices=sorted(MODELS), help="may be repeated; without it all of them"
    )
    parser.add_argument("--small", action="store_true", help="the narrow configurations that tests use")
    parser.add_argument("--timing-only", action="store_true", help="no data, so no difference and no decoding")
    parser.add_argument("--shapes", type=int, help="only the first of a model's sizes")
    parser.add_argument("--steps", type=int, default=32, help="tokens that GPT-2 decodes; 0 for none")
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs: list[Run] = []
    for name in options.model or MODELS:
        model = MODELS[name]
        variant = model.small if options.small else model.full
        shapes = variant.shapes[: options.shapes]
        runs.append(_show(measure(name, variant, shapes, options.chip, timing_only=options.timing_only)))
        if name == "gpt2" and options.steps and not options.timing_only:
            runs.append(_show(decode(variant, options.chip, prompt=_PROMPT, steps=options.steps)))
    if options.json is not None:
        report = {"chip": options.chip, "small": options.small, "models": [asdict(run) for run in runs]}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _show(states: Iterable[Run]) -> Run:
    """Print a run while it grows."""
    run = None
    for run in states:
        if not run.rows:
            print(f"{run.name}: {run.nodes} operators, imported in {run.import_seconds:.2f} s, {_hosts(run)}")
            print(_COLUMNS)
        else:
            print(_line(run.rows[-1]), flush=True)
    assert run is not None
    first, *others = run.rows
    print(f"  first sizes: us to compile: {first.compile_us:.0f}, plans made once included")
    print(f"  {_span('new sizes: us to compile', (row.compile_us for row in others if not row.known))}")
    print(
        f"  {_span('known sizes: us of all but simulation', (row.overhead_us for row in others if row.known))}",
        flush=True,
    )
    return run


def _hosts(run: Run) -> str:
    return "no operator on the host" if not run.host_operators else "on the host: " + "; ".join(run.host_operators)


def _line(row: Row) -> str:
    sizes = "x".join(map(str, row.sizes.values())) + ("" if not row.known else " known")
    difference = "-" if row.difference is None else f"{row.difference:.1e}"
    line = (
        f"  {sizes:<20} {row.launches:>8} {row.cycles:>11} {row.simulated_us:>12.1f} "
        f"{row.with_transfers_us:>11.1f} {difference:>10} "
        f"{row.compile_us:>10.0f} {row.verify_us:>9.0f} {row.overhead_us:>8.0f} {row.seconds:>7.2f}"
    )
    return line if not row.reread else f"{line}  read again: {row.reread}"


def _span(what: str, values: Iterator[float]) -> str:
    numbers = sorted(values)
    if not numbers:
        return f"{what}: none"
    return f"{what}: {numbers[0]:.0f} to {numbers[-1]:.0f}, median {numbers[len(numbers) // 2]:.0f}"


if __name__ == "__main__":
    main()
