"""Time and memory that it takes to simulate whole-chip work: a big matrix product, and decoder layers of Llama-2-7B's shape.

    python benchmarks/scale.py [--chip ascend_910b1] [--work matmul_8192]... [--small] [--warm-l2] [--json FILE]

Time only, on the compiled engine (with numba where it is installed). Work:

* matmul_8192: fp16 8192 x 8192 x 8192, all cores of the chip;
* prefill_2048: one layer on 2048 tokens of one sequence;
* decode_2048: one layer for one token of each of 8 sequences with 2048 tokens of context.

The layer has the sizes of Llama-2-7B (hidden 4096, 32 heads of 128, MLP 11008; Touvron et al. 2023, arXiv 2307.09288) and its
operators: RMS norm, three projections, rotary embedding, scores, masked softmax, context, projection, residual, norm, gate,
up, SiLU and product, down, residual; attention is not fused. Every launch starts with an empty L2 (`cold_l2`), which makes
identical launches equal, so that each is simulated once; `--warm-l2` keeps what the launch before left. `--small` cuts all
sizes to an eighth, to show that host time grows with the work. Compile time of kernels (host) stands apart; that of the
engine is paid in a small launch before.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, kernel
from npuvm.runtime import Device, Tensor

MIB = 1 << 20


class Sizes(NamedTuple):
    """Sizes of a decoder layer."""

    hidden: int
    heads: int
    head: int
    mlp: int
    context: int


LLAMA_2_7B = Sizes(hidden=4096, heads=32, head=128, mlp=11008, context=2048)
DECODE_BATCH = 8


@kernel(x="fp16[T, H]", weight="fp16[H]")
def rms_norm(k: KernelBuilder, x: ParamRef, weight: ParamRef) -> None:
    """Rows over the root of their mean square, in fp32."""
    wide = k.cast(k.load(x), "fp32")
    scale = k.rsqrt(k.mean(wide * wide, axes=-1, keepdims=True) + 1e-5)
    k.store(k.cast(wide * scale * k.cast(k.load(weight), "fp32"), "fp16"))


@kernel(x="fp16[T, K]", weight="fp16[N, K]")
def linear(k: KernelBuilder, x: ParamRef, weight: ParamRef) -> None:
    """A projection."""
    k.store(k.matmul(k.load(x), k.load(weight), transpose_b=True))


@kernel(low="fp16[R, D]", high="fp16[R, D]", cos="fp16[R, D]", sin="fp16[R, D]")
def rotary(k: KernelBuilder, low: ParamRef, high: ParamRef, cos: ParamRef, sin: ParamRef) -> None:
    """Rotary position embedding of the two halves of a head."""
    a, b, c, s = k.load(low), k.load(high), k.load(cos), k.load(sin)
    k.store(a * c - b * s, name="rotated_low")
    k.store(b * c + a * s, name="rotated_high")


@kernel(q="fp16[B, T, D]", keys="fp16[B, S, D]")
def scores(k: KernelBuilder, q: ParamRef, keys: ParamRef) -> None:
    """Queries against keys."""
    k.store(k.matmul(k.load(q), k.load(keys), transpose_b=True))


@kernel(x="fp16[B, T, S]", mask="fp16[T, S]")
def masked_softmax(k: KernelBuilder, x: ParamRef, mask: ParamRef) -> None:
    """Softmax of scaled scores plus a mask, in fp32."""
    wide = k.cast(k.load(x), "fp32") * 0.08838834764 + k.cast(k.load(mask), "fp32")
    powers = k.exp(wide - k.max(wide, axes=-1, keepdims=True))
    k.store(k.cast(powers * k.reciprocal(k.sum(powers, axes=-1, keepdims=True)), "fp16"))


@kernel(weights="fp16[B, T, S]", values="fp16[B, S, D]")
def mix(k: KernelBuilder, weights: ParamRef, values: ParamRef) -> None:
    """Attention weights times values."""
    k.store(k.matmul(k.load(weights), k.load(values)))


@kernel(x="fp16[T, H]", y="fp16[T, H]")
def residual(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
    """A sum."""
    k.store(k.load(x) + k.load(y))


@kernel(gate="fp16[T, M]", up="fp16[T, M]")
def gated(k: KernelBuilder, gate: ParamRef, up: ParamRef) -> None:
    """SiLU of the gate times the other half."""
    k.store(k.cast(k.silu(k.cast(k.load(gate), "fp32")) * k.cast(k.load(up), "fp32"), "fp16"))


class Layer:
    """Runs kernels on a device and frees what they made."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def empty(self, *shape: int) -> Tensor:
        """Memory of fp16."""
        return self.device.empty(shape, "fp16")

    def run(self, made: Kernel, **inputs: Tensor) -> None:
        """Launch a kernel; its outputs are dropped, and its inputs too."""
        for tensor in self.device.run(made, inputs, tag=made.name).values():
            tensor.free()
        for tensor in {tensor.address: tensor for tensor in inputs.values()}.values():
            tensor.free()

    def decoder(self, sizes: Sizes, tokens: int, batch: int) -> None:
        """One layer for `tokens` new tokens of each of `batch` sequences; the context holds them."""
        rows, heads, width = batch * tokens, batch * sizes.heads, sizes.head
        self.norm(rows, sizes)
        for _ in range(3):
            self.project(rows, sizes.hidden, sizes.hidden)
        for _ in range(2):
            half = (rows * sizes.heads, width // 2)
            self.run(rotary, **{name: self.empty(*half) for name in ("low", "high", "cos", "sin")})
        self.run(scores, q=self.empty(heads, tokens, width), keys=self.empty(heads, sizes.context, width))
        self.run(masked_softmax, x=self.empty(heads, tokens, sizes.context), mask=self.empty(tokens, sizes.context))
        self.run(mix, weights=self.empty(heads, tokens, sizes.context), values=self.empty(heads, sizes.context, width))
        self.project(rows, sizes.hidden, sizes.hidden)
        self.run(residual, x=self.empty(rows, sizes.hidden), y=self.empty(rows, sizes.hidden))
        self.norm(rows, sizes)
        for _ in range(2):
            self.project(rows, sizes.mlp, sizes.hidden)
        self.run(gated, gate=self.empty(rows, sizes.mlp), up=self.empty(rows, sizes.mlp))
        self.project(rows, sizes.hidden, sizes.mlp)
        self.run(residual, x=self.empty(rows, sizes.hidden), y=self.empty(rows, sizes.hidden))

    def norm(self, rows: int, sizes: Sizes) -> None:
        """RMS norm of `rows` tokens."""
        self.run(rms_norm, x=self.empty(rows, sizes.hidden), weight=self.empty(sizes.hidden))

    def project(self, rows: int, outputs: int, inputs: int) -> None:
        """A projection of `rows` tokens."""
        self.run(linear, x=self.empty(rows, inputs), weight=self.empty(outputs, inputs))


def works(share: int) -> dict[str, Callable[[Layer], None]]:
    """What to simulate, with all sizes divided by `share`."""
    full = LLAMA_2_7B
    sizes = Sizes(full.hidden // share, full.heads // share, full.head, full.mlp // share, full.context // share)
    return {
        "matmul_8192": lambda layer: layer.project(8192 // share, 8192 // share, 8192 // share),
        "prefill_2048": lambda layer: layer.decoder(sizes, sizes.context, 1),
        "decode_2048": lambda layer: layer.decoder(sizes, 1, DECODE_BATCH),
    }


def main() -> None:
    """Simulate the work, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chip", default="ascend_910b1")
    parser.add_argument("--work", action="append", choices=list(works(1)))
    parser.add_argument("--small", action="store_true", help="all sizes an eighth")
    parser.add_argument("--warm-l2", action="store_true", help="L2 as the launch before left it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warm_up(options.chip)
    rows: list[Mapping[str, Any]] = []
    state = "as the launch before left it" if options.warm_l2 else "empty at every launch"
    print(
        f"{options.chip}, time only, L2 {state}; host seconds are wall time of one run after the compile of the engine"
    )
    print(
        f"{'work':14}{'launches':>9}{'simulated':>10}{'instructions':>13}{'requests':>12}{'cycles':>13}{'us':>10}"
        f"{'compile s':>10}{'simulate s':>11}{'CPU s':>8}{'peak MiB':>9}"
    )
    for name, work in works(8 if options.small else 1).items():
        if options.work and name not in options.work:
            continue
        row = measure(name, work, options.chip, not options.warm_l2)
        rows.append(row)
        print(
            f"{name:14}{row['launches']:9}{row['simulated']:10}{row['instructions']:13,}{row['requests']:12,}"
            f"{row['cycles']:13,}{row['us']:10,.1f}{row['compile_seconds']:10.2f}{row['simulate_seconds']:11.2f}"
            f"{row['cpu_seconds']:8.2f}{row['peak_mib']:9.0f}",
            flush=True,
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"chip": options.chip, "rows": rows}, indent=1) + "\n")


def warm_up(chip: str) -> None:
    """A small launch of each kind, so that the engine and the kernels' plans are there."""
    Layer(Device(chip, timing_only=True)).decoder(Sizes(128, 2, 64, 256, 32), 32, 1)


def measure(name: str, work: Callable[[Layer], None], chip: str, cold: bool) -> dict[str, Any]:
    """Run one work on a new device."""
    device = Device(chip, timing_only=True, cold_l2=cold)
    wall, cpu = time.perf_counter(), time.process_time()
    work(Layer(device))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    compiling = (sum(record.compile_us for record in device.launches) + device.verify_us) / 1e6
    results = [record.result for record in device.launches]
    cycles = sum(result.cycles for result in results)
    return {
        "work": name,
        "engine": results[0].engine,
        "launches": len(results),
        "simulated": len({id(result) for result in results}),
        "instructions": sum(result.instructions for result in results),
        "requests": sum(result.requests for result in results),
        "cycles": cycles,
        "us": float(device.chip.cycles_to_us(cycles)),
        "compile_seconds": compiling,
        "simulate_seconds": wall - compiling,
        "cpu_seconds": cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
