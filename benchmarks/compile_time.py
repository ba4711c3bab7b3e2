"""Host time to compile kernels: a new graph, a new shape, a known shape, new addresses; and what TorchInductor takes.

    python benchmarks/compile_time.py [--chip ascend_910b1] [--shapes 1000] [--kernel NAME]... [--native]
        [--no-collector] [--inductor N] [--json FILE]

Twenty kernels from one operator to attention, each over random shapes whose sizes are spread evenly over their logarithms from
1 up (so sizes 1 to 8 are common). All times are CPU time of one process, in which nothing else runs.

- new graph: `compile_kernel` of a graph traced anew, in a process that has compiled other graphs: plan and first instance. The
  median of five of each kernel; the JSON has the slowest too, which is the first and makes tables for all of its sort.
- new shape: `compile_kernel` of a planned graph for shapes that it has not seen. Nothing is made ready for particular shapes;
  the first shape that needs another buffer plan pays for it, and is in the maximum.
- known shape: `compile_kernel` for shapes seen before.
- new addresses: the words of all launches of a kernel, relocated to other tensors.

The cycle collector is on; what lived before a series is frozen (`gc.freeze`), as a serving process does. Kernels that the
compiler keeps no longer, those of 512 shapes ago, are dropped. The slowest new shape stands there twice: as it was, and the
slowest when the collector's own time is taken out of each; it takes 0.4 to 2.6 ms every 7,700 containers. With `--no-collector`
it is off while new shapes are compiled, as in a process that may not wait for it: they leave no reference cycles.

With `--native` choices are made by machine code (`npuvm.compiler.load_native`), as in a process that compiles all the time.

With `--inductor N` and torch installed, `torch.compile` (Inductor, CPU) compiles the same computations in another process with
an empty cache: the first ever, one more operator, and N new static shapes of each; its CPU time includes its C++ compiler's. A
new shape in a warm process is compared with a new shape here, medians and maxima over all kernels; the first ever stands apart.
With `dynamic=True` Inductor compiles once for all sizes above 1; that is the column "dynamic".
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.compiling.inductor import Inductor, compare  # noqa: E402
from benchmarks.compiling.kernels import KERNELS, Shapes, Subject, draw  # noqa: E402

from npuvm.compiler import CompiledKernel, Kernel, compile_kernel, load_native  # noqa: E402
from npuvm.compiler.program.compiled import Launch  # noqa: E402
from npuvm.hw.config import NpuConfig, load_chip  # noqa: E402
from npuvm.isa import Isa, load_isa  # noqa: E402

GRAPHS = 5
"""Graphs made anew of each kernel."""

AGAIN = 200
"""Shapes that are compiled again and relocated."""

AIMS = {"graph": 10_000, "new": 100, "most": 1000, "known": 5, "moved": 10}
"""Microseconds that are aimed at."""


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--shapes", type=int, default=1000, help="new shapes of each kernel")
    parser.add_argument("--kernel", action="append", choices=[each.name for each in KERNELS], help="only these")
    parser.add_argument(
        "--inductor", type=int, metavar="N", help="compare with torch.compile over N static shapes each"
    )
    parser.add_argument("--native", action="store_true", help="let machine code make choices (needs npuvm[fast])")
    parser.add_argument("--no-collector", action="store_true", help="turn the cycle collector off for new shapes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    native = load_native().label if options.native else None
    chip = load_chip(options.chip)
    isa = load_isa(chip.isa.base, chip.isa.extensions)
    subjects = [each for each in KERNELS if options.kernel is None or each.name in options.kernel]
    warm_up(chip, isa)
    rows = [measure(each, chip, isa, options.shapes, collected=not options.no_collector) for each in subjects]
    loop = spin()
    collector = ", no cycle collector" if options.no_collector else ""
    print_rows(rows, f"{options.chip}, choices by {native or 'Python'}{collector}", loop)
    found: dict[str, Any] = {
        "chip": options.chip,
        "isa": isa.hash,
        "native": native,
        "collector": not options.no_collector,
        "empty_loop_ns": loop,
        "rows": rows,
    }
    if options.inductor is not None:
        found["inductor"] = inductor(subjects, rows, options.inductor)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def warm_up(chip: NpuConfig, isa: Isa) -> None:
    """Compile one kernel of each sort, so that a new graph finds the tables of the instruction set made."""
    source = random.Random(0)
    for subject in (KERNELS[0], KERNELS[-1]):
        compile_kernel(subject.make(), draw(subject, source), chip, isa)


def spin() -> float:
    """Nanoseconds of an empty loop's turn: how fast the machine was."""
    best = math.inf
    for _ in range(5):
        start = time.process_time_ns()
        for _ in range(200_000):
            pass
        best = min(best, (time.process_time_ns() - start) / 200_000)
    return best


def clocked(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU microseconds of a call, and its result."""
    start = time.process_time_ns()
    result = work()
    return (time.process_time_ns() - start) / 1000, result


def measure(subject: Subject, chip: NpuConfig, isa: Isa, count: int, *, collected: bool = True) -> dict[str, Any]:
    """Times of one kernel in microseconds; the cycle collector is on where new shapes are to be `collected`."""
    source = random.Random(subject.name)
    graphs = []
    made: Kernel | None = None
    for _ in range(GRAPHS):
        made = subject.make()
        shapes = draw(subject, source)
        graphs.append(clocked(partial(compile_kernel, made, shapes, chip, isa))[0])
    assert made is not None
    fresh = distinct(subject, source, count)
    gc.collect()
    gc.freeze()
    if not collected:
        gc.disable()
    new, own, launches, words = [], [], 0, 0
    kernels: deque[CompiledKernel] = deque(maxlen=AGAIN)
    with Collections() as collections:
        for shapes in fresh:
            collections.took = 0.0
            took, compiled = clocked(partial(compile_kernel, made, shapes, chip, isa))
            new.append(took)
            own.append(took - collections.took)
            kernels.append(compiled)
            launches = max(launches, len(compiled.launches))
            words = max(words, *(len(each.image.words) for each in compiled.launches), 0)
    gc.enable()
    gc.unfreeze()
    return {
        "kernel": subject.name,
        "operators": subject.operators,
        "launches": launches,
        "image_words": words,
        "graph": statistics.median(graphs),
        "graph_most": max(graphs),
        "new": statistics.median(new),
        "new_p99": sorted(new)[int(0.99 * len(new))],
        "new_most": max(new),
        "new_most_uncollected": max(own),
        "known": known(made, fresh[-AGAIN:], chip, isa),
        "moved": moved(kernels),
    }


class Collections:
    """CPU microseconds that the cycle collector `took` since they were last set to 0."""

    def __init__(self) -> None:
        self.took = 0.0
        self._start = 0

    def __enter__(self) -> Collections:
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._start = time.process_time_ns()
        else:
            self.took += (time.process_time_ns() - self._start) / 1000


def distinct(subject: Subject, source: random.Random, count: int) -> list[Shapes]:
    """Shapes that differ from each other."""
    found: dict[tuple[tuple[str, tuple[int, ...]], ...], Shapes] = {}
    for _ in range(20 * count):
        shapes = draw(subject, source)
        found[tuple(shapes.items())] = shapes
        if len(found) == count:
            break
    return list(found.values())


def known(kernel: Kernel, fresh: list[Shapes], chip: NpuConfig, isa: Isa) -> float:
    """A call for a shape that was compiled before; median over the shapes."""
    times = []
    for shapes in fresh:
        took, _ = clocked(partial(repeated, partial(compile_kernel, kernel, shapes, chip, isa), 10))
        times.append(took / 10)
    return statistics.median(times)


def repeated(call: Callable[[], object], times: int) -> None:
    """Call so often."""
    for _ in range(times):
        call()


def relocated(pairs: list[tuple[Launch, tuple[int, ...]]]) -> None:
    """Relocate each launch."""
    for launch, where in pairs:
        launch.image.relocate(where)


def moved(kernels: Iterable[CompiledKernel]) -> float:
    """Relocating all launches of a kernel to other addresses; median."""
    times = []
    for kernel in kernels:
        places = [tuple(range(4096, 4096 * (each.image.n_args + 1), 4096)) for each in kernel.launches]
        if not places:
            continue
        pairs = list(zip(kernel.launches, places, strict=True))
        took, _ = clocked(partial(relocated, pairs))
        times.append(took)
    return statistics.median(times) if times else 0.0


def print_rows(rows: list[dict[str, Any]], what: str, loop: float) -> None:
    """The table, with what is aimed at."""
    print(f"{what}; CPU microseconds; an empty loop's turn took {loop:.0f} ns\n")
    columns = ("graph", "new", "new_p99", "new_most", "new_most_uncollected", "known", "moved")
    titles = ("new graph", "new shape", "99 %", "most", "no gc", "known", "moved")
    widths, digits = (9, 9, 7, 7, 7, 6, 6), (0, 0, 0, 0, 0, 1, 1)

    def line(values: Iterable[float | None]) -> str:
        cells = zip(values, widths, digits, strict=True)
        return " ".join([" " * width if each is None else f"{each:{width},.{after}f}" for each, width, after in cells])

    print(
        f"{'kernel':18} {'ops':>3} {'runs':>4} " + " ".join([f"{t:>{w}}" for t, w in zip(titles, widths, strict=True)])
    )
    for row in rows:
        print(f"{row['kernel']:18} {row['operators']:3} {row['launches']:4} {line([row[each] for each in columns])}")
    middle = {name: statistics.median(row[name] for row in rows) for name in ("graph", "new", "known", "moved")}
    most = {name: max(row[name] for row in rows) for name in ("new_most", "new_most_uncollected")}
    print(f"{'median of kernels':26} {line([(middle | most).get(each) for each in columns])}")
    aims = {"new_most": AIMS["most"], "new_most_uncollected": AIMS["most"]} | AIMS
    print(f"{'aim':26} {line([aims.get(each) for each in columns])}")


def inductor(subjects: list[Subject], rows: list[dict[str, Any]], shapes: int) -> dict[str, Any] | None:
    """Compile the same computations with torch.compile, print the comparison."""
    results = Inductor(shapes).run([each.name for each in subjects])
    if results is None:
        print("\nInductor: not measured, torch is not installed here (pip install torch==2.13.0)")
        return None
    return compare(results, rows)


if __name__ == "__main__":
    main()
