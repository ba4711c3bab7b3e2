"""Values and parameters as a kernel's function sees them, and where in its source an error lies."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.types import Dim, TensorType

if TYPE_CHECKING:
    from npuvm.compiler.language.kernel import KernelBuilder
    from npuvm.compiler.language.views import Index

__all__ = ["Operand", "ParamRef", "Value", "kernel_error", "kernel_line", "pass_over"]

_builders: tuple[str, ...] = (str(Path(__file__).parents[1]),)


class Value:
    """A tensor inside a kernel. `type`, `dtype` and `shape` are known while tracing; data is not.

    `==` and `!=` compare identity as in any Python object; use `k.eq` and `k.ne` for element-wise results.
    """

    __slots__ = ("builder", "node")

    def __init__(self, builder: KernelBuilder, node: Node) -> None:
        self.builder = builder
        self.node = node

    @property
    def type(self) -> TensorType:
        return self.node.type

    @property
    def dtype(self) -> str:
        return self.node.type.dtype

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.node.type.shape

    def __add__(self, other: Operand) -> Value:
        return self.builder.add(self, other)

    def __radd__(self, other: Operand) -> Value:
        return self.builder.add(other, self)

    def __sub__(self, other: Operand) -> Value:
        return self.builder.sub(self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.builder.sub(other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.builder.mul(self, other)

    def __rmul__(self, other: Operand) -> Value:
        return self.builder.mul(other, self)

    def __truediv__(self, other: Operand) -> Value:
        return self.builder.div(self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self.builder.div(other, self)

    def __pow__(self, other: Operand) -> Value:
        return self.builder.pow(self, other)

    def __rpow__(self, other: Operand) -> Value:
        return self.builder.pow(other, self)

    def __and__(self, other: Operand) -> Value:
        return self.builder.logical_and(self, other)

    def __or__(self, other: Operand) -> Value:
        return self.builder.logical_or(self, other)

    def __xor__(self, other: Operand) -> Value:
        return self.builder.logical_xor(self, other)

    def __matmul__(self, other: Value) -> Value:
        return self.builder.matmul(self, other)

    def __neg__(self) -> Value:
        return self.builder.neg(self)

    def __abs__(self) -> Value:
        return self.builder.abs(self)

    def __invert__(self) -> Value:
        return self.builder.logical_not(self)

    def __lt__(self, other: Operand) -> Value:
        return self.builder.lt(self, other)

    def __le__(self, other: Operand) -> Value:
        return self.builder.le(self, other)

    def __gt__(self, other: Operand) -> Value:
        return self.builder.gt(self, other)

    def __ge__(self, other: Operand) -> Value:
        return self.builder.ge(self, other)

    def __getitem__(self, key: Index | tuple[Index, ...]) -> Value:
        return self.builder.index(self, key)

    __iter__ = None
    """Indexing must not make a value iterable."""

    def __bool__(self) -> NoReturn:
        raise CompileError("a kernel value has no truth value while tracing; use k.select", kernel_line() or None)

    def __repr__(self) -> str:
        return repr(self.node)


Operand = Value | float | int | bool


@dataclass(frozen=True, slots=True)
class ParamRef:
    """A parameter as the kernel's function receives it: a tensor in global memory that `k.load` reads."""

    name: str
    type: TensorType

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    def _unloaded(self, *_: object) -> NoReturn:
        raise kernel_error(f"'{self.name}' is a tensor in memory; load it first with k.load({self.name})")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _unloaded
    __pow__ = __rpow__ = __and__ = __or__ = __xor__ = __matmul__ = __neg__ = __abs__ = __invert__ = _unloaded
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _unloaded


def kernel_line() -> str:
    """`file:line` of the nearest frame outside this package and the files of other builders."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_builders):
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    return f"{_file_name(frame.f_code.co_filename)}:{frame.f_lineno}"


def pass_over(file: str) -> None:
    """Take the lines of a file for those of a builder, not of a kernel."""
    global _builders
    _builders = (*_builders, file)


@lru_cache(maxsize=256)
def _file_name(path: str) -> str:
    return Path(path).name


def kernel_error(message: str) -> CompileError:
    """A CompileError at the line of the kernel that is being traced."""
    return CompileError(message, kernel_line() or None)
