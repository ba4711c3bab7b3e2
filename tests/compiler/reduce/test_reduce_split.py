"""Reduces that cores share: right for all dims, types and tails, and the same bits whatever the number of cores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.compiler.graphs import CASTS, build
from tests.compiler.properties.random_run import run_seed
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import (
    CompileError,
    Kernel,
    KernelBuilder,
    ParamRef,
    Pins,
    compile_kernel,
    kernel,
    parallel,
    renamed,
)
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.reduce.family import ChunkFamily, PlannedChunks
from npuvm.compiler.reduce.launches import Reduced, ReduceFamily
from npuvm.compiler.reduce.parts import reduce_parts
from npuvm.compiler.vector.family import VectorFamily
from npuvm.hw.config import load_chip
from npuvm.isa import disassemble
from npuvm.runtime import Device

Array = npt.NDArray[Any]

_NAMES = "ABCD"


@cache
def device_of(chip: str, *overrides: str) -> Device:
    """A device that finds hazards; its memory holds what earlier tests left."""
    return Device(chip, list(overrides), hazards="raise")


@cache
def reduction(op: str, rank: int, axes: int | tuple[int, ...], dtype: str) -> Kernel:
    """One reduce of one tensor."""

    @kernel(x=f"{dtype}[{', '.join(_NAMES[:rank])}]")
    def reduced(k: KernelBuilder, x: ParamRef) -> None:
        value = k.load(x)
        k.store(getattr(k, op)(value, axes) if op.startswith("arg") else getattr(k, op)(value, axes=axes))

    return reduced


def run(made: Kernel, inputs: dict[str, Array], device: Device, pins: Pins | None = None) -> list[Array]:
    """The outputs, with the static verifier and the hazard checker."""
    device.launches.clear()
    outputs = device.run(made, {name: device.tensor(each) for name, each in inputs.items()}, pins)
    return [device.read(each) for each in outputs.values()]


def cores_of(device: Device) -> int:
    """Cores of the only launch."""
    (launch,) = device.launches
    return len(launch.image.entries)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    ("op", "shape", "axes"),
    [
        ("sum", (100_003,), 0),
        ("max", (65_536,), 0),
        ("sum", (5000, 37), 0),
        ("min", (3, 70_001), 1),
        ("sum", (3, 3001, 33), 1),
        ("max", (2, 40, 1200, 5), (1, 2)),
        ("sum", (300, 5, 67), (0, 1, 2)),
    ],
)
def test_any_dims(chip: str, op: str, shape: tuple[int, ...], axes: int | tuple[int, ...]) -> None:
    """Whole numbers, whose sums are exact in any order."""
    device = device_of(chip)
    x = np.random.default_rng(len(shape)).integers(-40, 41, shape).astype(np.float32)
    (got,) = run(reduction(op, len(shape), axes, "fp32"), {"x": x}, device)
    # Chunks that few cores have are joined sooner.
    assert 2 * cores_of(device) >= device.chip.cores_with("vector")
    np.testing.assert_array_equal(got, getattr(np, op)(x, axis=axes))


@pytest.mark.parametrize(
    ("op", "dtypes"),
    [
        ("sum", "fp32 fp16 bf16 int32"),
        ("mean", "fp32 fp16 bf16"),
        ("max", "fp32 fp16 bf16 int32"),
        ("min", "fp32 fp16 bf16 int32"),
        ("prod", "fp32 fp16 int32"),
        ("argmax", "fp32 int32"),
        ("argmin", "bf16"),
    ],
)
def test_any_reduce(op: str, dtypes: str) -> None:
    for dtype in dtypes.split():
        check_reduce(op, dtype)


def check_reduce(op: str, dtype: str) -> None:
    """One reduce of one row, or of columns."""
    shape, axis = ((90_001,) if op in ("sum", "prod", "argmax") else (7001, 10)), 0
    device = device_of("ascend_910b1", "core.count=4")
    rng = np.random.default_rng(3)
    # Products of signs and few twos are exact, so are sums below 2048 in fp16 and 256 in bf16.
    values = rng.permutation(np.resize([1, -1, 1, 1, -1], shape[0])) if op == "prod" else rng.integers(-9, 10, shape[0])
    if op in ("sum", "mean"):
        values[-200:], values[:-200] = 1, 0
    x = np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape).astype(DTYPES[dtype].numpy)
    if op.startswith("arg"):
        x = x.copy()
        x[50_000 % shape[0]] = 11 if op == "argmax" else -11
    (got,) = run(reduction(op, len(shape), axis, dtype), {"x": np.ascontiguousarray(x)}, device)
    wide = x.astype(np.int64 if dtype == "int32" else np.float64)
    expected = getattr(np, op)(wide, axis=axis)
    if op == "mean":
        np.testing.assert_allclose(got.astype(np.float64), expected, rtol=1e-2)
    else:
        np.testing.assert_array_equal(got.astype(expected.dtype), expected)


def planned_chunks(family: ChunkFamily, *sizes: int) -> PlannedChunks | None:
    """The chunks of a shape."""
    shape = family.at(sizes)
    assert shape is not None
    return shape.plan()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("chip", CHIPS)
def test_no_chunks_take_less_than_memory_does(axis: int, chip: str) -> None:
    """The bound below which no chunks are looked for is one for all that are found."""
    made = reduction("sum", 2, axis, "fp32")
    (segment,) = make_plan(made.graph, CASTS, whole_rows=False).segments
    assert isinstance(segment, VectorSegment)
    parts = reduce_parts(segment)
    assert parts is not None
    family = ChunkFamily(parts.segments[0], ("A", "B"), the_chip(chip), the_isa())
    rng, found = Random(chip), 0
    for _ in range(100):
        sizes = int(2 ** rng.uniform(0, 20)), int(2 ** rng.uniform(0, 10))
        sizes = sizes if axis == 0 else sizes[::-1]
        shape, planned = family.at(sizes), planned_chunks(family, *sizes)
        assert shape is not None
        assert shape.least_cycles() == pytest.approx(prod(sizes) * 4 / float(the_chip(chip).hbm_bytes_per_cycle))
        if planned is not None:
            found += 1
            assert shape.least_cycles() <= planned.fair_cycles
    assert found > 5


def test_last_chunks_of_every_length() -> None:
    """Of one element, of less than a tile, of some of its tiles, of all."""
    made, device = reduction("sum", 1, 0, "int32"), device_of("ascend_910b1", "core.count=4")
    (segment,) = make_plan(made.graph, CASTS, whole_rows=False).segments
    assert isinstance(segment, VectorSegment)
    family = ReduceFamily.of(segment, VectorFamily(segment, ("A",), device.chip, the_isa()), ("A",))
    assert family is not None
    planned, same = family.planned((700_000,)), 0
    assert planned is not None
    (chunks,) = [each.chunks for each in planned.values()]
    assert chunks.length > chunks.edge
    for rest in (1, chunks.edge + 1, chunks.length):
        size = (chunks.number - 1) * chunks.length + rest
        planned = family.planned((size,))
        same += planned is not None and [each.chunks for each in planned.values()] == [chunks]
        x = np.random.default_rng(size).integers(-(1 << 31), 1 << 31, size).astype(np.int32)
        np.testing.assert_array_equal(run(made, {"x": x}, device)[0], x.sum(dtype=np.int32))
    assert same > 1


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("size", [1, 2, 33, 300])
def test_squares(size: int, chip: str) -> None:
    """Rows and columns of one name: where columns are single ones, there is nothing to reduce."""

    @kernel(x="fp32[M, M]")
    def columns(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.max(k.load(x), 0))

    x = np.random.default_rng(size).standard_normal((size, size)).astype(np.float32)
    device = device_of(chip)
    np.testing.assert_array_equal(device.run(columns, {"x": device.tensor(x)})["out0"].numpy(), x.max(0))


def test_the_place_of_the_only_element() -> None:
    """Which nothing has to be loaded for, also where a program is written for the one shape."""
    for pins in (None, Pins(cores=1)):
        (got,) = run(reduction("argmax", 1, 0, "fp32"), {"x": np.ones(1, np.float32)}, device_of("edge"), pins)
        assert got == 0


def test_nan_and_infinity_are_seen() -> None:
    x = np.zeros(80_000, np.float32)
    x[77_777] = np.nan
    device = device_of("ascend_910b1")
    for op in ("sum", "max", "min"):
        assert np.isnan(run(reduction(op, 1, 0, "fp32"), {"x": x}, device)[0])
    x[77_777] = -np.inf
    assert run(reduction("min", 1, 0, "fp32"), {"x": x}, device)[0] == -np.inf
    assert run(reduction("max", 1, 0, "fp32"), {"x": x}, device)[0] == 0
    x[:] = -np.inf
    assert run(reduction("max", 1, 0, "fp32"), {"x": x}, device)[0] == -np.inf


_SHAPES: list[tuple[tuple[int, ...], int | tuple[int, ...]]] = [
    ((200_003,), 0),
    ((5000, 37), 0),
    ((2000, 129), 0),
    ((300, 4097), 0),
    ((3, 70_001), 1),
    ((60, 20_001), 1),
    ((30, 70, 100), 1),
    ((7, 5, 9001), (0, 2)),
    ((300, 501), (0, 1)),
]


@pytest.mark.parametrize(("shape", "axes"), _SHAPES)
def test_the_same_bits_on_any_number_of_cores(shape: tuple[int, ...], axes: int | tuple[int, ...]) -> None:
    made = reduction("sum", len(shape), axes, "fp32")
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    device = device_of("ascend_910b1")
    (first,) = run(made, {"x": x}, device)
    np.testing.assert_allclose(first, np.sum(x.astype(np.float64), axis=axes), rtol=1e-4, atol=1e-2)
    for cores in (1, 2, 3, 24) if len(shape) == 1 else (3, 24):
        (again,) = run(made, {"x": x}, device, Pins(cores=cores))
        assert again.tobytes() == first.tobytes()
    (again,) = run(made, {"x": x}, device_of("ascend_910b1", "core.count=7"))
    assert again.tobytes() == first.tobytes()


@pytest.mark.parametrize("chip", CHIPS)
def test_what_follows_and_what_stands_beside(chip: str) -> None:
    """Values that are used before, after and beside reduces, by both parts; and two reduces of one segment."""

    @kernel(x="fp16[M, N]", b="fp32[N]", g="fp16[M, 1]")
    def norm(k: KernelBuilder, x: ParamRef, b: ParamRef, g: ParamRef) -> None:
        wide = k.cast(k.load(x), "fp32") * k.cast(k.load(g), "fp32")
        shift = k.load(b) * 2.0
        k.store(wide, name="wide")
        k.store(k.sum(wide, 0) + shift, name="sums")
        k.store(k.cast(k.max(wide - shift, 0), "fp16"), name="most")
        k.store(shift, name="shift")

    rng = np.random.default_rng(5)
    x, b = rng.integers(-4, 5, (4001, 24)).astype(np.float16), rng.integers(-4, 5, 24).astype(np.float32)
    g = rng.integers(-2, 3, (4001, 1)).astype(np.float16)
    wide, sums, most, shift = run(norm, {"x": x, "b": b, "g": g}, device_of(chip))
    expected = x.astype(np.float32) * g.astype(np.float32)
    np.testing.assert_array_equal(wide, expected)
    np.testing.assert_array_equal(sums, expected.sum(axis=0) + 2 * b)
    np.testing.assert_array_equal(most, (expected - 2 * b).max(axis=0).astype(np.float16))
    np.testing.assert_array_equal(shift, 2 * b)


def test_a_reduce_of_everything_beside_what_has_other_shapes() -> None:
    """Operands of one shape are one dim; what is added to rows, or used again, is not."""

    @kernel(x="fp16[M, N]", y="fp32[M, N]", b="fp32[N]")
    def losses(k: KernelBuilder, x: ParamRef, y: ParamRef, b: ParamRef) -> None:
        k.store(k.sum(k.load(x), axes=(0, 1), keepdims=True), name="ones")
        difference = k.load(y) - 1.0
        k.store(k.mean(difference * difference), name="squares")
        shifted = k.load(y) + k.load(b)
        k.store(k.sum(shifted), name="all")
        k.store(shifted, name="shifted")

    rng = np.random.default_rng(8)
    x = (rng.random((300, 501)) < 0.01).astype(np.float16)
    y, b = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((300, 501), (501,)))
    device = device_of("ascend_910b1")
    ones, squares, everything, shifted = run(losses, {"x": x, "y": y, "b": b}, device)
    np.testing.assert_array_equal(ones, [[np.float16(x.astype(np.float64).sum())]])
    np.testing.assert_allclose(squares, ((y - 1) ** 2).mean(), rtol=1e-6)
    assert everything == (y + b).sum()
    np.testing.assert_array_equal(shifted, y + b)


@pytest.mark.parametrize("op", ["sum", "max", "mean"])
def test_rows_that_fit_one_core_are_shared_where_they_are_few(op: str) -> None:
    device = device_of("ascend_910b1")
    x = np.random.default_rng(4).integers(-9, 10, (1, 32_000)).astype(np.float32)
    (got,) = run(reduction(op, 2, 1, "fp32"), {"x": x}, device)
    np.testing.assert_allclose(got, getattr(np, op)(x.astype(np.float64), axis=1), rtol=1e-6)
    assert all(len(launch.image.entries) > 1 for launch in device.launches)


def test_softmax_of_few_long_rows() -> None:
    """A maximum and a sum that follow each other, each of them shared."""

    @kernel(x="fp32[M, N]")
    def softmax(k: KernelBuilder, x: ParamRef) -> None:
        value = k.load(x)
        risen = k.exp(value - k.max(value, -1, keepdims=True))
        k.store(risen / k.sum(risen, -1, keepdims=True))

    device = device_of("ascend_910b1")
    x = np.random.default_rng(0).standard_normal((2, 60_013)).astype(np.float32)
    (got,) = run(softmax, {"x": x}, device)
    risen = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(got, risen / risen.sum(axis=1, keepdims=True), rtol=1e-4)
    assert all(len(launch.image.entries) > len(x) for launch in device.launches)


@pytest.mark.parametrize(
    ("chip", "dtype"), [(CHIPS[0], "bf16"), (CHIPS[1], "fp32"), (CHIPS[1], "int32"), (CHIPS[2], "fp16")]
)
def test_sums_that_are_added_in_memory(chip: str, dtype: str) -> None:
    """Into the output, which is cleared first, and into a workspace where something follows."""

    @kernel(x=f"{dtype}[M, N]", y=f"{dtype}[A]")
    def sums(k: KernelBuilder, x: ParamRef, y: ParamRef) -> None:
        k.pin(reduce="atomic")
        k.store(k.sum(k.load(x), 0, keepdims=True))
        k.store(k.sum(k.load(y)) * 2)

    rng = np.random.default_rng(7)
    # So few ones that bf16 has their number.
    x, y = (rng.integers(0, 2, shape) * (rng.random(shape) < 0.004) for shape in ((6001, 20), (90_001,)))
    x, y = (each.astype(DTYPES[dtype].numpy) for each in (x, y))
    device = device_of(chip)
    columns, total = run(sums, {"x": x, "y": y}, device)
    wide = np.dtype(np.int64 if dtype == "int32" else np.float64)
    np.testing.assert_array_equal(columns.astype(wide), x.astype(wide).sum(axis=0, keepdims=True))
    np.testing.assert_array_equal(total.astype(wide), (2 * y.astype(wide).sum()).astype(total.dtype).astype(wide))
    text = "".join(disassemble(device.isa, launch.image) for launch in device.launches)
    assert chip == "edge" or "stadd" in text


def test_what_cannot_be_added_in_memory() -> None:
    x = device_of("edge").tensor(np.ones((5, 70_000), np.float32))
    with pytest.raises(CompileError, match=r'reduce_max has no atomic store; pin reduce = "atomic" is for sums'):
        device_of("edge").run(reduction("max", 2, 0, "fp32"), {"x": x}, Pins(reduce="atomic"))
    with pytest.raises(CompileError, match=r"pin reduce = 'any' cannot be honoured; allowed: ordered, atomic"):
        Pins(reduce="any")
    plain = device_of("edge").read(
        device_of("edge").run(reduction("sum", 2, 0, "fp32"), {"x": x}, Pins(reduce="ordered"))["out0"]
    )
    np.testing.assert_array_equal(plain, 5)


@cache
def prefix_sums(rank: int, axis: int, dtype: str, exclusive: bool) -> Kernel:
    """Prefix sums, with something before and after them."""

    @kernel(x=f"{dtype}[{', '.join(_NAMES[:rank])}]")
    def summed(k: KernelBuilder, x: ParamRef) -> None:
        k.store(k.cumsum(k.load(x) * 2, axis, exclusive=exclusive) + 1)

    return summed


@pytest.mark.parametrize(
    ("chip", "dtype", "shape", "axis", "exclusive"),
    [
        ("ascend_910b1", "fp32", (100_003,), 0, True),
        ("ascend_910b1", "int32", (3, 140_001), 1, False),
        ("ascend_910b1", "fp32", (4001, 37), 0, False),
        ("ascend_910a", "int32", (2, 3001, 33), 1, False),
        ("ascend_910a", "bf16", (60_000,), 0, False),
        ("edge", "fp32", (30_001, 3), 0, False),
    ],
)
def test_prefix_sums(chip: str, dtype: str, shape: tuple[int, ...], axis: int, exclusive: bool) -> None:
    device = device_of(chip)
    x = np.random.default_rng(0).integers(-4, 5, shape).astype(DTYPES[dtype].numpy)
    (got,) = run(prefix_sums(len(shape), axis, dtype, exclusive), {"x": x}, device)
    assert len(device.launches[0].image.entries) >= min(24, device.chip.cores_with("vector"))
    sums = np.cumsum(x.astype(np.int64) * 2, axis=axis)
    if exclusive:
        sums -= x.astype(np.int64) * 2
    expected = sums.astype(DTYPES[dtype].numpy) + DTYPES[dtype].numpy.type(1)
    np.testing.assert_array_equal(got, expected.astype(DTYPES[dtype].numpy))


def test_prefix_sums_have_the_same_bits_and_end_in_infinity_where_they_must() -> None:
    made, device = prefix_sums(1, 0, "fp32", False), device_of("ascend_910b1")
    x = np.random.default_rng(4).standard_normal(90_001).astype(np.float32)
    x[50_000] = np.inf
    (first,) = run(made, {"x": x}, device)
    np.testing.assert_allclose(first[:50_000], np.cumsum(2.0 * x[:50_000]) + 1, rtol=1e-3, atol=1e-2)
    assert np.isposinf(first[50_000:]).all()
    for pins in (Pins(cores=1), Pins(cores=5), Pins(stack="launches")):
        assert run(made, {"x": x}, device, pins)[0].tobytes() == first.tobytes()
    (again,) = run(made, {"x": x}, device_of("ascend_910b1", "core.count=7"))
    assert again.tobytes() == first.tobytes()


def test_parts_are_one_launch_unless_they_are_asked_for_apart() -> None:
    chip, isa, made = the_chip("ascend_910b1"), the_isa(), reduction("sum", 1, 0, "fp32")
    shapes = {"x": (1 << 20,)}
    (launch,) = compile_kernel(made, shapes, chip, isa).launches
    assert (launch.segment, launch.kind) == ("v0", "stack")
    assert compile_kernel(made, shapes, chip, isa).launches[0] is launch
    names = [each.segment for each in compile_kernel(made, shapes, chip, isa, Pins(stack="launches")).launches]
    assert names == ["v0.chunks", "v0.join"]
    for pins in (Pins(stack="sequence"), Pins(stack="sequence", cores=5), Pins(cores=5)):
        assert len(compile_kernel(made, shapes, chip, isa, pins).launches) == 1
    (small,) = compile_kernel(made, {"x": (1000,)}, chip, isa).launches
    assert small.kind == "vector"


def test_in_stacks() -> None:
    """Beside another kernel and after one, on shares of the chip: the same bits as alone."""
    made, device = reduction("sum", 1, 0, "fp32"), device_of("ascend_910b1")
    x = np.random.default_rng(2).standard_normal(90_001).astype(np.float32)
    y = np.random.default_rng(3).standard_normal(120_000).astype(np.float32)
    alone = [run(made, {"x": each}, device)[0] for each in (x, y)]
    beside = parallel(renamed(made, x="a", out0="p"), renamed(made, x="b", out0="q"))
    outputs = device.run(beside, {"a": device.tensor(x), "b": device.tensor(y)})
    assert [device.read(outputs[name]).tobytes() for name in "pq"] == [each.tobytes() for each in alone]


def test_code_does_not_grow_with_the_tensor() -> None:
    made = reduction("sum", 2, 0, "fp32")
    shapes = [(1 << 20, 64), (99_999, 33), (1 << 24, 7)]
    kernels = [compile_kernel(made, {"x": shape}, the_chip("ascend_910b1"), the_isa()) for shape in shapes]
    assert len({len(each.launches[0].image.words) for each in kernels}) == 1


def test_chunks_follow_from_the_shape_and_cover_it() -> None:
    (segment,) = make_plan(build(lambda k, x: k.store(k.sum(x, axes=1)), x="fp32[M, K, N]"), CASTS).segments
    assert isinstance(segment, VectorSegment)
    parts = reduce_parts(segment)
    assert parts is not None
    chips = [load_chip("ascend_910b1"), load_chip("ascend_910b1", ["core.count=5"])]
    families = [ChunkFamily(parts.segments[0], ("M", "K", "N"), chip, the_isa()) for chip in chips]
    rng, cut = Random(0), 0
    for _ in range(300):
        values = rng.choice((1, 2, 5)), int(2 ** rng.uniform(0, 24)), int(2 ** rng.uniform(0, 9))
        first, second = (planned_chunks(family, *values) for family in families)
        assert (first is None) == (second is None)
        if first is None or second is None:
            continue
        chunks = first.chunks
        assert chunks == second.chunks
        assert chunks.length % chunks.edge == 0
        assert (chunks.number - 1) * chunks.length < values[1] <= chunks.number * chunks.length
        assert 2 <= chunks.number <= 192
        cut += 1
    assert cut > 100


def test_random_kernels_whose_cores_share_every_reduce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks however small, among all else that a kernel has: seeds whose kernels have reduces over tiles, five shapes each."""
    shared = 0
    launches = ReduceFamily.launches

    def counted(self: ReduceFamily, values: Sequence[int]) -> Reduced | None:
        nonlocal shared
        made = launches(self, values)
        shared += made is not None
        return made

    monkeypatch.setattr(ReduceFamily, "launches", counted)
    monkeypatch.setattr("npuvm.compiler.reduce.launches._WORTH", 1e-9)
    monkeypatch.setattr("npuvm.compiler.reduce.launches._JOIN_CYCLES", 0)
    monkeypatch.setattr("npuvm.compiler.reduce.choice.LEVELS", ((6, 1),))
    monkeypatch.setattr("npuvm.compiler.reduce.choice._LEAST_BYTES", 1)
    for seed in (2, 5, 14, 27):
        run_seed(seed)
    assert shared > 20
