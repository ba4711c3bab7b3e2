"""What the extensions buy: simulated cycles of kernels on a chip with the base instruction set and with extensions on it.

    python benchmarks/extensions.py [--chip edge] [--chip ascend_910b1] [--case softmax] [--json FILE]

Every kernel runs with data, and its result is compared with numpy in double; a result that is off stops the run. The baseline
is the same kernel with the base instruction set, in the same run, on the same chip; nothing else differs. The kernels name no
instruction: the compiler finds those of an extension by what their semantics say. No kernel allows another rounding than it
writes, but the one whose name says `approx`.

The costs of instructions that no chip has are assumptions. Those of every extension instruction that a program used are
printed below the cycles, with what the chip's file says of their origin: a speed-up is worth what its costs are worth.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler import DTYPES, Kernel, KernelBuilder, ParamRef, Value, kernel
from npuvm.hw.config import NpuConfig, class_names, class_of, load_chip
from npuvm.isa import Isa, decode_program, load_isa
from npuvm.isa.semantics import parse_semantics
from npuvm.runtime import Device
from npuvm.runtime.scenarios.header import code_version

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]

BASE: tuple[str, ...] = ()
USUAL: tuple[tuple[str, ...], ...] = (BASE, ("fma",), ("activation",), ("fma", "activation"))
FP8: tuple[tuple[str, ...], ...] = (BASE, ("fp8",))


@dataclass(frozen=True)
class Case:
    """A kernel at one shape, and its results in double; `tolerance` is relative to the largest magnitude of a result."""

    name: str
    kernel: Kernel
    shapes: Shapes
    expected: Callable[..., Array]
    tolerance: float
    variants: tuple[tuple[str, ...], ...] = USUAL


@dataclass(frozen=True)
class Measured:
    """One run: simulated cycles of all launches, largest relative error, extension instructions in the program by name."""

    extensions: tuple[str, ...]
    cycles: int
    error: float
    used: Mapping[str, int]


def main() -> None:
    """Run the cases on the chips, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", action="append", help="may be repeated; edge and ascend_910b1 unless given")
    parser.add_argument("--case", action="append", help="only cases whose name begins so; may be repeated")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = [run_chip(chip, tuple(options.case or ("",))) for chip in options.chip or ("edge", "ascend_910b1")]
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def run_chip(name: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Measure and print all wanted cases on a chip."""
    chip, isa = load_chip(name), load_isa()
    origin = f"base {isa.name} {isa.version} {isa.hash[:12]}, code {code_version()}"
    print(f"\n{name}, {origin}, one run each, L2 empty at the start")
    print(
        f"{'kernel':33} {'extensions':16} {'cycles':>9} {'speed-up':>8} {'error':>8}  extension instructions in the program"
    )
    rows: list[dict[str, Any]] = []
    used: set[str] = set()
    for case in cases():
        if not case.name.startswith(wanted):
            continue
        runs = [measure(case, name, extensions) for extensions in case.variants]
        for run in runs:
            counts = ", ".join(f"{op} x{count}" for op, count in sorted(run.used.items())) or "-"
            title = "+".join(run.extensions) or "base"
            ratio = runs[0].cycles / run.cycles
            print(f"{case.name:33} {title:16} {run.cycles:9,} {ratio:8.2f} {run.error:8.1e}  {counts}")
            used |= run.used.keys()
        rows.append({"case": case.name, "shapes": case.shapes, "runs": [asdict(run) for run in runs]})
    return {"chip": name, "rows": rows, "costs": print_costs(chip, used)}


def measure(case: Case, chip: str, extensions: tuple[str, ...]) -> Measured:
    """Run a case once; SystemExit when a result is off."""
    device = Device(chip, [f"isa.extensions=[{', '.join(extensions)}]"])
    inputs = make_inputs(case)
    outputs = device.run(case.kernel, {name: device.tensor(array) for name, array in inputs.items()})
    (output,) = outputs.values()
    want = case.expected(**{name: array.astype(np.float64) for name, array in inputs.items()})
    error = float(np.max(np.abs(output.numpy().astype(np.float64) - want)) / np.max(np.abs(want)))
    if not error <= case.tolerance:
        raise SystemExit(f"{case.name} on {chip} with {extensions}: error {error:.2e} is above {case.tolerance:.0e}")
    base = load_isa().instructions
    used: Counter[str] = Counter()
    for launch in device.launches:
        ops = [insn.op for _, insn in decode_program(device.isa, launch.image.words)]
        used.update(op for op in ops if op not in base)
    return Measured(extensions, sum(launch.result.cycles for launch in device.launches), error, dict(used))


def make_inputs(case: Case) -> dict[str, Array]:
    """Normal values; weights scaled down so that products stay near 1."""
    rng = np.random.default_rng(0)
    arrays = {}
    for param in case.kernel.graph.params:
        shape = case.shapes[param.name]
        scale = 1 / sqrt(shape[0]) if param.name.startswith("w") else 1.0
        arrays[param.name] = (rng.standard_normal(shape) * scale).astype(DTYPES[param.type.dtype].numpy)
    return arrays


def print_costs(chip: NpuConfig, used: set[str]) -> list[dict[str, Any]]:
    """What the extension instructions were assumed to cost, and the primitives that the base spends on the same."""
    isa = load_isa(extensions=("fma", "activation", "fp8"))
    formula = "startup + ceil(repeats x per repeat + rows x per row) cycles, results latency later"
    print(f"\nassumed costs on {chip.name}: {formula}")
    costs = []
    for op in sorted(used):
        instruction = isa.instruction(op)
        (timing,) = class_names(isa, instruction)
        cost = class_of(chip.core.vector, isa, instruction)
        path = f"core.vector.classes.{timing}.cycles_per_repeat"
        origin = chip.provenance[path]
        row = {
            "instruction": op,
            "semantics": instruction.semantics,
            "class": timing,
            "startup_cycles": cost.startup_cycles,
            "cycles_per_repeat": float(cost.cycles_per_repeat),
            "row_cycles": float(cost.row_cycles),
            "latency_cycles": cost.latency_cycles,
            "primitives_cycles_per_repeat": primitive_cycles(chip, isa, op),
            "source": origin.source,
        }
        costs.append(row)
        print(
            f"  {op:9} class {timing:7} startup {cost.startup_cycles}, per repeat {float(cost.cycles_per_repeat):g} "
            f"(its primitives: {row['primitives_cycles_per_repeat']:g}), per row {float(cost.row_cycles):g}, "
            f"latency {cost.latency_cycles}; {origin.source}"
        )
    return costs


def primitive_cycles(chip: NpuConfig, isa: Isa, op: str) -> float:
    """Cycles a repeat of the operations that the semantics of an instruction are made of."""
    instruction = isa.instruction(op)
    names = tuple(operand.name for operand in instruction.operands)
    found = parse_semantics(instruction.semantics or "", names).primitives
    return float(sum(chip.core.vector.classes[isa.primitive_timing[each]].cycles_per_repeat for each in found))


# The kernels. Sums and statistics are fp32; 16-bit tensors are widened when they are read and rounded once when written.


def wide(k: KernelBuilder, source: ParamRef) -> Value:
    return k.cast(k.load(source), "fp32")


def softmax(dtype: str) -> Kernel:
    @kernel(x=f"{dtype}[M, N]")
    def softmax_rows(k: KernelBuilder, x: ParamRef) -> None:
        value = wide(k, x)
        power = k.exp(value - k.max(value, -1, keepdims=True))
        k.store(k.cast(power / k.sum(power, -1, keepdims=True), dtype))

    return softmax_rows


def layernorm(dtype: str) -> Kernel:
    @kernel(x=f"{dtype}[M, N]", gamma=f"{dtype}[N]", beta=f"{dtype}[N]")
    def layer_norm(k: KernelBuilder, x: ParamRef, gamma: ParamRef, beta: ParamRef) -> None:
        value = wide(k, x)
        centred = value - k.mean(value, -1, keepdims=True)
        scale = k.rsqrt(k.mean(centred * centred, -1, keepdims=True) + 1e-5)
        k.store(k.cast(centred * scale * wide(k, gamma) + wide(k, beta), dtype))

    return layer_norm


def mlp(dtype: str, approximate: str, approx_ulp: float = 0.0) -> Kernel:
    @kernel(x=f"{dtype}[M, K]", w0=f"{dtype}[K, H]", w1=f"{dtype}[H, K]")
    def gelu_mlp(k: KernelBuilder, x: ParamRef, w0: ParamRef, w1: ParamRef) -> None:
        k.allow(approx_ulp=approx_ulp)
        inner = k.gelu(k.matmul(k.load(x), k.load(w0)), approximate)
        k.store(k.matmul(inner, k.load(w1)))

    return gelu_mlp


def gelu(dtype: str) -> Kernel:
    @kernel(x=f"{dtype}[M, N]")
    def gelu_alone(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.gelu(k.load(x), "tanh"))

    return gelu_alone


def quantise() -> Kernel:
    @kernel(x="fp16[M, N]")
    def quantise_rows(k: KernelBuilder, x: ParamRef) -> None:
        value = wide(k, x)
        scale = 448.0 / k.max(k.abs(value), -1, keepdims=True)
        k.store(k.cast(k.maximum(k.minimum(value * scale, 448.0), -448.0), "fp8_e4m3"))

    return quantise_rows


def softmax_of(x: Array) -> Array:
    power = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(power / power.sum(-1, keepdims=True))


def layernorm_of(x: Array, gamma: Array, beta: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma + beta)


def gelu_of(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


def gelu_erf_of(x: Array) -> Array:
    erf = parse_semantics("dst = erf(a)", ("dst", "a")).evaluate
    return np.asarray(0.5 * x * (1 + erf(x / sqrt(2))))


def mlp_of(activation: Callable[[Array], Array], x: Array, w0: Array, w1: Array) -> Array:
    return np.asarray(activation(x @ w0) @ w1)


def quantised_of(x: Array) -> Array:
    return np.asarray(x * (448.0 / np.abs(x).max(-1, keepdims=True)))


def cases() -> list[Case]:
    """All cases, in the order of the table."""
    found: list[Case] = []
    for dtype, tolerance in (("fp32", 1e-5), ("fp16", 2e-3)):
        for shape in ((256, 512), (64, 4096)):
            text = f"{dtype} {shape[0]}x{shape[1]}"
            found.append(Case(f"softmax {text}", softmax(dtype), {"x": shape}, softmax_of, tolerance))
            row = shape[1:]
            shapes = {"x": shape, "gamma": row, "beta": row}
            found.append(Case(f"layernorm {text}", layernorm(dtype), shapes, layernorm_of, tolerance))
            found.append(Case(f"gelu {text}", gelu(dtype), {"x": shape}, gelu_of, tolerance))
        found += [mlp_case(dtype, size, "tanh", tolerance) for size in ((128, 256, 1024), (512, 512, 2048))]
    found.append(mlp_case("fp16", (128, 256, 1024), "none", 2e-3))
    found.append(mlp_case("fp16", (128, 256, 1024), "none", 2e-3, approx_ulp=4.0))
    # Half a step of e4m3 at the largest magnitude is 16 of 448.
    found.append(Case("quantise fp16 256x512", quantise(), {"x": (256, 512)}, quantised_of, 16.5 / 448, FP8))
    return sorted(
        found, key=lambda case: ("softmax", "layernorm", "gelu", "mlp", "quantise").index(case.name.split()[0])
    )


def mlp_case(
    dtype: str, size: tuple[int, int, int], approximate: str, tolerance: float, approx_ulp: float = 0.0
) -> Case:
    """Rows of tokens through two products with gelu between them: (tokens, width, inner width)."""
    tokens, width, inner = size
    note = {"tanh": "", "none": " erf"}[approximate] + (" approx" if approx_ulp else "")
    activation = gelu_of if approximate == "tanh" else gelu_erf_of
    return Case(
        f"mlp {dtype} {tokens}x{width}x{inner}{note}",
        mlp(dtype, approximate, approx_ulp),
        {"x": (tokens, width), "w0": (width, inner), "w1": (inner, width)},
        partial(mlp_of, activation),
        tolerance,
    )


if __name__ == "__main__":
    main()
