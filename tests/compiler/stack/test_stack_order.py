"""Levels of dependent launches, workspace whose bytes are used again, shares of the cores."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.compiler.graphs import build
from tests.compiler.vector_run import the_chip, the_isa

from npuvm.compiler.stack.order import WORKSPACE_ALIGN_BYTES, Lifetime, levels_of, lifetimes_of, place_workspace
from npuvm.compiler.stack.work import apportion, estimate_work

_Use = tuple[frozenset[str], frozenset[str]]


def test_readers_come_after_the_writer_and_writers_after_all() -> None:
    uses = [
        ({"x", "a"}, {"a"}),
        ({"a", "b"}, {"b"}),
        ({"a", "c"}, {"c"}),
        ({"b", "c", "d"}, {"d"}),
        ({"x", "e"}, {"e"}),
    ]
    assert levels_of(uses) == [0, 1, 1, 2, 0]
    overwritten = [({"a"}, {"a"}), ({"a", "b"}, {"b"}), ({"a"}, {"a"})]
    assert levels_of(overwritten) == [0, 1, 2]


def test_what_runs_beside_another_is_in_its_level() -> None:
    uses = [({"a"}, {"a"}), ({"a", "c"}, {"c"}), ({"a"}, {"a"}), ({"a", "c"}, {"c"})]
    assert levels_of(uses) == [0, 1, 2, 3]
    assert levels_of(uses, {2}) == [0, 1, 1, 2]


@st.composite
def _uses(draw: st.DrawFn) -> list[_Use]:
    def one() -> _Use:
        names = draw(st.sets(st.sampled_from("abcde"), min_size=1))
        return frozenset(names), frozenset(draw(st.sets(st.sampled_from(sorted(names)))))

    return [one() for _ in range(draw(st.integers(0, 8)))]


@given(_uses())
def test_levels_keep_every_pair_in_order(uses: list[_Use]) -> None:
    levels = levels_of(uses)
    longest = [0] * len(uses)
    for later, (names, writes) in enumerate(uses):
        for earlier in range(later):
            before, wrote = uses[earlier]
            if (writes & before) or (wrote & names):
                assert levels[earlier] < levels[later]
                longest[later] = max(longest[later], longest[earlier] + 1)
    assert levels == longest


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 6), st.integers(0, 3)), max_size=12))
def test_tensors_that_are_needed_at_once_share_no_byte(given_tensors: list[tuple[int, int, int]]) -> None:
    sizes = {f"t{i}": size for i, (size, _, _) in enumerate(given_tensors)}
    lifetimes = {f"t{i}": Lifetime(first, first + length) for i, (_, first, length) in enumerate(given_tensors)}
    offsets = place_workspace(sizes, lifetimes)
    assert offsets.keys() == sizes.keys()
    for name, offset in offsets.items():
        assert offset % WORKSPACE_ALIGN_BYTES == 0
        for other, start in offsets.items():
            if name != other and lifetimes[name].meets(lifetimes[other]):
                assert offset + sizes[name] <= start or start + sizes[other] <= offset
    # What is needed in one level alone never makes the workspace larger than all of it together.
    assert max((offsets[n] + sizes[n] for n in sizes), default=0) <= sum(-(-s // 512) * 512 for s in sizes.values())


def test_a_chain_of_equal_tensors_takes_two_places() -> None:
    names = [f"t{i}" for i in range(6)]
    uses = [{before, after} for before, after in pairwise(names)]
    lifetimes = lifetimes_of(set(names), uses, range(5))
    offsets = place_workspace(dict.fromkeys(names, 1000), lifetimes)
    assert set(offsets.values()) == {0, 1024}


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=3), st.integers(3, 12))
def test_no_other_shares_of_the_cores_are_done_earlier(work: list[float], cores: int) -> None:
    shares = apportion(cores, work, [None] * len(work))
    assert sum(shares) == cores
    every = [each for each in product(range(1, cores + 1), repeat=len(work)) if sum(each) == cores]
    best = min(max(w / n for w, n in zip(work, each, strict=True)) for each in every)
    assert max(w / n for w, n in zip(work, shares, strict=True)) == best


def test_pinned_shares_stay() -> None:
    assert apportion(10, [1.0, 100.0, 1.0], [None, 2, None]) == [4, 2, 4]
    assert apportion(2, [1.0, 1.0, 1.0], [None, None, None]) == [1, 1, 1]


def test_work_is_estimated_from_blocks_bytes_and_passes() -> None:
    chip = the_chip("ascend_910b1")
    binding = {"M": 100, "K": 64, "N": 50}

    def both(k: Any, x: Any, w: Any) -> None:
        k.store(k.relu(k.matmul(x, w)))

    work = estimate_work(build(both, x="fp16[M, K]", w="fp16[K, N]"), binding, chip, the_isa())
    cube, load = chip.core.cube, chip.core.load
    blocks = -(-100 // cube.m) * -(-50 // cube.n) * -(-64 * 2 // cube.k_bytes) * cube.cycles_per_block["fp16"]
    moved = (100 * 64 + 64 * 50 + 100 * 50) * 2 / load.l1_bytes_per_cycle
    assert work["cube"] == max(blocks, moved)
    assert work["vector"] >= (100 * 64 + 64 * 50) * 2 / load.ub_bytes_per_cycle

    def many(k: Any, x: Any, w: Any) -> None:
        for _ in range(50):
            x = k.relu(x + 1.0)
        k.store(x)
        k.store(w)

    graph = build(many, x="fp32[M, K]", w="fp32[K, N]")
    plain = min(each.cycles_per_repeat for each in chip.core.vector.classes.values())
    passes = 100 * (100 * 64 * 4) / chip.core.vector.repeat_bytes * float(plain)
    assert estimate_work(graph, binding, chip, the_isa()) == {"cube": 0.0, "vector": passes}
