"""Flat segments whose cores stream side by side: what they compute, which sizes take them, and what memory makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.graphs import CASTS, build
from tests.compiler.vector_run import run_graph, the_isa

from npuvm.compiler import Graph
from npuvm.compiler.plan.plan import make_plan
from npuvm.compiler.plan.segments import VectorSegment
from npuvm.compiler.vector.codegen import compile_vector
from npuvm.compiler.vector.family import VectorFamily
from npuvm.compiler.vector.interleaved import chunk_bytes
from npuvm.hw.config import NpuConfig, load_chip
from npuvm.hw.simulator import simulate
from npuvm.isa import Image
from npuvm.isa.disasm import disassemble

SMALL = (
    "core.count=2", "memory.hbm.channels=4", "memory.hbm.bandwidth_gbps=150", "memory.l2.slices=4",
    "memory.l2.bandwidth_gbps=600", "memory.l2.capacity_mib=2",
)  # fmt: skip
CHIP = load_chip("ascend_910b1", SMALL)
ROUND = 4 * 2048
"""Elements of fp16 that the four vector cores have in a round."""


def total() -> Graph:
    """A sum of two."""
    return build(lambda k, x, y: k.store(x + y), x="fp16[N]", y="fp16[N]")


def mixed() -> Graph:
    """Two dtypes, two results, and a number that all elements share."""

    def body(k: Any, x: Any, y: Any, by: Any) -> None:
        wide = k.cast(x, "fp32") * by
        k.store(wide + y, "wide")
        k.store(k.cast(k.relu(wide), "fp16"), "narrow")

    return build(body, x="fp16[A, B]", y="fp32[A, B]", by="fp32[1, 1]")


def segment_of(graph: Graph) -> VectorSegment:
    """The only segment of a graph."""
    (segment,) = make_plan(graph, CASTS).segments
    assert isinstance(segment, VectorSegment)
    return segment


def instance(graph: Graph, chip: NpuConfig, *sizes: int) -> Image:
    """The image that a shape gets."""
    segment = segment_of(graph)
    names = tuple(dict.fromkeys(dim for each in graph.params for dim in map(str, each.type.shape) if not dim.isdigit()))
    made = VectorFamily(segment, names, chip, the_isa()).instance(sizes)
    assert made is not None
    return made[0]


def is_interleaved(image: Image) -> bool:
    """Whether there is a grid for what whole rounds leave."""
    return len(image.entries[0].ranges) == 2


@pytest.mark.parametrize("beyond", [1, 2047, 2048, 2049, ROUND - 1, ROUND])
@pytest.mark.parametrize("rounds", [32, 37])
def test_sums_of_all_that_rounds_leave(rounds: int, beyond: int) -> None:
    size = rounds * ROUND + beyond
    assert is_interleaved(instance(total(), CHIP, size))
    rng = np.random.default_rng(beyond)
    x, y = (rng.standard_normal(size).astype(np.float16) for _ in range(2))
    (found,) = run_graph(total(), {"x": x, "y": y}, CHIP).outputs.values()
    assert np.array_equal(found, x + y)


@settings(max_examples=12)
@given(a=st.integers(300, 700), b=st.integers(700, 1100), seed=st.integers(0, 99))
def test_dtypes_and_shared_numbers(a: int, b: int, seed: int) -> None:
    assert is_interleaved(instance(mixed(), CHIP, a, b))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((a, b)).astype(np.float16)
    y = rng.standard_normal((a, b)).astype(np.float32)
    by = np.float32(rng.standard_normal()).reshape(1, 1)
    found = run_graph(mixed(), {"x": x, "y": y, "by": by}, CHIP).outputs
    wide = x.astype(np.float32) * by
    assert np.array_equal(found["wide"], wide + y)
    assert np.array_equal(found["narrow"], np.maximum(wide, 0).astype(np.float16))


def test_few_rounds_stay_in_one_piece() -> None:
    assert not is_interleaved(instance(total(), CHIP, 32 * ROUND))
    assert not is_interleaved(instance(total(), CHIP, 5000))


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(
            lambda: build(lambda k, x, y: k.store(x + y), x="fp16[A, B]", y="fp16[A, 1]"), id="a column for all rows"
        ),
        pytest.param(
            lambda: build(lambda k, x, y: k.store(k.permute(x, (1, 0)) + y), x="fp16[B, A]", y="fp16[A, B]"),
            id="turned",
        ),
        pytest.param(
            lambda: build(
                lambda k, x, y: k.store(x + y + k.cast(k.iota(x.shape), "fp16")), x="fp16[A, B]", y="fp16[A, B]"
            ),
            id="places",
        ),
    ],
)
def test_what_is_not_flat_stays_in_one_piece(graph: Any) -> None:
    assert not is_interleaved(instance(graph(), CHIP, 1000, 1000))


def test_chunks_leave_room_in_open_rows() -> None:
    assert chunk_bytes(load_chip("ascend_910b1")) == 4096
    # 4 banks of 2 KiB in each of 4 channels have room for 4 streams of 4 cores with chunks of 2 KiB.
    assert chunk_bytes(load_chip("ascend_910b1", [*SMALL, "memory.hbm.banks=4"])) == 2048
    assert chunk_bytes(load_chip("ascend_910b1", [*SMALL, "memory.hbm.banks=1"])) == 0
    assert chunk_bytes(load_chip("ascend_910b1", ["memory.hbm.row_bytes=0", "memory.hbm.row_miss_cycles=0"])) == 0
    assert chunk_bytes(load_chip("edge")) == 0


def loads_past_l2(image: Image) -> list[bool]:
    """Of each load and store in order, whether it streams."""
    lines = [line.split() for line in disassemble(the_isa(), image).splitlines()]
    return ["cache=stream" in line for line in lines if any(word.startswith(("ld.", "st.")) for word in line[:2])]


def cycles(image: Image, chip: NpuConfig, nbytes: list[int], *, apart: int = 0) -> int:
    """Cycles with an empty L2, with operands one behind the other."""
    windows, at = [], 512
    for each in nbytes:
        windows.append((at, each))
        at += -(-(each + 512 + apart) // 512) * 512
    addresses = [address for address, _ in windows]
    run = simulate(chip, the_isa(), image, addresses=addresses, windows=windows, data=False, engine="compiled")
    return run.cycles


@pytest.mark.parametrize("overrides", [(), ("memory.hbm.banks=8",), ("memory.hbm.row_bytes=1024",)], ids=str)
@pytest.mark.parametrize("apart", [0, 1 << 16, 7 << 16])
def test_rows_of_main_memory_stay_open(overrides: tuple[str, ...], apart: int) -> None:
    """The programs of one chip, on it and on those that it may be: nine tenths of main memory, and before four fifths."""
    chip, isa, sizes = load_chip("ascend_910b1"), the_isa(), (4097, 3001)
    graph = build(lambda k, x, y: k.store(x + y), x="fp16[A, B]", y="fp16[A, B]")
    pieces = compile_vector(segment_of(graph), dict(zip("AB", sizes, strict=True)), chip, isa)
    assert pieces is not None
    made, nbytes = instance(graph, chip, *sizes), [2 * 4097 * 3001] * 3
    assert is_interleaved(made)
    silicon = load_chip("ascend_910b1", overrides)
    assert cycles(made, silicon, nbytes, apart=apart) < 0.92 * cycles(pieces.image, silicon, nbytes, apart=apart)


def test_results_stay_in_l2() -> None:
    """Where all of it is more than L2, what is read leaves it alone; results of half its size are not driven out."""
    size = 1 << 19
    below, past = (instance(total(), CHIP, each) for each in (size // 2, size))
    assert not any(loads_past_l2(below))
    assert loads_past_l2(past) == [True, True, False] * 2
    windows = [(512 + at * (2 * size + 512), 2 * size) for at in range(3)]
    addresses = [address for address, _ in windows]
    run = simulate(CHIP, the_isa(), past, addresses=addresses, windows=windows, data=False)
    assert run.bytes["hbm_write"] == 0
