"""Fourier transforms of a known length: products with a constant matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.entries import Unsupported
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.picking import axis_in, literal, same_dims, whole_number
from npuvm.compiler.frontends.onnx.registry import rule
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.language.value import Value

__all__: list[str] = []

_LONGEST = 1 << 12
"""The longest transform; its matrix has that many rows and columns."""


@rule("DFT")
def _transform(op: Operator) -> Value:
    x, rank = op.value(0), op.input(0).rank
    _check_float(op, x)
    axis = axis_in(op, _axis(op), rank)
    if axis == rank - 1:
        raise CompileError("DFT: its axis must not be the last, of real and imaginary parts", op.source)
    count = whole_number(op, x.shape[axis], "the length of a transform")
    parts = whole_number(op, x.shape[-1], "whether a signal is complex")
    inverse, onesided = bool(op.attribute("inverse", 0)), bool(op.attribute("onesided", 0))
    length = int(op.const(1).item()) if op.has(1) else 2 * (count - 1) if inverse and onesided else count
    matrix = _matrix(op, count, parts, _function(length, inverse, onesided))
    k = op.k
    order = (*[at for at in range(rank - 1) if at != axis], axis, rank - 1)
    turned = x if axis == rank - 2 else k.permute(x, order)
    found = _product(op, turned, matrix)
    return found if axis == rank - 2 else k.permute(found, tuple(np.argsort(order).tolist()))


def _axis(op: Operator) -> int:
    if op.since < 20:
        return int(op.attribute("axis", 1))
    return int(op.const(2).item()) if op.has(2) else -2


def _function(length: int, inverse: bool, onesided: bool) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """The transform of each row."""
    if inverse:
        return lambda rows: np.fft.irfft(rows, length) if onesided else np.fft.ifft(rows, length)
    return lambda rows: np.fft.fft(rows, length)[:, : length // 2 + 1 if onesided else length]


def _matrix(
    op: Operator, count: int, parts: int, function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> npt.NDArray[np.float32]:
    """[count, parts, results, their parts]: what a transform makes of each element alone, which it adds up."""
    if count > _LONGEST:
        raise Unsupported(f"a transform of {count} elements; the device takes up to {_LONGEST}")
    if parts not in (1, 2):
        raise CompileError(f"{op.type}: the last dim is {parts}; allowed: 1 (real) or 2 (complex)", op.source)
    rows = np.eye(count)
    made = (
        np.stack([function(rows * unit) for unit in (1.0, 1j)[:parts]], axis=1)
        if parts == 2
        else function(rows)[:, None]
    )
    split = np.stack([made.real, made.imag], axis=-1) if np.iscomplexobj(made) else made[..., None]
    return np.ascontiguousarray(split, np.float32)


def _product(op: Operator, x: Value, matrix: npt.NDArray[np.float32]) -> Value:
    """[.., count, parts] through a matrix: [.., results, their parts]."""
    k, (count, parts, results, made) = op.k, matrix.shape
    flat = k.reshape(x, (*x.shape[:-2], count * parts))
    table = literal(op, "matrix", matrix.reshape(count * parts, results * made))
    found = k.matmul(k.cast(flat, "fp32"), table)
    return k.cast(k.reshape(found, (*x.shape[:-2], results, made)), x.dtype)


@rule("STFT")
def _short_time_transform(op: Operator) -> Value:
    """Frames are windows that may overlap; the weights of a window are part of the matrix where they are constants."""
    k, x = op.k, op.value(0)
    _check_float(op, x)
    step = int(op.const(1).item())
    parts = whole_number(op, x.shape[2], "whether a signal is complex") if len(x.shape) == 3 else 1
    size = whole_number(op, op.input(2).dims[0], "the size of a window") if op.has(2) else int(op.const(3).item())
    if op.has(3) and int(op.const(3).item()) != size:
        raise Unsupported(f"a window of {size} elements for frames of {op.const(3).item()}")
    matrix = _matrix(op, size, parts, _function(size, False, bool(op.attribute("onesided", 1))))
    frames = k.windows(x, 1, size, step)
    ordered = k.permute(frames, (0, 1, 3, 2)) if len(x.shape) == 3 else k.reshape(frames, (*frames.shape, 1))
    if op.has(2):
        same_dims(op, op.input(2).dims, (size,))
        const = op.input(2).const
        if const is None:
            ordered = ordered * k.reshape(op.value(2), (size, 1))
        else:
            matrix = matrix * const.astype(np.float32).reshape(-1, 1, 1, 1)
    return _product(op, ordered, matrix)


def _check_float(op: Operator, x: Value) -> None:
    if DTYPES[x.dtype].kind != "float":
        raise Unsupported(f"the device transforms floats, not {op.input(0).dtype}")
