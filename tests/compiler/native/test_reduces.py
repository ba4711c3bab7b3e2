"""Machine code decides about reduces what Python decides: chunks, ways, tiles and estimates, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.compiler.graphs import CASTS
from tests.compiler.vector_run import CHIPS, the_chip, the_isa

from npuvm.compiler import Kernel, KernelBuilder, ParamRef, kernel
from npuvm.compiler.native.loading import load_native, unload_native
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.reduce.choice import ChunkChooser
from npuvm.compiler.reduce.launches import ReduceFamily
from npuvm.compiler.vector.choice import Choice, TileChooser
from npuvm.compiler.vector.family import VectorFamily
from npuvm.compiler.vector.native import NativeSearch, NativeWays

pytest.importorskip("numba")

_SHAPES = 150


@kernel(x="fp32[A, B]")
def columns(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.load(x), 0))


@kernel(x="fp16[A, B]")
def rows(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.max(k.load(x), 1))


@kernel(x="fp32[A, B, C]")
def middle(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.mean(k.load(x), 1))


@kernel(x="fp16[A, B]")
def everything(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.sum(k.cast(k.load(x), "fp32")))


@kernel(x="fp16[A, B]", bias="fp32[B]", scale="fp16[A, 1]")
def two(k: KernelBuilder, x: ParamRef, bias: ParamRef, scale: ParamRef) -> None:
    wide = k.cast(k.load(x), "fp32") * k.cast(k.load(scale), "fp32")
    k.store(k.sum(wide, 0) + k.load(bias), name="sums")
    k.store(k.max(wide, 0), name="most")


@kernel(x="fp32[A, B]")
def prefixes(k: KernelBuilder, x: ParamRef) -> None:
    k.store(k.cumsum(k.load(x), 1))


@kernel(x="fp32[A, B]")
def in_memory(k: KernelBuilder, x: ParamRef) -> None:
    k.pin(reduce="atomic")
    k.store(k.sum(k.load(x), 0) * 2.0)


KERNELS = (columns, rows, middle, everything, two, prefixes, in_memory)


class Decided(NamedTuple):
    """The tile of one launch and its estimate for any number of cores; chunks, their estimate, tile and sizes, by segment."""

    tile: Choice
    whole: bool
    fair_cycles: float
    chunks: tuple[object, ...] | None


@pytest.fixture(autouse=True)
def in_python() -> Iterator[None]:
    """Without machine code, before and behind a test."""
    unload_native()
    yield
    unload_native()


class Decider:
    """Decides about the only segment of a kernel."""

    def __init__(self, made: Kernel, chip: str) -> None:
        (segment,) = make_plan(made.graph, CASTS, whole_rows=False).segments
        assert isinstance(segment, VectorSegment)
        names = made.graph.symbols()
        self._family = VectorFamily(segment, names, the_chip(chip), the_isa())
        shared = ReduceFamily.of(segment, self._family, names, atomic=made is in_memory)
        assert shared is not None
        shared.prepare()
        self.shared = shared

    def __call__(self, values: tuple[int, ...]) -> Decided:
        planned = self.shared.planned(values)
        chunks = None
        if planned is not None:
            chunks = tuple(
                (name, each.chunks, each.fair_cycles, each.choice, tuple(each.sizes)) for name, each in planned.items()
            )
        located = self._family.located(values)
        assert located is not None
        tile, way = located[0].choose(located[1])
        return Decided(tile, way.space.whole, located[0].fair_cycles(located[1]), chunks)


def drawn(made: Kernel) -> list[tuple[int, ...]]:
    """Random sizes, the same in each call: few and many results of short and long sums."""
    source, rank = random.Random(made.graph.name), len(made.graph.symbols())
    return [tuple(int(2 ** source.uniform(0, 36 / rank)) for _ in range(rank)) for _ in range(_SHAPES)]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("made", KERNELS, ids=lambda made: made.graph.name)
def test_machine_code_decides_alike(made: Kernel, chip: str) -> None:
    shapes, plain = drawn(made), Decider(made, chip)
    expected = [plain(each) for each in shapes]
    load_native()
    fast = Decider(made, chip)
    for each, decided in zip(shapes, expected, strict=True):
        assert fast(each) == decided, each
    if chip != "edge" and made not in (prefixes, in_memory):
        assert {each.chunks is None for each in expected} == {False, True}


def test_all_is_decided_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there are chunks, how many, and the tiles of all parts."""
    load_native()
    fast = Decider(columns, CHIPS[0])
    asked: tuple[tuple[type, str], ...] = (
        (TileChooser, "_searched"),
        (ChunkChooser, "choose"),
        (NativeWays, "choose"),
        (NativeSearch, "choose"),
    )
    for owner, name in asked:
        monkeypatch.setattr(owner, name, lambda *_: pytest.fail("asked once more"))
    planned = [fast.shared.planned(each) for each in drawn(columns) if 1 not in each and max(each) > 20_000]
    assert sum(each is not None for each in planned) > 10


@pytest.mark.parametrize("made", [prefixes, in_memory], ids=["prefixes", "in_memory"])
def test_chunks_that_no_segment_joins_are_chosen_by_machine_code(made: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    load_native()
    fast = Decider(made, CHIPS[0])
    monkeypatch.setattr(TileChooser, "_searched", lambda *_: pytest.fail("searched in Python"))
    monkeypatch.setattr(ChunkChooser, "_best", lambda *_: pytest.fail("tried in Python"))
    cut = sum(fast(each).chunks is not None for each in drawn(made))
    assert cut > 0


def test_sizes_without_end_are_left_to_python() -> None:
    """And those of which there are more elements than a float counts."""
    shapes = [(1 << 30, 3), (5, 1 << 30), (1 << 29, 1 << 20)]
    plain = Decider(columns, CHIPS[0])
    expected = [plain(each) for each in shapes]
    load_native()
    fast = Decider(columns, CHIPS[0])
    assert [fast(each) for each in shapes] == expected
