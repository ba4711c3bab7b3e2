"""Operands of a product whose places are left open in a template, so that it serves operands that lie otherwise too."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from npuvm.compiler.cube.spec import MatmulSpec, MatView
from npuvm.compiler.emit.symint import SymInt

__all__ = ["OpenOperands", "open_operands"]


@dataclass(frozen=True, slots=True)
class OpenOperands:
    """A product with a variable for each stride and offset of its operands, and what `numbers` these stand for.

    Products alike but for these numbers have one `form`; strides of 0 and 1 are a part of it.
    """

    spec: MatmulSpec
    variables: tuple[str, ...]
    numbers: tuple[int, ...]
    form: Hashable


def open_operands(spec: MatmulSpec) -> OpenOperands:
    """The product with open operands."""
    numbers: list[int] = []
    form: list[Hashable] = []

    def variable(value: int) -> int:
        if not isinstance(value, SymInt) and value in (0, 1):
            form.append(value)
            return value
        form.append(None)
        numbers.append(value)
        return SymInt.variable(_name(len(numbers)))

    def view(each: MatView) -> MatView:
        form.extend((each.arg, each.dtype, each.cache))
        batch = tuple(variable(stride) for stride in each.batch)
        return replace(each, row=variable(each.row), col=variable(each.col), offset=variable(each.offset), batch=batch)

    opened = replace(spec, a=view(spec.a), b=view(spec.b))
    names = tuple(_name(at + 1) for at in range(len(numbers)))
    return OpenOperands(opened, names, tuple(numbers), tuple(form))


def _name(number: int) -> str:
    """A name that no symbol has."""
    return f"<number {number}>"
