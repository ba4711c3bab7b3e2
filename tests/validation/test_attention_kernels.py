"""The attention kernel: results against numpy on small sizes, verified and free of hazards; its shapes and exchange buffers."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.validation.attention import attention_case, attention_image
from benchmarks.validation.attention_shape import ARGUMENTS, AttentionShape

from npuvm.hw.config import load_chip
from npuvm.hw.functional.state import GlobalMemory
from npuvm.hw.launch import capacity_limits
from npuvm.hw.results.stats import RunResult
from npuvm.hw.simulator import simulate
from npuvm.isa import load_isa
from npuvm.isa.verifier import verify

ISA = load_isa(extensions=["row_operand"])
CHIP = load_chip("ascend_910b1", ['isa.extensions=["row_operand"]'])

GUARD = 4096
"""Bytes between tensors, outside every window, so that a stray access traps."""


def attend(shape: AttentionShape, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, RunResult]:
    """(result, expected, run): verified, simulated with data and hazard checks."""
    image = attention_image(CHIP, ISA, shape)
    sizes = [shape.bytes_of(name) for name in ARGUMENTS]
    verify(ISA, image, capacity_limits(CHIP), argument_bytes=sizes)
    rng = np.random.default_rng(3)
    rows = (shape.queries, shape.keys, shape.keys)
    q, k, v = ((scale * rng.standard_normal((n, shape.depth))).astype(np.float16) for n in rows)
    ends = np.cumsum([GUARD, *(size + GUARD for size in sizes)]).tolist()
    memory = GlobalMemory(1 << 26)
    memory.reserve(ends[-1])
    for address, array in zip(ends, (q, k, v), strict=False):
        memory.write(address, array)
    windows = list(zip(ends[:-1], sizes, strict=True))
    result = simulate(CHIP, ISA, image, memory=memory, addresses=ends[:-1], windows=windows)
    got = memory.read(ends[6], sizes[6]).view(np.float32).reshape(shape.queries, shape.depth)
    scores = q.astype(np.float64) @ k.astype(np.float64).T / np.sqrt(shape.depth)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return got, weights / weights.sum(axis=1, keepdims=True) @ v.astype(np.float64), result


@pytest.mark.parametrize(
    "shape",
    [
        AttentionShape(128, 256, 128, 1),
        AttentionShape(256, 512, 128, 2),
        AttentionShape(384, 1024, 128, 2),
        pytest.param(AttentionShape(128, 4096, 128, 1), id="buffers wrap around"),
    ],
)
def test_results_are_right(shape: AttentionShape) -> None:
    got, want, result = attend(shape)
    np.testing.assert_allclose(got, want, atol=2e-3)
    assert not result.hazards


def test_rows_with_one_large_weight_are_right() -> None:
    """Scores of some hundred: what comes before a new maximum is scaled away, and nothing overflows."""
    got, want, _ = attend(AttentionShape(128, 512, 128, 1), scale=6.0)
    np.testing.assert_allclose(got, want, atol=2e-2)


def test_cube_and_vector_cores_work_at_the_same_time() -> None:
    shape = AttentionShape(128, 4096, 128, 1)
    image = attention_image(CHIP, ISA, shape)
    addresses = [index << 24 for index in range(1, 8)]
    result = simulate(CHIP, ISA, image, addresses=addresses, data=False)
    cube, vector = result.cores[0].units, result.cores[1].units
    assert cube["fixpipe"].busy + vector["vector"].busy > result.cycles


def test_every_block_belongs_to_one_group() -> None:
    shape = AttentionShape(32768, 32768, 128, 24)
    blocks = [
        each.first + group + each.groups * wave
        for ranges in [shape.ranges()]
        for group, own in enumerate(ranges)
        for each, (start, stop) in zip(shape.rounds, own, strict=True)
        for wave in range(stop - start)
    ]
    assert sorted(blocks) == list(range(256))


@pytest.mark.parametrize("seq", [1024, 2048, 4096, 8192, 16384, 32768])
def test_measured_sizes_take_whole_groups(seq: int) -> None:
    params = {"seq": seq, "head_dim": 128, "cores": 24, "heads": 1}
    (launch,) = attention_case(CHIP, ISA, params).launches
    shape = AttentionShape(seq, seq, 128, min(24, seq // 128))
    assert len(launch.image.entries) == 3 * shape.groups
    if seq == 1024:
        verify(ISA, launch.image, capacity_limits(CHIP), argument_bytes=[shape.bytes_of(name) for name in ARGUMENTS])


@pytest.mark.slow
def test_the_longest_sequence_is_legal() -> None:
    shape = AttentionShape(32768, 32768, 128, 24)
    sizes = [shape.bytes_of(name) for name in ARGUMENTS]
    verify(ISA, attention_image(CHIP, ISA, shape), capacity_limits(CHIP), argument_bytes=sizes)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((100, 256, 128), "queries a multiple of 128"),
        ((128, 1280, 128), "keys 1 to 4 times 256 or a multiple of 2048"),
        ((128, 256, 64), "heads of 64; allowed: 128"),
    ],
)
def test_sizes_that_are_not_cut_evenly_are_refused(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionShape(*sizes, groups=1)


def test_more_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="heads is 8; allowed: 1"):
        attention_case(CHIP, ISA, {"seq": 1024, "head_dim": 128, "cores": 24, "heads": 8})
