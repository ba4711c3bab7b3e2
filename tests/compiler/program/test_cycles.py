"""What compiling a shape leaves behind has no reference cycles: a process may compile with the cycle collector off."""

from __future__ import annotations

import gc
import random

import pytest
from benchmarks.compiling.kernels import KERNELS, draw
from tests.compiler.vector_run import the_chip, the_isa

from npuvm.compiler import compile_kernel


@pytest.mark.parametrize("name", ["attention", "gelu_mlp", "matmul_bias", "column_sum", "softmax"])
def test_new_shapes_leave_no_cycles(name: str) -> None:
    (subject,) = [each for each in KERNELS if each.name == name]
    made, source = subject.make(), random.Random(name)
    for _ in range(20):
        compile_kernel(made, draw(subject, source), the_chip("ascend_910b1"), the_isa())
    gc.collect()
    gc.disable()
    try:
        for _ in range(60):
            compile_kernel(made, draw(subject, source), the_chip("ascend_910b1"), the_isa())
        assert gc.collect() == 0
    finally:
        gc.enable()
