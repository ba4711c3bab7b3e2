"""Speed of the timing engines: the compiled one on numba and in plain Python, and the simpy model, in the same run.

    python benchmarks/engine_speed.py [--chip ascend_910b1] [--repeat 3] [--size 8192] [--json FILE]

Two programs on eight cores. *local*: instructions of three units that wait for each other and never touch memory; figure:
instructions per second. *requests*: a product whose operands stream from memory in requests of `core.load.chunk_bytes`, each
looked up in L2 and arbitrated between all cores; figure: requests per second. Times are CPU times, for the machine may be
shared: "kernel" is that within the engine's loops, "whole" that of all of `simulate`, from the image to the report, so that
expansion of loops and statistics are in it. Then the local program at sizes ten times apart, whose cost per instruction must
not grow, and a matrix product of --size cubed in fp16 as the compiler makes it for all cores. What compiling the kernels takes
shows in the first launch of a process with an empty cache, beside one that finds it filled.

Figures of other simulators, quoted from their papers and not measured here, on other machines and other work: ONNXim, 72,000
simulated cycles per CPU second; PTO Perf-Sim, 0.15 to 0.2 million instructions per second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from npuvm.compiler import KernelBuilder, ParamRef, kernel
from npuvm.compiler.program.kinds import compile_kernel
from npuvm.hw.compiled import Backend, backend_of
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.errors import DeviceError
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import l2_state, simulate
from npuvm.isa import Image, Isa, assemble, load_isa

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.simulator_speed import cube_program  # noqa: E402

CORES = 8

QUOTED = {
    "ONNXim": "72,000 simulated cycles per CPU second",
    "PTO Perf-Sim": "0.15 to 0.2 million instructions per second",
}

_LOCAL = """
.args 0
{entries}
main:
szc size=s0 full=4
szc size=s1 full=16
szc size=s2 full={outer}
szc size=s3 full=100
desc desc=d0 space=l1 base=0 pitch=32
desc desc=d1 space=l0a base=0 pitch=32
desc desc=d2 space=l0b base=0 pitch=32
desc desc=d3 space=l0c base=0 pitch=64
sem sem=m0 value=0
sem sem=m1 value=2
sem sem=m2 value=0
sem sem=m3 value=2
loop loop=l0 trip=s2
  loop loop=l1 trip=s3
    mvl0a.fp16 dst=d1 src=d0 rows=s0 cols=s1 | wait m1
    mvl0b.fp16 dst=d2 src=d0 rows=s0 cols=s1 | set m0
    mma.fp16 dst=d3 a=d1 b=d2 m=s0 n=s1 k=s1 | wait m0
    mma.fp16 dst=d3 a=d1 b=d2 m=s0 n=s1 k=s1 | wait m3 set m1 m2
    usync unit=fixpipe | wait m2 set m3
  endloop
endloop
halt
"""
"""Five instructions an iteration: two moves, two products, and the fixpipe that only signals."""


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    """a @ b."""
    k.store(k.matmul(k.load(a), k.load(b)))


@dataclass
class Timing:
    """CPU seconds of a run, in all and in the kernels, its wall seconds, and what it did."""

    whole: float
    kernel: float
    wall: float
    result: RunResult


class Bench:
    """A chip and the engines to run on it, by name."""

    def __init__(self, chip: NpuConfig, isa: Isa, repeat: int) -> None:
        self.chip = chip
        self.isa = isa
        self.repeat = repeat
        self._inside = 0.0
        self.engines: dict[str, Any] = {"simpy": "simpy", "compiled, plain Python": self._timed(backend_of("python"))}
        try:
            self.engines["compiled, numba"] = self._timed(backend_of("numba"))
        except DeviceError as exc:
            print(f"without numba: {exc}")

    def _timed(self, backend: Backend) -> Backend:
        """The backend with the time in its main kernel added up."""

        def run(*stores: Any) -> int:
            start = time.process_time()
            status = backend.run(*stores)
            self._inside += time.process_time() - start
            return status

        return replace(backend, run=run)

    def run(self, engine: str, image: Image, addresses: Sequence[int] = ()) -> Timing:
        """The run of median CPU time."""
        runs = []
        for _ in range(self.repeat):
            self._inside = 0.0
            wall, cpu, l2 = time.perf_counter(), time.process_time(), l2_state(self.chip)
            result = simulate(
                self.chip, self.isa, image, addresses=addresses, data=False, l2=l2, engine=self.engines[engine]
            )
            cpu = time.process_time() - cpu
            runs.append(Timing(cpu, self._inside, time.perf_counter() - wall, result))
        return sorted(runs, key=lambda timing: timing.whole)[len(runs) // 2]

    def local(self, instructions: int) -> Image:
        """The program that never touches memory, of about so many instructions on all cores."""
        kind = self.chip.core_type_with("cube")
        order = [core for core in self.chip.core_types() if core == kind][:CORES]
        entries = "\n".join(f".entry {core} main" for core in order)
        outer = max(1, instructions // len(order) // 500)
        return assemble(self.isa, _LOCAL.format(entries=entries, outer=outer), "local")

    def requests(self, instructions: int) -> Image:
        """The program that streams from memory."""
        return cube_program(self.isa, self.chip.core_type_with("cube"), CORES, max(1, instructions // CORES // 43))


def main() -> None:
    """Measure everything, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--size", type=int, default=8192, help="of the matrix product; 0 leaves it out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bench = Bench(load_chip(options.chip), load_isa(), options.repeat)
    found: dict[str, Any] = {"chip": options.chip, "python": platform.python_version(), "quoted": QUOTED}
    found["compile"] = compile_seconds() if "compiled, numba" in bench.engines else None
    found["speed"] = speeds(bench)
    found["steps"] = steps(bench)
    found["product"] = big_product(bench, options.size) if options.size else None
    for name, text in QUOTED.items():
        print(f"quoted, other machine and work: {name}: {text}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def speeds(bench: Bench) -> list[dict[str, Any]]:
    """Both programs on every engine; the numba ones are long enough for the clock."""
    rows = []
    print(f"{bench.chip.name}, {CORES} cores, CPU time, medians of {bench.repeat}")
    print(f"{'program and engine':40} {'kernel/s':>14} {'whole/s':>14}   mix")
    for program, unit, make in (("local", "instructions", bench.local), ("requests", "requests", bench.requests)):
        for engine in bench.engines:
            instructions = (1_000_000 if program == "local" else 100_000) if "numba" in engine else 20_000
            image = make(instructions)
            if "numba" in engine:
                bench.run(engine, make(100))
            timing = bench.run(engine, image)
            result = timing.result
            count = result.instructions if program == "local" else result.requests
            inside = count / timing.kernel if timing.kernel else None
            mix = ", ".join(f"{n:,} {name}" for name, n in result.by_unit.items())
            mix += f"; {result.requests:,} requests, {result.bytes['l2']:,} bytes from L2"
            shown = f"{inside:14,.0f}" if inside else f"{'':14}"
            print(f"{program + ', ' + engine:40} {shown} {count / timing.whole:14,.0f}   {unit}: {mix}")
            rows.append({"program": program, "engine": engine, "unit": unit, "count": count, "mix": mix,
                         "kernel_seconds": timing.kernel, "whole_seconds": timing.whole, "cycles": result.cycles})  # fmt: skip
    return rows


def steps(bench: Bench) -> list[dict[str, Any]]:
    """The local program at sizes ten times apart."""
    rows = []
    print(f"{'steps of ten, local':40} {'instructions':>14} {'us each':>14}")
    for engine, sizes in (("simpy", (4_000, 40_000)), ("compiled, numba", (40_000, 400_000, 4_000_000))):
        for size in sizes if engine in bench.engines else ():
            timing = bench.run(engine, bench.local(size))
            each = timing.whole / timing.result.instructions
            print(f"{engine:40} {timing.result.instructions:14,} {each * 1e6:14.3f}")
            rows.append({"engine": engine, "instructions": timing.result.instructions, "seconds_each": each})
    return rows


def big_product(bench: Bench, size: int) -> dict[str, Any]:
    """A matrix product as the compiler makes it, on the fastest engine; one launch, L2 empty at first."""
    engine = list(bench.engines)[-1]
    compiled = compile_kernel(product, {"a": (size, size), "b": (size, size)}, bench.chip, bench.isa)
    addresses, free = {}, 1 << 12
    for tensor in compiled.tensors:
        addresses[tensor.name], free = free, free + -(-tensor.nbytes // 4096) * 4096
    launch = compiled.launches[0]
    timing = bench.run(engine, launch.image, [addresses[name] for name in launch.args])
    result = timing.result
    print(
        f"{size}^3 fp16 on {len(result.cores)} cores, {engine}: {timing.wall:.2f} s wall, {timing.whole:.2f} s CPU, of it "
        f"{timing.kernel:.2f} s in the kernel; {result.cycles:,} cycles, {result.instructions:,} instructions, "
        f"{result.requests:,} requests, {result.cycles / timing.whole:,.0f} cycles per CPU second"
    )
    return {"size": size, "engine": engine, "wall_seconds": timing.wall, "cpu_seconds": timing.whole,
            "kernel_seconds": timing.kernel, "cycles": result.cycles, "instructions": result.instructions,
            "requests": result.requests, "cores": len(result.cores)}  # fmt: skip


_FIRST = """
import time
from npuvm.hw.compiled import backend_of
from npuvm.hw.config import load_chip
from npuvm.hw.simulator import simulate
from npuvm.isa import assemble, load_isa
isa, chip = load_isa(), load_chip("edge")
image = assemble(isa, ".args 0\\n.entry unified main\\nmain:\\nhalt\\n", "empty")
start = time.process_time()
simulate(chip, isa, image, data=False, engine=backend_of("numba"))
print(time.process_time() - start)
"""


def compile_seconds() -> dict[str, float]:
    """CPU seconds of the first launch of a process with an empty cache, and of one that finds the kernels there."""

    def first(folder: str) -> float:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", _FIRST], env=environment, capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    with tempfile.TemporaryDirectory() as folder:
        empty = first(folder)
        cached = statistics.median(first(folder) for _ in range(3))
    print(f"first launch of a process: {empty:.1f} s CPU with an empty cache, {cached:.2f} s with the kernels in it")
    return {"empty_cache": empty, "cached": cached}


if __name__ == "__main__":
    main()
