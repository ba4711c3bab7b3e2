"""Times torch.compile in this process: `inductor_worker.py SHAPES NAME...` prints one line of JSON. Needs torch alone."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from typing import Any

SIZES = (128, 77, 300, 513, 256, 31, 600, 91)
"""Sizes of the dims that change, in order."""

HIDDEN = 256
"""Size of a dim that a weight has."""


def main() -> None:
    """Measure the named computations."""
    import torch

    shapes, names = int(sys.argv[1]), sys.argv[2:]
    torch.manual_seed(0)
    computations = make_computations(torch)
    start = cpu_seconds()
    torch.compile(lambda x: x + 1, dynamic=False)(torch.ones(8, 8))
    first_ever = cpu_seconds() - start
    kernels = {name: measure(torch, *computations[name], shapes) for name in names if name in computations}
    print(json.dumps({"torch": torch.__version__, "first_ever": first_ever, "kernels": kernels}))


def cpu_seconds() -> float:
    """Of this process and of the compilers that it has started and waited for."""
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(each.ru_utime + each.ru_stime for each in usages)


def measure(torch: Any, work: Callable[..., Any], inputs: Callable[[int], Any], shapes: int) -> dict[str, Any]:
    """CPU seconds: the first static shape, each later one, and one compilation for all sizes."""
    torch._dynamo.config.cache_size_limit = torch._dynamo.config.recompile_limit = 1024
    static = torch.compile(work, dynamic=False)
    times = []
    for size in SIZES[: shapes + 1]:
        values = inputs(size)
        start = cpu_seconds()
        static(*values)
        times.append(cpu_seconds() - start)
    torch._dynamo.reset()
    values = inputs(SIZES[0])
    start = cpu_seconds()
    torch.compile(work, dynamic=True)(*values)
    return {"first": times[0], "new": times[1:], "dynamic": cpu_seconds() - start}


def make_computations(torch: Any) -> dict[str, tuple[Callable[..., Any], Callable[[int], Any]]]:
    """By the name of the kernel: the function, and its inputs for a size."""
    functional = torch.nn.functional

    def chain(length: int) -> Callable[..., Any]:
        def work(x: Any, y: Any) -> Any:
            for at in range(length):
                step = at % 5
                if step == 0:
                    x = x + y
                elif step == 1:
                    x = x * y
                elif step == 2:
                    x = torch.maximum(x, y)
                elif step == 3:
                    x = x * 0.5
                else:
                    x = torch.relu(x)
            return x

        return work

    def random(*shapes: tuple[int, ...]) -> Any:
        return tuple(torch.randn(shape) for shape in shapes)

    def softmax(x: Any) -> Any:
        risen = torch.exp(x - x.amax(-1, keepdim=True))
        return risen / risen.sum(-1, keepdim=True)

    def attention(q: Any, keys: Any, values: Any) -> Any:
        return softmax(torch.tanh(q @ keys.transpose(-1, -2) * 0.125)) @ values

    def rms_norm(x: Any, gamma: Any) -> Any:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * gamma

    def gelu(x: Any) -> Any:
        return functional.gelu(x, approximate="tanh")

    found: dict[str, tuple[Callable[..., Any], Callable[[int], Any]]] = {
        f"chain_{length}": (chain(length), lambda n: random((n, HIDDEN), (n, HIDDEN)))
        for length in (1, 2, 4, 8, 16, 30)
    }
    found |= {
        "add_mul_gelu": (lambda x, y, b: gelu((x + b) * y), lambda n: random((n, HIDDEN), (n, HIDDEN), (HIDDEN,))),
        "swiglu": (lambda a, b: functional.silu(a) * b, lambda n: random((n, HIDDEN), (n, HIDDEN))),
        "scale_rows": (lambda x, s: x * s, lambda n: random((4, n, HIDDEN), (4, n, 1))),
        "softmax": (softmax, lambda n: random((n, HIDDEN))),
        "masked_softmax": (lambda x, m: softmax(x * 0.125 + m), lambda n: random((4, n, HIDDEN), (HIDDEN,))),
        "layernorm": (
            lambda x, g, b: functional.layer_norm(x, (HIDDEN,), g, b),
            lambda n: random((n, HIDDEN), (HIDDEN,), (HIDDEN,)),
        ),
        "rms_norm": (rms_norm, lambda n: random((n, HIDDEN), (HIDDEN,))),
        "column_sum": (lambda x: x.sum(0), lambda n: random((n, HIDDEN))),
        "middle_mean": (lambda x: x.mean(1), lambda n: random((4, n, HIDDEN))),
        "transpose_add": (lambda x, y: x.T + y, lambda n: random((n, HIDDEN), (HIDDEN, n))),
        "matmul_bias": (lambda a, b, c: a @ b.T + c, lambda n: random((n, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN,))),
        "matmul_bias_gelu": (
            lambda a, b, c: gelu(a @ b + c),
            lambda n: random((n, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN,)),
        ),
        "gelu_mlp": (lambda x, u, d: gelu(x @ u) @ d, lambda n: random((n, HIDDEN), (HIDDEN, 512), (512, HIDDEN))),
        "attention": (attention, lambda n: random((2, 8, n, 64), (2, 8, n, 64), (2, 8, n, 64))),
    }
    return found


if __name__ == "__main__":
    main()
