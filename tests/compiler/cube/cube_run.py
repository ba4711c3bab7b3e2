"""Runs a matrix product on the simulator and hands back the result; the oracle is numpy's matmul in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from tests.compiler.vector_run import limits_of, the_chip

from npuvm.compiler.cube.codegen import MatmulKernel, compile_matmul
from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.language.pins import Pins
from npuvm.hw.config import NpuConfig
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import simulate
from npuvm.isa import Isa, load_isa
from npuvm.isa.verifier import verify

Array = npt.NDArray[Any]

NUMPY = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
    "int32": np.dtype(np.int32),
}
CHIPS = ("ascend_910a", "ascend_910b1", "edge")

GUARD = 256
"""Bytes between tensors, outside every window, so that a stray access traps."""


@cache
def the_isa() -> Isa:
    """The instruction set, loaded once."""
    return load_isa()


@dataclass
class Case:
    """Sizes, types and layout of a product; `a_batch` and `b_batch` have 1 where an operand is broadcast."""

    m: int
    n: int
    k: int
    dtype: str = "fp16"
    out: str = "fp32"
    batch: tuple[int, ...] = ()
    a_batch: tuple[int, ...] | None = None
    b_batch: tuple[int, ...] | None = None
    transpose_a: bool = False
    transpose_b: bool = False
    bias: str | None = None
    relu: bool = False
    pad: int = 0
    """Extra columns in memory after every row of a, b and c."""

    def arrays(self, seed: int = 0) -> list[Array]:
        """a, b and the bias in memory order, filled with small numbers."""
        rng = np.random.default_rng(seed)
        shapes = [
            (*(self.batch if self.a_batch is None else self.a_batch), *self._flip(self.transpose_a, self.m, self.k)),
            (*(self.batch if self.b_batch is None else self.b_batch), *self._flip(self.transpose_b, self.k, self.n)),
        ]
        arrays = [self._fill(rng, (*shape[:-1], shape[-1] + self.pad), self.dtype) for shape in shapes]
        if self.bias is not None:
            arrays.append(self._fill(rng, (self.n,), self.bias))
        return arrays

    @staticmethod
    def _flip(flip: bool, rows: int, cols: int) -> tuple[int, int]:
        return (cols, rows) if flip else (rows, cols)

    @staticmethod
    def _fill(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
        if dtype.startswith("int"):
            return rng.integers(-9, 10, shape).astype(NUMPY[dtype])
        return rng.standard_normal(shape).astype(NUMPY[dtype])

    def expected(self, arrays: list[Array]) -> Array:
        a, b = (self._logical(x, flip) for x, flip in zip(arrays, (self.transpose_a, self.transpose_b), strict=False))
        result = np.matmul(a.astype(np.float64), b.astype(np.float64))
        result = np.broadcast_to(result, (*self.batch, self.m, self.n))
        if self.bias is not None:
            result = result + arrays[2].astype(np.float64)
        return np.maximum(result, 0) if self.relu else result

    def _logical(self, array: Array, flip: bool) -> Array:
        array = array[..., : array.shape[-1] - self.pad]
        return np.swapaxes(array, -1, -2) if flip else array

    def spec(self) -> MatmulSpec:
        def view(arg: int, batch: tuple[int, ...], rows: int, cols: int, flip: bool) -> MatView:
            height, width = self._flip(flip, rows, cols)
            width += self.pad
            strides, step = [], height * width
            for size in reversed(batch):
                strides.append(0 if size == 1 else step)
                step *= size
            row, col = (1, width) if flip else (width, 1)
            return MatView(arg, self.dtype, row, col, tuple(reversed(strides)))

        a_batch = self.batch if self.a_batch is None else self.a_batch
        b_batch = self.batch if self.b_batch is None else self.b_batch
        c = replace(view(2, self.batch, self.m, self.n, False), dtype=self.out)
        bias = MatView(3, self.bias, 0, 1, (0,) * len(self.batch)) if self.bias else None
        return MatmulSpec(
            self.m, self.n, self.k,
            view(0, a_batch, self.m, self.k, self.transpose_a),
            view(1, b_batch, self.k, self.n, self.transpose_b),
            c, self.batch, bias, self.relu,
        )  # fmt: skip


def run(
    case: Case, chip: NpuConfig, pins: Pins | None = None, verified: bool = True
) -> tuple[Array, Array, MatmulKernel, RunResult]:
    """Compile, verify and simulate with data: (result, expected, kernel, run). Rows' padding in c must stay untouched."""
    kernel = compile_matmul(case.spec(), 4 if case.bias else 3, chip, the_isa(), pins)
    assert kernel is not None
    arrays = case.arrays()
    out = np.full((*case.batch, case.m, case.n + case.pad), 77, dtype=NUMPY[case.out])
    placed = [arrays[0], arrays[1], out, *arrays[2:]]
    addresses, windows, at = [], [], GUARD
    memory = GlobalMemory(1 << 26)
    for array in placed:
        addresses.append(at)
        windows.append((at, array.nbytes))
        memory.reserve(at + array.nbytes)
        if array.nbytes:
            memory.write(at, np.frombuffer(array.tobytes(), dtype=np.uint8))
        at = (at + array.nbytes + 2 * GUARD) // GUARD * GUARD
    if verified and chip is the_chip(chip.name):
        sizes = [nbytes for _, nbytes in windows]
        verify(the_isa(), kernel.image, limits_of(chip.name), argument_bytes=sizes)
    result = simulate(chip, the_isa(), kernel.image, memory=memory, addresses=addresses, windows=windows)
    stored = memory.read(addresses[2], out.nbytes).tobytes()
    full = np.frombuffer(stored, dtype=NUMPY[case.out]).reshape(out.shape)
    if case.pad:
        assert (full[..., case.n :].astype(np.float64) == 77).all()
    return full[..., : case.n], case.expected(arrays), kernel, result


def check(case: Case, chip: NpuConfig, pins: Pins | None = None) -> tuple[MatmulKernel, RunResult]:
    """Run and compare: exact for integers, within the rounding of k products and of the output type for floats."""
    got, want, kernel, result = run(case, chip, pins)
    if case.out == "int32":
        np.testing.assert_array_equal(got, want.astype(np.int64))
        return kernel, result
    rounding = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}[case.out]
    scale = 4.0 * max(case.k, 1) * 2.0**-24 * 16 + rounding * np.abs(want)
    np.testing.assert_array_less(np.abs(got.astype(np.float64) - want), scale + 1e-7)
    assert prod(got.shape) == got.size
    return kernel, result
