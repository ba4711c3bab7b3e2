"""Simulated time of kernels of several segments: a launch for each segment, and one launch for all.

    python benchmarks/stacking.py [--chip CHIP ...] [--calls 20] [--json FILE]

Each case runs once on an idle chip and then many times one after the other. "chip" is the simulated time of the launches on the
chip alone, "one call" ends when the result of the first call is there, with the host's `launch_us` for each launch and the
chip's `start_latency_us` (docs/timing-model.md, host); "each of n" is the same for one of n calls in a row, where the
host issues launches while the chip works. "host" is measured: CPU time to instantiate the case for a new shape, where the
plan is known, the median over shapes. Workspace is that of the plan, and what it would be if no bytes were used again.

The last rows of a chip are attention as eager operators: each run for itself when it is issued, and gathered; "host" is
the CPU time to issue them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npuvm.compiler import (
    Kernel,
    KernelBuilder,
    ParamRef,
    Pins,
    Stack,
    compile_kernel,
    compile_stack,
    kernel,
    parallel,
    renamed,
)
from npuvm.runtime import Device, EagerQueue

CHIPS = ("ascend_910a", "ascend_910b1", "edge")
Shapes = Mapping[str, tuple[int, ...]]


@kernel(x="fp16[M, K]", w="fp16[K, N]", b="fp16[N]", v="fp16[N, K]")
def gelu_mlp(k: KernelBuilder, x: ParamRef, w: ParamRef, b: ParamRef, v: ParamRef) -> None:
    hidden = k.gelu(k.matmul(k.load(x), k.load(w)) + k.load(b), approximate="tanh")
    k.store(k.matmul(hidden, k.load(v)), "y")


@kernel(q="fp16[H, S, D]", p="fp16[H, S, D]", v="fp16[H, S, D]")
def attention(k: KernelBuilder, q: ParamRef, p: ParamRef, v: ParamRef) -> None:
    scores = k.cast(k.matmul(k.load(q), k.load(p), transpose_b=True), "fp32") * 0.125
    e = k.exp(scores - k.max(scores, -1, keepdims=True))
    k.store(k.matmul(k.cast(e / k.sum(e, -1, keepdims=True), "fp16"), k.load(v)), "y")


@kernel(x="fp16[M, K]", g="fp32[K]", w="fp16[K, N]")
def norm_matmul(k: KernelBuilder, x: ParamRef, g: ParamRef, w: ParamRef) -> None:
    value = k.cast(k.load(x), "fp32")
    centred = value - k.mean(value, -1, keepdims=True)
    scaled = centred * k.rsqrt(k.mean(centred * centred, -1, keepdims=True) + 1e-5) * k.load(g)
    k.store(k.matmul(k.cast(scaled, "fp16"), k.load(w)))


@kernel(x="fp16[M, K]", w="fp16[K, N]")
def product(k: KernelBuilder, x: ParamRef, w: ParamRef) -> None:
    k.store(k.matmul(k.load(x), k.load(w)), "y")


@kernel(x="fp16[M, N]")
def softmax(k: KernelBuilder, x: ParamRef) -> None:
    value = k.load(x)
    e = k.exp(value - k.max(value, -1, keepdims=True))
    k.store(e / k.sum(e, -1, keepdims=True), "y")


SIDE_BY_SIDE = parallel(
    renamed(product, x="a", w="b", y="ab"),
    renamed(product, x="c", w="b", y="cb"),
    renamed(softmax, x="s", y="soft"),
    name="two products and a softmax",
)


class Case(NamedTuple):
    """A kernel with shapes, or a stack and the kernels that it consists of; `grow` names the dims that other shapes change."""

    name: str
    made: Kernel | Stack
    shapes: Shapes


def main() -> None:
    """Measure everything, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", nargs="+", default=list(CHIPS))
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'':51} {'launches':>8} {'chip us':>9} {'one call':>9} {'each':>9} {'host us':>9} {'workspace KiB':>14}")
    for name in options.chip:
        for case in cases():
            for stack in ("launches", "sequence"):
                row = measure(case, name, stack, options.calls)
                rows.append(row)
                numbers = [
                    f"{row[each]:9.2f}" for each in ("chip_us", "one_call_us", "each_call_us", "host_us_measured")
                ]
                space = f"{row['workspace_bytes'] / 1024:.0f} of {row['workspace_apart_bytes'] / 1024:.0f}"
                print(f"{name + ' ' + case.name:40} {stack:10} {row['launches']:8} {' '.join(numbers)} {space:>14}")
        for label, limit in (("one by one", 1), ("gathered", 64)):
            row = measure_eager(name, label, limit, options.calls)
            rows.append(row)
            numbers = [f"{row[each]:9.2f}" for each in ("chip_us", "one_call_us", "each_call_us")]
            host = "" if row["host_us_measured"] is None else f"{row['host_us_measured']:9.2f}"
            print(f"{name + ' eager attention':40} {label:10} {row['launches']:8} {' '.join(numbers)} {host}")
    if options.json is not None:
        options.json.write_text(json.dumps({"calls": options.calls, "rows": rows}, indent=1) + "\n")


def cases() -> list[Case]:
    """What is measured: small enough for launches to matter, and once large."""
    mlp = {"x": (128, 384), "w": (384, 1536), "b": (1536,), "v": (1536, 384)}
    large = {"x": (2048, 1024), "w": (1024, 4096), "b": (4096,), "v": (4096, 1024)}
    heads = (12, 128, 32)
    return [
        Case("gelu MLP 128", gelu_mlp, mlp),
        Case("gelu MLP 2048", gelu_mlp, large),
        Case("attention 12 x 128", attention, {"q": heads, "p": heads, "v": heads}),
        Case("layernorm, matmul", norm_matmul, {"x": (128, 384), "g": (384,), "w": (384, 384)}),
        Case(SIDE_BY_SIDE.name, SIDE_BY_SIDE, {"a": (128, 384), "b": (384, 256), "c": (200, 384), "s": (512, 512)}),
    ]


def measure(case: Case, chip: str, stack: str, calls: int) -> dict[str, Any]:
    """One row: the case on a chip, its launches apart or in one."""
    device = Device(chip, timing_only=True)
    run_once(device, case, stack)
    launches, first = len(device.launches), device.stream.end_us
    cycles = sum(record.result.cycles for record in device.launches)
    for _ in range(calls):
        run_once(device, case, stack)
    compiled = compiled_for(device, case, case.shapes, stack)
    return {
        "chip": chip,
        "case": case.name,
        "stack": stack,
        "launches": launches,
        "cycles": cycles,
        "chip_us": float(device.chip.cycles_to_us(cycles)),
        "one_call_us": first,
        "each_call_us": (device.stream.end_us - first) / calls,
        "host_us_measured": host_us(device, case, stack),
        "workspace_bytes": sum(each.workspace_bytes for each in compiled),
        "workspace_apart_bytes": sum(
            -(-spec.nbytes // 512) * 512 for each in compiled for spec in each.tensors if spec.kind == "workspace"
        ),
    }


def run_once(device: Device, case: Case, stack: str) -> None:
    """One call; the parts of a stack are called one by one where launches stay apart."""
    inputs = {name: device.empty(shape, _dtype(case, name)) for name, shape in case.shapes.items()}
    if isinstance(case.made, Kernel):
        outputs = device.run(case.made, inputs, pins=Pins(stack=stack))
    elif stack == "sequence":
        outputs = device.run(case.made, inputs)
    else:
        outputs = {}
        for member in case.made.members:
            assert isinstance(member.kernel, Kernel)
            own = {param.name: inputs[member.outer(param.name)] for param in member.kernel.graph.params}
            made = device.run(member.kernel, own)
            outputs |= {member.outer(name): tensor for name, tensor in made.items()}
    for tensor in (*inputs.values(), *outputs.values()):
        tensor.free()


def compiled_for(device: Device, case: Case, shapes: Shapes, stack: str) -> list[Any]:
    """The compiled kernels of a case."""
    chip, isa = device.chip, device.isa
    if isinstance(case.made, Kernel):
        pins = Pins(stack="sequence") if stack == "sequence" else None
        return [compile_kernel(case.made, shapes, chip, isa, pins)]
    if stack == "sequence":
        return [compile_stack(case.made, shapes, chip, isa)]
    return [
        compile_kernel(
            member.kernel,
            {param.name: shapes[member.outer(param.name)] for param in member.kernel.graph.params},
            chip,
            isa,
        )
        for member in case.made.members
        if isinstance(member.kernel, Kernel)
    ]


def host_us(device: Device, case: Case, stack: str) -> float:
    """CPU time for a new shape, the median of some; the first dim of the first parameter grows."""
    first = next(iter(case.shapes.values()))[-2]
    times = []
    for step in range(1, 12):
        shapes = {
            name: tuple(
                size + step if size == first and axis == len(shape) - 2 else size for axis, size in enumerate(shape)
            )
            for name, shape in case.shapes.items()
        }
        start = time.process_time_ns()
        compiled_for(device, case, shapes, stack)
        times.append((time.process_time_ns() - start) / 1000)
    return statistics.median(times)


def measure_eager(chip: str, label: str, limit: int, calls: int) -> dict[str, Any]:
    """One row: attention issued operator by operator, with at most `limit` of them gathered."""
    device = Device(chip, timing_only=True)
    queue = EagerQueue(device, limit=limit)
    inputs = [queue.tensor(np.zeros((12, 128, 32), np.float16)) for _ in range(3)]

    def call() -> float:
        start = time.process_time_ns()
        q, p, v = inputs
        scores = queue.cast(queue.matmul(q, p, transpose_b=True), "fp32") * 0.125
        e = queue.exp(scores - queue.max(scores, -1, keepdims=True))
        weights = queue.cast(e / queue.sum(e, -1, keepdims=True), "fp16")
        del scores, e
        result = queue.matmul(weights, v)
        del weights
        issued = (time.process_time_ns() - start) / 1000
        queue.flush()
        del result
        return issued

    call()
    launches, first = len(device.launches), device.stream.end_us
    cycles = sum(record.result.cycles for record in device.launches)
    times = [call() for _ in range(calls)]
    return {
        "chip": chip,
        "case": "eager attention",
        "stack": label,
        "launches": launches,
        "cycles": cycles,
        "chip_us": float(device.chip.cycles_to_us(cycles)),
        "one_call_us": first,
        "each_call_us": (device.stream.end_us - first) / calls,
        "host_us_measured": statistics.median(times) if limit > 1 else None,
    }


def _dtype(case: Case, name: str) -> str:
    params = case.made.graph.params if isinstance(case.made, Kernel) else case.made.params
    return next(param.type.dtype for param in params if param.name == name)


if __name__ == "__main__":
    main()
