"""A model before its sizes are known: steps over named values, most of them regions of operators for the device.

A front end makes it once; a session runs it at any size. A value has a name, the dtype of its source (`int64`) and dims over
the model's symbols; on the device it is carried in a dtype that the chip has (`npuvm.compiler.graph.carriers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from npuvm.compiler.graph.ir import Graph
from npuvm.compiler.graph.sums import Computed, Sum
from npuvm.compiler.graph.symbols import Derived
from npuvm.compiler.graph.types import Dim, dims_text

__all__ = [
    "SIZES", "DeviceStep", "Fact", "Guard", "HostStep", "IfStep", "LoopStep", "Model", "ScanStep", "SizesStep", "Step",
    "ValueType",
]  # fmt: skip

SIZES = "sizes"
"""A region's parameter that no operator reads: its dims are the model's symbols that the region's sizes follow from."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """What a value is: the dtype of its source by numpy's name, and its dims; None where not even their number is known."""

    dtype: str
    shape: tuple[Dim, ...] | None

    def __str__(self) -> str:
        return f"{self.dtype}[{'?' if self.shape is None else dims_text(self.shape)}]"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is known of symbols: `text` such as `K == 768`, and the operator that says so."""

    text: str
    origin: str


@dataclass(frozen=True, slots=True)
class Guard:
    """What sizes must fulfil at launch, and the operator that says so.

    `relation` is `==`, `<=` or `%` (left is a multiple of right).
    """

    left: Sum
    relation: str
    right: Sum
    origin: str

    def holds(self, binding: Mapping[str, int]) -> bool:
        """Whether it is fulfilled for values of the symbols."""
        left, right = self.left.value(binding), self.right.value(binding)
        if self.relation == "%":
            return left == 0 if right == 0 else left % right == 0
        return left == right if self.relation == "==" else left <= right

    def text(self, binding: Mapping[str, int]) -> str:
        """Both sides for values of the symbols."""
        return f"{self.left.value(binding)} {self.relation} {self.right.value(binding)}"

    def __str__(self) -> str:
        if self.relation == "%":
            return f"{self.left} % {self.right} == 0"
        return f"{self.left} {self.relation} {self.right}"


@dataclass(slots=True)
class DeviceStep:
    """A region of operators for the device, one graph. `inputs` and `outputs` give the values of its parameters and stores.

    Where the graph has a parameter `SIZES`, that one has no value: its dims are symbols of the model.
    """

    name: str
    graph: Graph
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(slots=True)
class HostStep:
    """One operator that the device cannot run, and why. `node` is what a provider needs to run it, a serialised ONNX model.

    `inputs` may have "" for one that is left out.
    """

    op: str
    node: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: str
    reason: str


@dataclass(slots=True)
class SizesStep:
    """A value of the host that is made of sizes: `sizes` in row-major order, in a tensor of `shape`."""

    output: str
    sizes: tuple[Sum, ...]
    shape: tuple[int, ...]


@dataclass(slots=True)
class IfStep:
    """One of two bodies, by a value of one bool. `captured` gives the values from outside by the name that they have in a body.

    A body's outputs are `outputs`, in order.
    """

    condition: str
    then_body: Model
    else_body: Model
    captured: Mapping[str, str]
    outputs: tuple[str, ...]
    source: str


@dataclass(slots=True)
class LoopStep:
    """A body again and again, as ONNX's Loop: `trips` and `condition` may be "".

    The body's inputs are the trip's number, the condition, what is carried, then what is captured; its outputs the condition,
    what is carried, and an element of each collected.
    """

    trips: str
    condition: str
    body: Model
    carried: tuple[str, ...]
    captured: Mapping[str, str]
    outputs: tuple[str, ...]
    source: str


@dataclass(slots=True)
class ScanStep:
    """A body for each slice of `scanned` along `axes` in `directions` (0 forward, 1 backward), as ONNX's Scan.

    The body's inputs are what is carried, a slice of each scanned value, then what is captured; its outputs what is carried,
    and a slice of each collected value along `out_axes` in `out_directions`.
    """

    body: Model
    carried: tuple[str, ...]
    scanned: tuple[str, ...]
    axes: tuple[int, ...]
    directions: tuple[int, ...]
    captured: Mapping[str, str]
    outputs: tuple[str, ...]
    out_axes: tuple[int, ...]
    out_directions: tuple[int, ...]
    source: str


Step = DeviceStep | HostStep | SizesStep | IfStep | LoopStep | ScanStep


@dataclass(slots=True)
class Model:
    """Steps in the order they run, over values that `values` describes.

    `inputs` are names of values; `outputs` gives the value of each output; `constants` have their value, in the dtype of
    the source.
    `derived` defines symbols by others, in order of use; all other symbols are dims of inputs, or of what host steps make.
    `taken` are the least and the largest integer that inputs are taken to hold; for others the model must be read without that.
    `guards` are assumed: where one does not hold, the model is read again for those sizes alone. `required` are what operators
    need: other sizes are errors. `facts` say in words what follows. `claims` are sizes that the file declares of outputs and
    that do not follow: nothing relies on them.
    """

    name: str
    inputs: tuple[str, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    values: dict[str, ValueType] = field(default_factory=dict)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    derived: list[Derived | Computed] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    required: list[Guard] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    claims: list[Fact] = field(default_factory=list)
    taken: dict[str, tuple[int, int]] = field(default_factory=dict)

    def host_steps(self) -> list[HostStep]:
        """Operators that run on the host, those of bodies included."""
        found: list[HostStep] = []
        for step in self.steps:
            if isinstance(step, HostStep):
                found.append(step)
            elif isinstance(step, IfStep):
                found += [*step.then_body.host_steps(), *step.else_body.host_steps()]
            elif isinstance(step, LoopStep | ScanStep):
                found += step.body.host_steps()
        return found
