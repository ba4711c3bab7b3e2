"""The same matrix products and a convolution on scale-sim and here, on an equivalent array: cycles side by side.

    python benchmarks/scale_sim.py [--case gemm_256]... [--python PATH] [--json FILE]

scale-sim (PyPI, version and companions below; it fails with numpy 2) runs in an environment of its own, which is made under
build/ on the first call; `--python` names the interpreter of another one that has it.

The array is weight stationary, R x C multiply-adds. For one fold, R x C of the K x N weights, scale-sim charges R cycles to
load them, one for each of the M rows that stream through, and R + C - 2 to fill and drain: 2 R + C - 2 + M. Here the equivalent
is a cube of one row, C columns and R deep, one block a cycle, with `startup_cycles` = 2 R + C - 2, and an instruction a fold.
"compute" is what scale-sim calls total cycles (no stalls occurred in these runs) and here the busy cycles of the cube. They
agree but for the synchronising instructions in the cube's queue, one cycle each. "end to end" is scale-sim's total with
prefetch and here the cycles of the launch, and they differ for reasons that are of the models:

* scale-sim fills its operand buffers before the first cycle of the array; here loads, moves, products and the way out overlap;
* its buffers have an interface each with the same rate (`Bandwidth`), here all share one L2 and one HBM, of three times that;
* it ends with the last output in its buffer's trace; here the result goes through L0C and the fixpipe to global memory, and
  loads wait for the latency of memory;
* here the second operand of a fold goes through a buffer of its own (L0B) that takes cycles to fill, hidden behind the
  product before; scale-sim's array loads weights in the open, which the start-up above stands for.

A convolution goes to both as its matrix product (scale-sim does that itself, from the convolution's shape).
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from npuvm.compiler import Pins, kernel
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import ParamRef
from npuvm.hw.config import load_chip
from npuvm.runtime.device.device import Device

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / "build" / "scale-sim"
REQUIREMENTS = ("scalesim==3.0.0", "numpy<2", "pandas<2.3")
WORDS_PER_CYCLE = 32
"""Rate of each of scale-sim's three interfaces, in words of two bytes here."""

CONFIG = """\
[general]
run_name = run
[run_presets]
InterfaceBandwidth: USER
UseRamulatorTrace: False
[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {columns}
IfmapSramSzkB: 8192
FilterSramSzkB: 8192
OfmapSramSzkB: 8192
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Dataflow: ws
Bandwidth: {words}
ReadRequestBuffer: 512
WriteRequestBuffer: 512
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40
"""
LAYOUT_COLUMNS = 20
"""Columns of scale-sim's layout file, which it wants even where no layout is modelled; all are 1."""


@dataclass(frozen=True)
class Case:
    """A product of M x K by K x N on an array of `rows` x `columns`; `convolution` is the shape it comes from, if any.

    A convolution is (height, width, filter height, filter width, channels, filters, stride), padding included in the height.
    """

    name: str
    m: int
    n: int
    k: int
    rows: int
    columns: int
    convolution: tuple[int, ...] = ()


CASES = (
    Case("gemm_128", 128, 128, 128, 32, 32),
    Case("gemm_256", 256, 256, 256, 32, 32),
    Case("gemm_ragged", 100, 200, 300, 32, 32),
    Case("gemm_512", 512, 512, 512, 32, 32),
    Case("gemm_512_on_128", 512, 512, 512, 128, 128),
    Case("conv_56x56x64", 56 * 56, 64, 3 * 3 * 64, 32, 32, (58, 58, 3, 3, 64, 64, 1)),
)


@dataclass(frozen=True)
class Result:
    """Cycles of one simulator for a case, and the CPU seconds that it took on the host."""

    compute: int
    end_to_end: int
    cpu_seconds: float


@kernel(a="fp16[M, K]", b="fp16[K, N]")
def product(k: KernelBuilder, a: ParamRef, b: ParamRef) -> None:
    """The product that every case is."""
    k.store(k.matmul(k.load(a), k.load(b)))


def main() -> None:
    """Run the cases on both, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="one case; repeatable")
    parser.add_argument("--python", type=Path, help="interpreter of an environment that has scale-sim")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    python = options.python or environment()
    rows = []
    title = f"{'case':17}{'M x N x K':>16}{'array':>9}{'compute':>11}{'here':>9}{'diff':>8}"
    print(f"{', '.join(REQUIREMENTS)}, weight stationary, {WORDS_PER_CYCLE} words a cycle and interface; cycles")
    print(f"{title}{'end to end':>12}{'here':>9}{'CPU s':>8}{'here':>7}")
    for case in CASES:
        if options.case and case.name not in options.case:
            continue
        theirs, ours = run_scale_sim(python, case), run_here(case)
        rows.append({"case": asdict(case), "scale_sim": asdict(theirs), "npuvm": asdict(ours)})
        difference = ours.compute / theirs.compute - 1
        shape = f"{case.m} x {case.n} x {case.k}"
        left = f"{case.name:17}{shape:>16}{case.rows:>5}x{case.columns:<3}{theirs.compute:11,}{ours.compute:9,}"
        right = f"{theirs.end_to_end:12,}{ours.end_to_end:9,}{theirs.cpu_seconds:8.1f}{ours.cpu_seconds:7.2f}"
        print(f"{left}{difference:+8.2%}{right}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps({"scale_sim": REQUIREMENTS, "rows": rows}, indent=1) + "\n")


def environment() -> Path:
    """The interpreter of scale-sim's environment, which is made when it is not there."""
    python = ENVIRONMENT / "bin" / "python"
    if subprocess.run([python, "-c", "import scalesim"], capture_output=True).returncode if python.exists() else True:
        print(f"making {ENVIRONMENT.relative_to(ROOT)} with {', '.join(REQUIREMENTS)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return python


def run_scale_sim(python: Path, case: Case) -> Result:
    """What scale-sim reports for a case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = CONFIG.format(rows=case.rows, columns=case.columns, words=WORDS_PER_CYCLE)
        (folder / "array.cfg").write_text(config)
        if case.convolution:
            topology = ("layer,height,width,filter height,filter width,channels,filters,stride", case.convolution)
        else:
            topology = ("layer,M,N,K", (case.m, case.n, case.k))
        (folder / "topology.csv").write_text(f"{topology[0]},\nlayer0,{','.join(map(str, topology[1]))},\n")
        ones = ["1"] * LAYOUT_COLUMNS
        (folder / "layout.csv").write_text(f"layer,{','.join(ones)},\nlayer0,{','.join(ones)},\n")
        kind = "conv" if case.convolution else "gemm"
        files = ["-c", "array.cfg", "-t", "topology.csv", "-l", "layout.csv", "-p", "out"]
        command = [str(python), "-m", "scalesim.scale", *files, "-i", kind, "-s", "N"]
        before = _children_cpu()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        seconds = _children_cpu() - before
        report = folder / "out" / "run" / "COMPUTE_REPORT.csv"
        if done.returncode or not report.exists():
            raise SystemExit(f"scale-sim failed on {case.name}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
        with report.open() as lines:
            row = next(csv.DictReader(lines, skipinitialspace=True))
    if float(row["Stall Cycles"]):
        raise SystemExit(f"scale-sim stalls in {case.name}: its total is no longer the array's own time")
    return Result(int(float(row["Total Cycles"])), int(float(row["Total Cycles (incl. prefetch)"])), seconds)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def equivalent_array(case: Case) -> list[str]:
    """Overrides that make the chip `edge` the array of a case, with buffers and rates as scale-sim's; see above."""
    fold = 2 * case.rows + case.columns - 2
    rate = 2 * WORDS_PER_CYCLE
    clock = load_chip("edge").clock_ghz
    return [
        "core.cube.m=1",
        f"core.cube.n={case.columns}",
        f"core.cube.k_bytes={2 * case.rows}",
        f"core.cube.startup_cycles={fold}",
        *(f"core.{buffer}_kib=16384" for buffer in ("ub", "l1", "l0a", "l0b", "l0c")),
        f"core.load.l1_bytes_per_cycle={2 * rate}",
        f"core.store.bytes_per_cycle={rate}",
        "core.move.l0a_bytes_per_cycle=1024",
        "core.move.l0b_bytes_per_cycle=1024",
        f"memory.hbm.bandwidth_gbps={3 * rate * clock}",
        f"memory.l2.bandwidth_gbps={3 * rate * clock}",
    ]


def run_here(case: Case) -> Result:
    """A case on the equivalent array, time only: one instruction a fold, all of K in L1."""
    device = Device("edge", equivalent_array(case), timing_only=True)
    inputs = {"a": device.empty((case.m, case.k), "fp16"), "b": device.empty((case.k, case.n), "fp16")}
    pins = Pins(tile={"l1": (case.m, case.columns, case.k), "l0": (case.m, case.columns, case.rows)})
    begin = time.process_time()
    device.run(product, inputs, pins)
    seconds = time.process_time() - begin
    result = device.launches[-1].result
    return Result(result.cores[0].units["cube"].busy, result.cycles, seconds)


if __name__ == "__main__":
    main()
