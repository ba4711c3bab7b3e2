"""Random ONNX models with symbolic sizes, made from a seed, and inputs for them at many sizes.

While a model grows, each of its dims is known at two sets of sizes, the probes: dims that agree at both may meet in an
operator.
An input may give such a dim a name of its own, so that a reader of the model must find out that the two are equal.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["INEXACT", "PROBES", "Array", "Maker", "RandomModel", "Size", "Skip", "Val", "random_model"]

Array = npt.NDArray[Any]
Size = tuple[int, ...]
"""A dim at each of the probes."""

PROBES = 2
INEXACT = 99
_MOST_ELEMENTS = 6000
_ROOTS = {"A": (5, 3), "B": (7, 2), "C": (11, 13), "D": (2, 17)}
_SUMS = (("A", "B"), ("B", "C"))
_IR_VERSION = 10
_ELEMENT = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}  # fmt: skip


class Skip(Exception):
    """What was drawn does not fit the values that there are."""


@dataclass(frozen=True, slots=True)
class Val:
    """A value: its shape at the probes, and the bits that its elements need, INEXACT when they are rounded.

    Elements of exact values are multiples of 1/4; for integers, `bits` bounds their magnitude.
    """

    name: str
    dtype: str
    shape: tuple[Size, ...]
    bits: int = INEXACT

    @property
    def rank(self) -> int:
        """The number of dims."""
        return len(self.shape)

    @property
    def exact(self) -> bool:
        """Whether every way to compute it gives the same elements."""
        return self.bits < INEXACT


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    dtype: str
    dims: tuple[int | str, ...]
    least: int
    most: int


@dataclass(slots=True)
class RandomModel:
    """A model, and what its inputs are. `sizes` are those of the names of dims at the probes, `aliases` names of equal ones."""

    seed: int
    proto: onnx.ModelProto
    inputs: list[_Input]
    sizes: dict[str, Size]
    aliases: dict[str, str]

    def feeds(self, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
        """Inputs at these sizes by name of the dim."""
        rng = np.random.default_rng([self.seed, seed])
        made: dict[str, Array] = {}
        for each in self.inputs:
            shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in each.dims)
            numbers = rng.integers(each.least, each.most + 1, shape)
            if each.dtype.startswith("float"):
                made[each.name] = (numbers / 4).astype(each.dtype)
            else:
                made[each.name] = numbers.astype(each.dtype)
        return made

    def runs(self) -> list[dict[str, int]]:
        """Sizes by name for every run: those of the probes, others that keep what was equal, some that do not."""
        rng = random.Random(f"runs {self.seed}")
        roots = [name for name in self.sizes if name not in self.aliases]
        found = [self._bound({name: self.sizes[name][probe] for name in roots}) for probe in range(PROBES)]
        found.append(self._bound({name: rng.choice((1, 4, 6, 19, 23)) for name in roots}))
        for special in (0, 1):
            chosen = dict(found[0])
            for name in rng.sample(roots, k=rng.randint(1, len(roots)) if roots else 0):
                chosen[name] = special
            found.append(self._bound({name: chosen[name] for name in roots}))
        if self.sizes:
            broken = dict(found[rng.randrange(PROBES)])
            name = rng.choice(list(self.aliases) or roots)
            broken[name] = rng.choice((1, 1, 0, broken[name] + 1))
            found.append(broken)
        return found

    def _bound(self, roots: Mapping[str, int]) -> dict[str, int]:
        """Sizes of all names: an alias is what it stands for."""
        made = dict(roots)
        for name, origin in self.aliases.items():
            made[name] = sum(made[part] for part in origin.split("+"))
        return made


@dataclass(slots=True)
class Maker:
    """A model in the making: `values` are those that further nodes may take."""

    seed: int
    rng: random.Random
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[_Input] = field(default_factory=list)
    values: list[Val] = field(default_factory=list)
    sizes: dict[str, Size] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def fresh(self, stem: str) -> str:
        """A name that no other has."""
        self._count += 1
        return f"{stem}{self._count}"

    # Dims and inputs.

    def root(self) -> tuple[str, Size]:
        """A name for a dim, and its sizes."""
        name = self.rng.choice(list(_ROOTS))
        self.sizes[name] = _ROOTS[name]
        return name, _ROOTS[name]

    def dim_of(self, size: Size) -> int | str:
        """What an input may say of a dim: a number where it is one, the name of an equal dim, or a name of its own."""
        if len(set(size)) == 1 and self.rng.random() < 0.8:
            return size[0]
        same = [name for name, each in self.sizes.items() if each == size]
        if same and self.rng.random() < 0.6:
            return self.rng.choice(same)
        origins = [name for name in same if name not in self.aliases]
        origin = origins[0] if origins else None
        for parts in _SUMS:
            whole = tuple(map(sum, zip(*(_ROOTS[part] for part in parts), strict=True)))
            if origin is None and size == whole and all(part in self.sizes for part in parts):
                origin = "+".join(parts)
        name = self.fresh("N")
        self.sizes[name] = size
        if origin is not None:
            self.aliases[name] = origin
        return name

    def input(self, shape: Sequence[Size], dtype: str = "float32", least: int = -8, most: int = 8) -> Val:
        """A new input; elements of floats are multiples of 1/4."""
        dims = tuple(self.dim_of(size) for size in shape)
        name = self.fresh("x")
        self.inputs.append(_Input(name, dtype, dims, least, most))
        return self.add(Val(name, dtype, tuple(shape), max(abs(least), most).bit_length()))

    def add(self, value: Val) -> Val:
        """Let further nodes take a value."""
        if any(np.prod([size[probe] for size in value.shape]) > _MOST_ELEMENTS for probe in range(PROBES)):
            raise Skip("too large")
        self.values.append(value)
        return value

    # Nodes.

    def node(
        self, op: str, inputs: Sequence[str | Val], dtype: str, shape: Sequence[Size], bits: int = INEXACT, **attrs: Any
    ) -> Val:
        """A node with one output, a value that further nodes may take."""
        return self.add(Val(self.raw(op, inputs, **attrs)[0], dtype, tuple(shape), bits))

    def raw(self, op: str, inputs: Sequence[str | Val], outputs: int = 1, **attrs: Any) -> list[str]:
        """A node, and the names of its outputs."""
        names = [each.name if isinstance(each, Val) else each for each in inputs]
        made = [self.fresh("v") for _ in range(outputs)]
        name = "" if self.rng.random() < 0.3 else f"/{op}_{made[0]}"
        self.nodes.append(helper.make_node(op, names, made, name=name, **attrs))
        return made

    def const(self, array: npt.ArrayLike, dtype: str = "float32") -> str:
        """A constant, as an initializer or a node."""
        tensor = numpy_helper.from_array(np.asarray(array, dtype=dtype), self.fresh("c"))
        if self.rng.random() < 0.3:
            return self.raw("Constant", [], value=tensor)[0]
        self.initializers.append(tensor)
        return tensor.name

    def ints(self, *numbers: int) -> str:
        """A constant int64 vector."""
        return self.const(list(numbers), "int64")

    def weight(self, *shape: int) -> str:
        """A constant of multiples of 1/4."""
        rng = np.random.default_rng([self.seed, self._count])
        return self.const(rng.integers(-4, 5, shape) / 4)

    def size(self, value: Val, axis: int, *, vector: bool = False) -> str:
        """The size of one axis, computed in the model: an int64 of no dims, or a vector of one."""
        if vector and self.rng.random() < 0.3:
            end = axis + 1
            return self.raw("Shape", [value], start=axis, end=end)[0]
        at = axis - value.rank if self.rng.random() < 0.3 else axis
        index = self.ints(at) if vector else self.const(at, "int64")
        return self.raw("Gather", [self.raw("Shape", [value])[0], index], axis=0)[0]

    def target(self, sizes: Sequence[int | str]) -> str:
        """A shape made of numbers and of names of vectors of one size."""
        if all(isinstance(each, int) for each in sizes):
            return self.ints(*(int(each) for each in sizes))
        return self.raw("Concat", [self.ints(each) if isinstance(each, int) else each for each in sizes], axis=0)[0]

    def pick(self, wanted: Callable[[Val], bool]) -> Val:
        """One of the values, more often a late one. Skip where none is wanted."""
        found = [each for each in self.values if wanted(each)]
        if not found:
            raise Skip("no such value")
        late = found[-4:] if self.rng.random() < 0.7 else found
        return self.rng.choice(late)

    def attempt(self, make: Callable[[Maker], object]) -> bool:
        """Whether something could be added; where not, nothing is left of it."""
        marks = len(self.nodes), len(self.initializers), len(self.inputs), len(self.values)
        sizes, aliases = dict(self.sizes), dict(self.aliases)
        try:
            make(self)
        except Skip:
            del self.nodes[marks[0] :], self.initializers[marks[1] :], self.inputs[marks[2] :], self.values[marks[3] :]
            self.sizes, self.aliases = sizes, aliases
            return False
        return True

    def finish(self) -> RandomModel:
        """The model, with some of its values as outputs."""
        rng = self.rng
        read = {name for node in self.nodes for name in node.input}
        made = {name for node in self.nodes for name in node.output}
        ends = [each for each in self.values if each.name not in read and each.name in made]
        outputs = [each for each in ends if rng.random() < 0.8]
        outputs += [each for each in self.values if each not in outputs and rng.random() < 0.08]
        outputs = outputs or self.values[-1:]
        if rng.random() < 0.1:
            again = rng.choice(outputs)
            outputs.append(self.node("Identity", [again], again.dtype, again.shape, again.bits))
        infos = [self._output(each) for each in outputs]
        if self.initializers and rng.random() < 0.08:
            tensor = rng.choice(self.initializers)
            infos.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        given = [helper.make_tensor_value_info(each.name, _ELEMENT[each.dtype], each.dims) for each in self.inputs]
        graph = helper.make_graph(self.nodes, f"random_{self.seed}", given, infos, self.initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        return RandomModel(self.seed, proto, self.inputs, self.sizes, self.aliases)

    def _output(self, value: Val) -> onnx.ValueInfoProto:
        dims = [f"{value.name}_{axis}" for axis in range(value.rank)] if self.rng.random() < 0.5 else None
        return helper.make_tensor_value_info(value.name, _ELEMENT[value.dtype], dims)


def random_model(seed: int, nodes: int | None = None) -> RandomModel:
    """The model of a seed, of about `nodes` operators beside those that compute shapes; 5 to 18 where it is None."""
    from tests.compiler.frontends.onnx.random_operators import OPERATORS

    rng = random.Random(seed)
    maker = Maker(seed, rng, rng.choice((18, 20, 21)))
    for _ in range(rng.randint(1, 2)):
        shape: list[Size] = []
        for _ in range(rng.choice((1, 2, 2, 3, 3, 4))):
            shape.append(maker.root()[1] if rng.random() < 0.65 else (rng.choice((1, 3, 4, 8)),) * PROBES)
        maker.attempt(lambda made, shape=shape: made.input(shape))  # type: ignore[misc]
    if not maker.values:
        maker.input([maker.root()[1]])
    weights = list(OPERATORS.values())
    wanted = rng.randint(5, 18) if nodes is None else nodes
    for _ in range(6 * wanted):
        if wanted == 0:
            break
        (make,) = rng.choices(list(OPERATORS), weights)
        wanted -= maker.attempt(make)
    return maker.finish()
