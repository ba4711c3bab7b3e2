"""Cases of the matrix unit and of the moves before it: L1 to L0, accumulators preset, products."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from npuvm.isa.conformance.needs import type_pairs
from npuvm.isa.conformance.oracle_numbers import (
    FLOATS,
    STORAGE,
    Array,
    converted,
    edge_values,
    rounded,
    stored,
    wide,
)
from npuvm.isa.conformance.semantics_flow import Flow, accumulator
from npuvm.isa.conformance.target import Level, ProgramCase
from npuvm.isa.model import Isa

__all__ = ["cube_cases"]

_PRODUCTS: Mapping[str, tuple[int, int, int]] = {
    "one-element": (1, 1, 1),
    "no-m": (0, 4, 4),
    "no-n": (4, 0, 4),
    "no-k": (4, 4, 0),
    "blocks": (16, 16, 32),
    "tails": (5, 7, 9),
    "row-by-matrix": (1, 19, 33),
    "matrix-by-column": (17, 1, 3),
}
"""(m, n, k) by the name of their bin."""

_MOVES: Mapping[str, tuple[int, int]] = {
    "one-element": (1, 1),
    "no-rows": (0, 5),
    "no-columns": (5, 0),
    "tail": (3, 17),
    "column": (7, 1),
    "block": (16, 16),
    "row-again": (4, 9),
}
"""(rows, cols) of a moved tile, by the name of its bin."""


def cube_cases(isa: Isa, seed: int) -> Iterator[ProgramCase]:
    """Moves, products and accumulators out in every data type."""
    for name in ("mvl0a", "mvl0at", "mvl0b", "mvl0bt"):
        for index, (dtype, _) in enumerate(type_pairs(isa, name)):
            yield _move(name, dtype, np.random.default_rng([seed, index, 11]))
    for dtype, _ in type_pairs(isa, "mvl0c"):
        yield _preset(dtype)
    for name in ("mma", "mmac"):
        for index, (dtype, _) in enumerate(type_pairs(isa, name)):
            random = np.random.default_rng([seed, index, 12])
            yield _products(name, dtype, random)
            if dtype in FLOATS:
                yield _random_product(name, dtype, random)


def _case(
    name: str,
    types: str,
    suffix: str,
    flow: Flow,
    expected: Sequence[Array],
    covered: Sequence[str],
    tolerance: int = 0,
) -> ProgramCase:
    after = np.concatenate([each.reshape(-1) for each in expected])
    prefix = f"semantics/{name}/{types}"
    return ProgramCase(
        id=prefix + suffix,
        level=Level.SEMANTICS,
        chip="edge",
        text=flow.text(),
        arguments=(np.frombuffer(bytes(flow.read), np.uint8), np.zeros_like(after)),
        expected={1: after},
        bins=tuple(f"{prefix}/{what}" for what in covered),
        tolerance=tolerance,
    )


def _finite(dtype: str) -> Array:
    """Edge values that survive a product with 1 and a sum with 0: no infinity, no NaN, no negative zero."""
    values = edge_values(dtype)
    exact = wide(values).astype(np.float64)
    finite: Array = values[np.isfinite(exact) & ~((exact == 0) & np.signbit(exact))]
    return finite


def _move(name: str, dtype: str, random: np.random.Generator) -> ProgramCase:
    """Tiles moved over ones of 1, and multiplied with the identity; a tile without rows or columns leaves the ones."""
    flow, results, at = Flow(), list[Array](), 0
    left, transposed = name.startswith("mvl0a"), name.endswith("t")
    space, other, acc = ("l0a", "l0b", accumulator(dtype)) if left else ("l0b", "l0a", accumulator(dtype))
    for what, (rows, cols) in _MOVES.items():
        shape = (max(rows, 1), max(cols, 1))
        values = random.choice(_finite(dtype), shape)
        if what == "row-again":
            values[...] = values[:1] if not transposed else values[:, :1]
        item = values.dtype.itemsize
        ones = np.ones(shape, values.dtype)
        target = flow.tile(space, shape, item)
        full = flow.sizes(rows=shape[0], cols=shape[1])
        flow.add("move", f"mv{space}.{dtype} dst={target} src={flow.load(ones, dtype)} {full}")
        source = np.ascontiguousarray(values.T) if transposed else values
        moved = flow.load(source, dtype, again=what == "row-again")
        flow.add("move", f"{name}.{dtype} dst={target} src={moved} {flow.sizes(rows=rows, cols=cols)}")
        identity = np.eye(shape[1] if left else shape[0]).astype(values.dtype)
        size = len(identity)
        kept = flow.tile(other, (size, size), item)
        flow.add(
            "move", f"mv{other}.{dtype} dst={kept} src={flow.load(identity, dtype)} {flow.sizes(rows=size, cols=size)}"
        )
        product = flow.tile("l0c", shape, 4)
        operands = f"a={target} b={kept}" if left else f"a={kept} b={target}"
        extents = flow.sizes(m=shape[0], n=shape[1], k=size)
        flow.add("cube", f"mma.{dtype} dst={product} {operands} {extents}")
        at = flow.out(product, *shape, acc, at)
        result = values if rows and cols else ones
        results.append(wide(result).astype(STORAGE[acc]))
    return _case(name, dtype, "", flow, results, tuple(_MOVES))


def _preset(dtype: str) -> ProgramCase:
    """Accumulators set from L1 in their own type: every edge value, a row again and again, tiles of every size."""
    flow, results, at = Flow(), list[Array](), 0
    acc = accumulator(dtype)
    edges = edge_values(dtype)
    for what, (rows, cols) in _MOVES.items():
        shape = (max(rows, 1), max(cols, 1))
        values = np.resize(edges, shape) if what != "row-again" else np.resize(edges[: shape[1]], shape)
        target = flow.tile("l0c", shape, 4)
        ones = np.ones(shape, values.dtype)
        flow.add(
            "move",
            f"mvl0c.{dtype} dst={target} src={flow.load(ones, dtype)} {flow.sizes(rows=shape[0], cols=shape[1])}",
        )
        source = flow.load(values, dtype, again=what == "row-again")
        flow.add("move", f"mvl0c.{dtype} dst={target} src={source} {flow.sizes(rows=rows, cols=cols)}")
        at = flow.out(target, *shape, acc, at)
        results.append(converted(wide(values if rows and cols else ones), acc))
    return _case("mvl0c", dtype, "", flow, results, tuple(_MOVES))


def _multiply(flow: Flow, name: str, dtype: str, tiles: tuple[Array, Array, Array], sizes: tuple[int, int, int]) -> str:
    """Preset accumulators, bring two tiles to L0 and multiply them; the accumulators' descriptor."""
    a, b, old = tiles
    item = a.dtype.itemsize
    left, right = flow.tile("l0a", a.shape, item), flow.tile("l0b", b.shape, item)
    target = flow.tile("l0c", old.shape, 4)
    preset = dtype if dtype == "int8" else "fp32"
    for operand, values, place, kind in (("a", a, left, dtype), ("b", b, right, dtype), ("c", old, target, preset)):
        rows, cols = values.shape
        source = flow.load(values, kind)
        flow.add("move", f"mvl0{operand}.{kind} dst={place} src={source} {flow.sizes(rows=rows, cols=cols)}")
    m, n, k = sizes
    flow.add("cube", f"{name}.{dtype} dst={target} a={left} b={right} {flow.sizes(m=m, n=n, k=k)}")
    return target


def _products(name: str, dtype: str, random: np.random.Generator) -> ProgramCase:
    """Products of whole numbers, which are exact in any order; of int8 also the largest; of floats also NaN and infinities."""
    flow, results, at = Flow(), list[Array](), 0
    acc, kind = accumulator(dtype), STORAGE[dtype]
    for what, (m, n, k) in (*_PRODUCTS.items(), ("extremes", (3, 4, 8))):
        shapes = [(max(m, 1), max(k, 1)), (max(k, 1), max(n, 1)), (max(m, 1), max(n, 1))]
        a, b, old = (random.integers(-8, 9, shape) for shape in shapes)
        a, b = a.astype(kind), b.astype(kind)
        if what == "extremes":
            a, b = _extremes(a, b)
        old = old.astype(np.int8 if dtype == "int8" else np.float32)
        target = _multiply(flow, name, dtype, (a, b, old), (m, n, k))
        at = flow.out(target, *shapes[2], acc, at)
        result = wide(old)
        if m and n and k:
            with np.errstate(all="ignore"):
                product = (wide(a)[:, :, None] * wide(b)[None, :, :]).sum(axis=1)
                result = product + (result if name == "mmac" else 0)
        results.append(stored(result, acc))
    return _case(name, dtype, "", flow, results, (*_PRODUCTS, "extremes"))


def _extremes(a: Array, b: Array) -> tuple[Array, Array]:
    """Rows with the largest numbers, with infinity, and with NaN, over a matrix of numbers above 0."""
    if a.dtype.kind == "i":
        a[0], a[1], b[:, :2] = -128, 127, -128
        return a, b
    name = next(each for each, dtype in STORAGE.items() if dtype == a.dtype)
    b = np.ones_like(b)
    a[0], a[1] = np.nan, 0
    a[1, 0] = FLOATS[name].top
    if FLOATS[name].infinite:
        a[2, 3] = -np.inf
    return a, b


def _random_product(name: str, dtype: str, random: np.random.Generator) -> ProgramCase:
    """A product of numbers above 0, whose error has a bound in any order: half a place for each of 48 additions."""
    flow = Flow()
    a, b = (stored(random.uniform(0.5, 2.0, shape), dtype) for shape in ((11, 48), (48, 13)))
    old = stored(random.uniform(0.5, 2.0, (11, 13)), "fp32")
    target = _multiply(flow, name, dtype, (a, b, old), (11, 13, 48))
    flow.out(target, 11, 13, "fp32", 0)
    result = wide(a) @ wide(b) + (wide(old) if name == "mmac" else 0)
    return _case(name, dtype, "/random", flow, [stored(rounded(result, "fp32"), "fp32")], (), tolerance=48)
