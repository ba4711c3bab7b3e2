"""Random kernels from a seed: an operator graph, shapes for it, and what it must compute within the errors of `enclosures`.

A kernel of a seed is always the same. It is traced once with symbols; every shape of it is a case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import erf, prod
from random import Random
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from tests.compiler.properties import enclosures as known
from tests.compiler.properties.enclosures import Enclosure

from npuvm.compiler import Graph, Kernel, KernelBuilder, Param, ParamRef, Value, parse_type

Array = npt.NDArray[Any]
Dims = tuple[str | int, ...]
Sizes = dict[str, int]

NUMPY = {
    "fp32": np.dtype(np.float32),
    "fp16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "int32": np.dtype(np.int32),
    "bool": np.dtype(np.bool_),
}
SIZES = (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 100, 127)
MOST_ELEMENTS = 1000
_SQRT_2_OVER_PI = 0.7978845608028654


@dataclass(frozen=True, slots=True)
class Made:
    """A value of a kernel: in the graph, its dims, its dtype, and its number among the enclosures."""

    value: Value
    dims: Dims
    dtype: str
    number: int


@dataclass
class RandomKernel:
    """A kernel, and how to know its outputs: `steps` give one enclosure after the other from those before."""

    seed: int
    kernel: Kernel
    params: tuple[tuple[str, str, Dims], ...]
    steps: list[Callable[[list[Enclosure], Sizes], Enclosure]]
    outputs: list[tuple[str, int]]
    symbols: tuple[str, ...]
    may_be_empty: bool
    text: list[str] = field(default_factory=list)

    def sizes(self, rng: Random) -> Sizes:
        """Values of the symbols; no tensor is large."""
        sizes = {name: rng.choice(SIZES) for name in self.symbols}
        if self.may_be_empty and rng.random() < 0.04:
            sizes[rng.choice(self.symbols)] = 0
        while max(prod(sizes.get(str(dim), 1) for dim in dims) for _, _, dims in self.params) > MOST_ELEMENTS:
            largest = max(sizes, key=lambda name: sizes[name])
            sizes[largest] = max(1, sizes[largest] // 2 - rng.randrange(2))
        return sizes

    def inputs(self, sizes: Sizes, rng: np.random.Generator) -> dict[str, Array]:
        """Arrays for the parameters: normal numbers, small integers."""
        arrays = {}
        for name, dtype, dims in self.params:
            shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in dims)
            drawn = rng.integers(-40, 41, shape) if dtype == "int32" else rng.standard_normal(shape) * 1.5
            arrays[name] = np.asarray(drawn).astype(NUMPY[dtype])
        return arrays

    def expected(self, inputs: dict[str, Array], sizes: Sizes) -> dict[str, Enclosure]:
        """The outputs by name."""
        values = [known.exact(inputs[name], dtype) for name, dtype, _ in self.params]
        with np.errstate(all="ignore"):
            for step in self.steps:
                values.append(step(values, sizes))
        return {name: values[number] for name, number in self.outputs}


def random_kernel(seed: int, cube_dtypes: Sequence[str]) -> RandomKernel:
    """The kernel of a seed; `cube_dtypes` are what the chip multiplies matrices of."""
    rng = Random(seed)
    return _Maker(seed, rng, cube_dtypes).make()


class _Maker:
    def __init__(self, seed: int, rng: Random, cube_dtypes: Sequence[str]) -> None:
        self.seed, self.rng, self.cube_dtypes = seed, rng, cube_dtypes
        self.params: list[tuple[str, str, Dims]] = []
        self.steps: list[Callable[[list[Enclosure], Sizes], Enclosure]] = []
        self.outputs: list[tuple[str, int]] = []
        self.made: list[Made] = []
        self.may_be_empty = True

    def make(self) -> RandomKernel:
        rng = self.rng
        kind = rng.choice(("chain", "chain", "chain", "rows", "rows", "product", "product"))
        symbols = ["A", "B", "C", "D"][: rng.randint(1, 3) if kind == "chain" else rng.randint(2, 3)]
        dtype = (
            rng.choice(("fp32", "fp16", "bf16", "int32")) if kind == "chain" else rng.choice(("fp32", "fp16", "bf16"))
        )
        if kind == "product":
            symbols += ["N", "K"]
            self._declare_product(rng, symbols)
        else:
            self._declare(rng, symbols, dtype)
        self.k = k = KernelBuilder(Graph(f"seed{self.seed}", tuple(self._params())))
        for at, (name, own, dims) in enumerate(self.params):
            self.made.append(Made(k.load(ParamRef(name, self._type(own, dims))), dims, own, at))
        if kind == "product":
            self._product()
        if kind == "rows":
            self._softmax_like()
        for _ in range(rng.randint(1, 7)):
            self._step()
        self._store()
        used = {dim for _, _, dims in self.params for dim in dims if isinstance(dim, str)}
        names = tuple(name for name in symbols if name in used)
        return RandomKernel(
            self.seed, Kernel(k.graph), tuple(self.params), self.steps, self.outputs, names, self.may_be_empty
        )

    # Parameters.

    def _declare(self, rng: Random, symbols: Sequence[str], dtype: str) -> None:
        full = tuple(symbols)
        self.params.append(("x", dtype, full))
        for name in ("y", "z")[: rng.randint(0, 2)]:
            dims: Dims = tuple(1 if rng.random() < 0.35 else dim for dim in full)
            self.params.append((name, dtype, dims[rng.randint(0, len(dims) - 1) if rng.random() < 0.3 else 0 :]))

    def _declare_product(self, rng: Random, symbols: Sequence[str]) -> None:
        dtype = rng.choice(self.cube_dtypes)
        batch: Dims = tuple(symbols[1:-2])
        self.flip_a, self.flip_b, self.bias = (rng.random() < share for share in (0.25, 0.4, 0.3))
        a: Dims = ("K", symbols[0]) if self.flip_a else (symbols[0], "K")
        b: Dims = ("N", "K") if self.flip_b else ("K", "N")
        self.params.append(("x", dtype, (*batch, *a)))
        self.params.append(("y", dtype, (*(batch if rng.random() < 0.5 else ()), *b)))
        self.result: Dims = (*batch, symbols[0], "N")
        if self.bias:
            self.params.append(("z", dtype, ("N",)))
        if rng.random() < 0.4:
            self.params.append(("w", "fp32", self.result))

    def _params(self) -> list[Param]:
        return [Param(name, self._type(dtype, dims)) for name, dtype, dims in self.params]

    @staticmethod
    def _type(dtype: str, dims: Dims) -> Any:
        return parse_type(f"{dtype}[{', '.join(map(str, dims))}]")

    # Values.

    def _add(self, value: Value, dims: Dims, dtype: str, step: Callable[[list[Enclosure], Sizes], Enclosure]) -> Made:
        self.steps.append(step)
        made = Made(value, dims, dtype, len(self.params) + len(self.steps) - 1)
        self.made.append(made)
        return made

    def _of(self, made: Made, value: Value, function: Callable[[Enclosure], Enclosure], dtype: str = "") -> Made:
        """An element-wise operation on one value."""
        at = made.number
        return self._add(value, made.dims, dtype or made.dtype, lambda values, sizes: function(values[at]))

    def _with(
        self, a: Made, b: Made, value: Value, function: Callable[[Enclosure, Enclosure], Enclosure], dtype: str = ""
    ) -> Made:
        """An element-wise operation on two values."""
        one, two = a.number, b.number
        dims = _joined(a.dims, b.dims)
        return self._add(value, dims, dtype or a.dtype, lambda values, sizes: function(values[one], values[two]))

    def _pick(self) -> Made:
        """A value; later ones more often."""
        return self.made[max(self.rng.randrange(len(self.made)), self.rng.randrange(len(self.made)))]

    def _partner(self, a: Made) -> Made:
        """A value of the same dtype that broadcasts with `a`."""
        fitting = [each for each in self.made if each.dtype == a.dtype and _fits(each.dims, a.dims)]
        return self.rng.choice(fitting)

    # Operations.

    def _step(self) -> None:
        a = self._pick()
        if a.dtype == "bool":
            return
        steps = [self._binary, self._binary, self._scalar, self._compared, self._reduced, self._cast, self._moved]
        steps += [self._numbered, self._placed]
        if a.dtype != "int32":
            steps += [self._unary, self._unary, self._binary, self._reduced, self._divided, self._along]
        self.rng.choice(steps)(a)

    def _unary(self, a: Made) -> None:
        k, value = self.k, a.value
        name = self.rng.choice(_UNARY)
        absolute = known.EXP_BASED
        if name in ("log", "sqrt", "rsqrt", "reciprocal"):
            above = self._of(a, k.abs(value), lambda x: Enclosure(np.abs(x.value), x.error, x.dtype))
            above = self._of(above, above.value + 0.5, lambda x: known.add(x, _number(0.5, x.dtype)))
            functions: dict[str, Callable[[Array], Array]] = {
                "log": np.log, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x,
            }  # fmt: skip
            function = functions[name]
            self._of(above, getattr(k, name)(above.value), lambda x: known.monotone(function, x, 4.0, 1e-6))
        elif name == "exp":
            low = self._of(a, k.minimum(value, 2.5), lambda x: known.extreme(x, _number(2.5, x.dtype), False))
            self._of(low, k.exp(low.value), lambda x: known.monotone(np.exp, x, 4.0))
        elif name == "relu":
            self._of(a, k.relu(value), lambda x: Enclosure(np.maximum(x.value, 0), x.error, x.dtype))
        elif name == "neg":
            self._of(a, k.neg(value), lambda x: Enclosure(-x.value, x.error, x.dtype))
        elif name == "abs":
            self._of(a, k.abs(value), lambda x: Enclosure(np.abs(x.value), x.error, x.dtype))
        else:
            function, slope = _SMOOTH[name]
            low = self._of(a, k.minimum(value, 12.0), lambda x: known.extreme(x, _number(12.0, x.dtype), False))
            low = self._of(low, k.maximum(low.value, -12.0), lambda x: known.extreme(x, _number(-12.0, x.dtype), True))
            self._of(low, getattr(k, name)(low.value), lambda x: known.smooth(function, x, slope, 12 * absolute))

    def _binary(self, a: Made) -> None:
        b = self._partner(a)
        kinds = ("add", "sub", "max", "min", "mul") if a.dtype != "int32" else ("add", "sub", "max", "min")
        kind = self.rng.choice(kinds)
        functions: dict[str, Callable[[Enclosure, Enclosure], Enclosure]] = {
            "add": known.add,
            "sub": known.subtract,
            "mul": known.multiply,
            "max": lambda x, y: known.extreme(x, y, True),
            "min": lambda x, y: known.extreme(x, y, False),
        }
        methods = {
            "max": self.k.maximum,
            "min": self.k.minimum,
            "add": self.k.add,
            "sub": self.k.sub,
            "mul": self.k.mul,
        }
        self._with(a, b, methods[kind](a.value, b.value), functions[kind])

    def _scalar(self, a: Made) -> None:
        number = self.rng.choice((2, 3, -1, 7)) if a.dtype == "int32" else self.rng.choice((0.5, 2.0, -1.25, 0.1))
        held = float(np.asarray(number, dtype=NUMPY[a.dtype]))
        if self.rng.random() < 0.5:
            self._of(a, a.value + number, lambda x: known.add(x, _number(held, x.dtype)))
        else:
            self._of(a, a.value * number, lambda x: known.multiply(x, _number(held, x.dtype)))

    def _divided(self, a: Made) -> None:
        b = self._partner(a)
        below = self._of(b, self.k.abs(b.value), lambda x: Enclosure(np.abs(x.value), x.error, x.dtype))
        below = self._of(below, below.value + 0.5, lambda x: known.add(x, _number(0.5, x.dtype)))
        self._with(a, below, a.value / below.value, known.divide)

    def _compared(self, a: Made) -> None:
        b, c = self._partner(a), self._partner(a)
        mask = self._with(a, b, a.value < b.value, known.less, "bool")
        if not _fits(c.dims, mask.dims):
            return
        where, one, two = mask.number, a.number, c.number
        self._add(
            self.k.select(mask.value, a.value, c.value),
            _joined(_joined(mask.dims, a.dims), c.dims),
            a.dtype,
            lambda values, sizes: known.select(values[where], values[one], values[two]),
        )

    def _cast(self, a: Made) -> None:
        dtype = self.rng.choice([each for each in ("fp32", "fp16", "bf16", "int32") if each != a.dtype])
        self._of(a, self.k.cast(a.value, dtype), lambda x: known.cast(x, dtype), dtype)

    def _reduced(self, a: Made) -> None:
        if not a.dims:
            return
        rng, rank = self.rng, len(a.dims)
        axes = tuple(axis for axis in range(rank) if rng.random() < 0.5) or (rank - 1,)
        kind = rng.choice(("sum", "max", "min", "mean") if a.dtype != "int32" else ("sum", "max", "min"))
        self._reduce(a, kind, axes, rng.random() < 0.7)

    def _reduce(self, a: Made, kind: str, axes: tuple[int, ...], keepdims: bool) -> Made:
        if kind != "sum":
            self.may_be_empty = False
        function: Callable[[Enclosure], Enclosure]
        if kind in ("sum", "mean"):

            def function(x: Enclosure) -> Enclosure:
                return known.total(x, axes, keepdims, kind == "mean")
        else:

            def function(x: Enclosure) -> Enclosure:
                return known.best(x, axes, keepdims, kind == "max")

        value = getattr(self.k, kind)(a.value, axes, keepdims=keepdims)
        at = a.number
        dims = tuple(1 if axis in axes else dim for axis, dim in enumerate(a.dims) if keepdims or axis not in axes)
        return self._add(value, dims, a.dtype, lambda values, sizes: function(values[at]))

    def _along(self, a: Made) -> None:
        """Sums up to each element of the last axis."""
        if not a.dims or a.dtype != "fp32":
            return
        axis = self.rng.randrange(len(a.dims))
        self._of(a, self.k.cumsum(a.value, axis), lambda x: known.running(x, axis))

    def _moved(self, a: Made) -> None:
        """Elements in other places, stored at once, since they broadcast with nothing else."""
        rng, k, rank = self.rng, self.k, len(a.dims)
        kind = rng.choice(("permute", "flat", "slice", "concat", "pad", "flip"))
        if not rank:
            return
        at = a.number
        axis = rng.randrange(rank)
        move: Callable[[Array], Array]
        if kind == "permute":
            order = rng.sample(range(rank), rank)
            value, move = k.permute(a.value, order), lambda x: np.transpose(x, order)
        elif kind == "flat":
            value, move = k.reshape(a.value, "-1"), lambda x: x.reshape(-1)
        elif kind == "flip":
            value, move = k.flip(a.value, axis), lambda x: np.flip(x, axis)
        elif kind == "slice":
            start, step = rng.randint(0, 2), rng.randint(1, 2)
            places = tuple(slice(start, None, step) if each == axis else slice(None) for each in range(rank))
            value, move = k.slice(a.value, (start,), None, (step,), axes=(axis,)), lambda x: x[places]
        elif kind == "concat":
            value, move = k.concat([a.value, a.value], axis), lambda x: np.concatenate([x, x], axis)
        else:
            low, high = rng.randint(0, 3), rng.randint(0, 3)
            pads = [(low, high) if each == axis else (0, 0) for each in range(rank)]
            value, move = k.pad(a.value, {axis: (low, high)}), lambda x: np.pad(x, pads)
        self._later(value, lambda values: known.moved(values[at], move))

    def _numbered(self, a: Made) -> None:
        """Plus the number of each element along an axis."""
        if not a.dims:
            return
        axis = self.rng.randrange(len(a.dims))
        numbers = self.k.iota(a.dims, axis, dtype=a.dtype)
        self._of(a, a.value + numbers, lambda x: known.add(x, known.exact(_numbers(x.value.shape, axis), x.dtype)))

    def _placed(self, a: Made) -> None:
        """Places of the largest elements of a parameter, what lies there, all in order; nothing that rounding may turn over."""
        a = self.made[0]
        rank, at = len(a.dims), a.number
        axis = self.rng.randrange(rank)
        kind = self.rng.choice(("argmax", "argmin", "rows", "order"))
        if kind in ("argmax", "argmin"):
            self.may_be_empty = False
            find = np.argmax if kind == "argmax" else np.argmin
            dims: Dims = tuple(1 if each == axis else dim for each, dim in enumerate(a.dims))
            self._add(
                getattr(self.k, kind)(a.value, axis, keepdims=True),
                dims,
                "int32",
                lambda values, sizes: known.exact(find(values[at].value, axis=axis, keepdims=True), "int32"),
            )
        elif kind == "rows" and rank == 2:
            self.may_be_empty = False
            rows = self.k.gather(a.value, self.k.argmax(a.value, 0))
            self._later(
                rows, lambda values: known.moved(values[at], lambda x: np.take(x, values[at].value.argmax(0), 0))
            )
        elif kind == "order" and rank <= 2:
            ordered, places = self.k.topk(a.value, a.dims[-1])
            self._later(ordered, lambda values: known.moved(values[at], lambda x: -np.sort(-x, axis=-1)))
            self._later(
                places, lambda values: known.exact(np.argsort(-values[at].value, axis=-1, kind="stable"), "int32")
            )

    def _later(self, value: Value, step: Callable[[list[Enclosure]], Enclosure]) -> None:
        """A value that is stored at once."""
        self.steps.append(lambda values, sizes: step(values))
        self._output(value, len(self.params) + len(self.steps) - 1)

    # Whole patterns.

    def _softmax_like(self) -> None:
        """Numbers of each row less its largest, their powers, over their sum; or normalised by mean and variance."""
        k, x = self.k, self.made[0]
        last = (len(x.dims) - 1,)
        if self.rng.random() < 0.5:
            top = self._reduce(x, "max", last, True)
            low = self._with(x, top, x.value - top.value, known.subtract)
            powers = self._of(low, k.exp(low.value), lambda each: known.monotone(np.exp, each, 4.0))
            whole = self._reduce(powers, "sum", last, True)
            self._with(powers, whole, powers.value / whole.value, known.divide)
        else:
            mean = self._reduce(x, "mean", last, True)
            centred = self._with(x, mean, x.value - mean.value, known.subtract)
            square = self._with(centred, centred, centred.value * centred.value, known.multiply)
            spread = self._reduce(square, "mean", last, True)
            above = self._of(spread, spread.value + 0.25, lambda each: known.add(each, _number(0.25, each.dtype)))
            scale = self._of(
                above, k.rsqrt(above.value), lambda each: known.monotone(lambda v: 1 / np.sqrt(v), each, 4.0, 1e-6)
            )
            self._with(centred, scale, centred.value * scale.value, known.multiply)

    def _product(self) -> None:
        """A matrix product, first of all."""
        a, b = self.made[:2]
        bias = self.made[2] if self.bias else None
        flips = self.flip_a, self.flip_b
        dtype = self.rng.choice((a.dtype, "fp32"))
        value = self.k.matmul(
            a.value,
            b.value,
            transpose_a=flips[0],
            transpose_b=flips[1],
            bias=None if bias is None else bias.value,
            dtype=dtype,
        )

        def multiplied(values: list[Enclosure], sizes: Sizes) -> Enclosure:
            left, right = (
                known.moved(each, lambda x: np.swapaxes(x, -1, -2)) if flip else each
                for each, flip in zip(values[:2], flips, strict=True)
            )
            return known.product(left, right, None if bias is None else values[2], dtype)

        self._add(value, self.result, dtype, multiplied)

    # Outputs.

    def _output(self, value: Value, number: int) -> None:
        name = f"r{len(self.outputs)}"
        self.k.store(value, name=name)
        self.outputs.append((name, number))

    def _store(self) -> None:
        """The last value, and sometimes another one."""
        fresh = [each for each in self.made if each.number >= len(self.params)]
        if not fresh:
            fresh = [self._of(self.made[0], self.k.abs(self.made[0].value), lambda x: known.moved(x, np.abs))]
        self._output(fresh[-1].value, fresh[-1].number)
        if len(fresh) > 1 and self.rng.random() < 0.4:
            other = self.rng.choice(fresh[:-1])
            self._output(other.value, other.number)


_UNARY = ["exp", "log", "sqrt", "rsqrt", "reciprocal", "relu", "tanh", "sigmoid", "silu", "gelu", "erf", "neg", "abs"]
_ERF = np.vectorize(erf, otypes=[np.float64])
_SMOOTH: dict[str, tuple[Callable[[Array], Array], float]] = {
    "tanh": (np.tanh, 1.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 0.25),
    "silu": (lambda x: x / (1 + np.exp(-x)), 1.1),
    "gelu": (lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))), 1.13),
    "erf": (lambda x: _erf(x), 1.13),
}


def _erf(x: Array) -> Array:
    return np.asarray(_ERF(x)) if x.size else np.zeros(x.shape)


def _numbers(shape: tuple[int, ...], axis: int) -> Array:
    """The number of each element along an axis."""
    return np.indices(shape)[axis] if all(shape) else np.zeros(shape)


def _number(number: float, dtype: str) -> Enclosure:
    return known.exact(np.asarray(number, dtype=NUMPY[dtype]), dtype)


def _fits(a: Dims, b: Dims) -> bool:
    """Whether two shapes broadcast."""
    return all(one == two or 1 in (one, two) for one, two in zip(reversed(a), reversed(b), strict=False))


def _joined(a: Dims, b: Dims) -> Dims:
    rank = max(len(a), len(b))
    one, two = ((1,) * (rank - len(each)) + each for each in (a, b))
    return tuple(right if left == 1 else left for left, right in zip(one, two, strict=True))
