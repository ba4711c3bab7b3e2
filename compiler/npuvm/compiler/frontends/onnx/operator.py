"""One operator of an ONNX graph as its rule sees it: attributes, inputs, and a builder to put it into a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from npuvm.compiler.deduction import ANY_SIZE, whole_quotient
from npuvm.compiler.frontends.onnx.attributes import dtype_name
from npuvm.compiler.frontends.onnx.entries import Entry, Unsupported
from npuvm.compiler.graph.carriers import CARRIERS
from npuvm.compiler.graph.model import Guard
from npuvm.compiler.graph.sums import Sum, sum_of
from npuvm.compiler.graph.symbols import Product, cancel, product
from npuvm.compiler.graph.types import Dim
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

if TYPE_CHECKING:
    from npuvm.compiler.frontends.onnx.lowering import Lowering

__all__ = ["Operator", "carrier_of", "constant_sum", "scalar"]


def carrier_of(dtype: str) -> str:
    """The device's dtype for one of the source. Unsupported where there is none."""
    if dtype not in CARRIERS:
        raise Unsupported(f"the device has no {dtype}")
    return CARRIERS[dtype]


@dataclass(eq=False)
class Operator:
    """A node: `inputs` are None where left out, `since` is the version of its domain's operator set, `source` its name.

    The region of its values is fixed with the first of them: the first one that can use all inputs.
    """

    lowering: Lowering
    node: onnx.NodeProto
    since: int
    source: str
    inputs: tuple[Entry | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    is_function: bool = False
    """Whether a function of the file defines it."""

    @property
    def type(self) -> str:
        return self.node.op_type

    @property
    def outputs(self) -> int:
        """Number of outputs that somebody names."""
        return len(self.node.output)

    @property
    def result_dtype(self) -> str:
        """The dtype of integers that an operator makes of sizes."""
        if self.type == "Cast":
            return dtype_name(self.attribute("to"))
        return "int64" if self.type in ("Shape", "Size") else self.input(1 if self.type == "Where" else 0).dtype

    # Inputs.

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def input(self, index: int) -> Entry:
        """An input that must be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise Unsupported(f"input {index} is left out")
        return found

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, text as str, numbers as numpy or Python has them; `default` where it is not given."""
        return self.attributes.get(name, default)

    def const(self, index: int) -> npt.NDArray[Any]:
        """The content of an input. Unsupported where it is computed at run time."""
        entry = self.input(index)
        if entry.const is None:
            raise Unsupported(f"input {index} ('{entry.name}') is computed at run time; it must be a constant here")
        return entry.const

    def sizes(self, index: int) -> npt.NDArray[np.object_]:
        """The integers of an input as an array of sums of sizes. Unsupported where they follow from data."""
        entry = self.input(index)
        if entry.sizes is not None:
            return entry.sizes
        if entry.const is not None and entry.const.dtype.kind in "iu":
            made = np.empty(entry.const.shape, dtype=object)
            made.ravel()[:] = [constant_sum(int(each)) for each in entry.const.ravel()]
            return made
        raise Unsupported(f"input {index} ('{entry.name}') follows from data; it must follow from sizes here")

    def all_sizes(self) -> bool:
        """Whether all inputs are integers that follow from sizes, and at least one of them is not a constant."""
        given = [each for each in self.inputs if each is not None]
        known = all(
            each.sizes is not None or (each.const is not None and each.const.dtype.kind in "iu") for each in given
        )
        return known and any(each.sizes is not None for each in given)

    # Building.

    @cached_property
    def region(self) -> int:
        """The number of the region that the operator goes to."""
        return max((each.level for each in self.inputs if each is not None), default=0)

    @property
    def k(self) -> KernelBuilder:
        """The builder of the region."""
        return self.lowering.builder(self.region)

    def value(self, which: int | Entry) -> Value:
        """The tensor of an input, or of another value, in the operator's region and the carrier of its dtype."""
        entry = self.input(which) if isinstance(which, int) else which
        return self.lowering.value(entry, self.region)

    def broadcast(self, *which: int | Entry) -> tuple[Value, ...]:
        """Tensors whose dims fit each other by broadcasting, as far as that can be deduced or assumed."""
        values = tuple(self.value(each) for each in which)
        self.lowering.fit([each.shape for each in values], self.source)
        return values

    def equal(self, a: Dim, b: Dim) -> Dim:
        """A dim that must be another one."""
        return self.lowering.deduction.equal(a, b, self.source)

    def dim(self, size: Sum) -> Dim:
        """The dim that a sum of sizes is."""
        return self.lowering.dim(size)

    def size(self, dim: Dim) -> Sum:
        """The sum of sizes that a dim is."""
        return self.lowering.sizes.of(dim)

    def interval(self, size: Sum) -> tuple[int, int]:
        """Bounds of a sum, whatever the sizes."""
        return self.lowering.deduction.interval(size, ANY_SIZE)

    def not_zero(self, size: Sum) -> None:
        """Assume that there is an element at least."""
        if self.interval(size)[0] < 1:
            self.lowering.deduction.guards.append(Guard(sum_of(1), "<=", size, self.source))

    def divided(self, top: Sum, bottom: Sum) -> Sum:
        """A sum over another, rounded down. Unsupported where that is not known before the model runs."""
        if self.interval(top)[0] < 0 or self.interval(bottom)[0] < 0:
            raise Unsupported(f"whether {top} and {bottom} are below zero is not known before the model runs")
        number, found = bottom.constant(), whole_quotient(top, bottom)
        if number == 0 or (number is None and found is None):
            raise Unsupported(f"{top} over {bottom} is not known before the model runs")
        return self.lowering.sizes.floor_div(top, number) if found is None else found  # type: ignore[arg-type]

    def reshape(self, value: Value, target: Sequence[Sum | Dim]) -> Value:
        """The value in another shape, of as many elements: that is deduced, or assumed.

        A dim of -1 follows from the others, and gets the name that it has elsewhere.
        """
        dims = [self.dim(each) if isinstance(each, Sum) else each for each in target]
        if -1 in dims:
            rest = [dim for dim in dims if dim != -1]
            if 0 in rest:
                raise Unsupported("the size of a dim does not follow where another one is 0")
            dims[dims.index(-1)] = self._remaining(product(value.shape), product(rest))
        else:
            self.lowering.deduction.same_product(value.shape, dims, self.source)
        return value if tuple(dims) == value.shape else self.k.reshape(value, dims)

    def _remaining(self, whole: Product, rest: Product) -> Dim:
        if whole.factor == 0:
            return 0
        top, bottom = cancel(whole, rest)
        if bottom.symbols or top.factor % bottom.factor:
            self.lowering.deduction.divisible(Sum((top,)), Sum((bottom,)), self.source)
        return self.lowering.sizes.quotient(top, bottom)

    def entry(
        self,
        value: Value,
        dtype: str | None = None,
        bounds: tuple[int, int] | None = None,
    ) -> Entry:
        """A result with the dtype that it has in the source, where that is not the one of the first input."""
        made = Entry("", dtype or self.input(0).dtype, value.shape, level=self.region, computed=True, bounds=bounds)
        made.on_device[self.region] = value
        return made


def constant_sum(number: int) -> Sum:
    """A number as a sum of sizes; it may be below zero."""
    return sum_of(number) if number >= 0 else Sum() - sum_of(-number)


def scalar(array: npt.NDArray[Any]) -> float | int | bool:
    """The only element of an array as a Python number."""
    found: float | int | bool = np.asarray(array).reshape(()).item()
    return found
