"""Random ONNX models with symbolic sizes, read once and run at sizes that fit, that are 0 or 1, and that break assumptions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from tests.compiler.frontends.onnx.random_models import random_model
from tests.runtime.session.models import check, floats, opened
from tests.system.random_onnx import ACCEPTED, findings

from npuvm.compiler.frontends.onnx import import_model
from npuvm.isa.errors import NpuvmError
from npuvm.runtime.session import Session

_BLOCK = 20
"""How many models a slow test has."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Operators on the host divide by zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _hold(seeds: Sequence[int], nodes: int | None = None, fusion: str | None = None) -> None:
    """All runs of the models of these seeds, which a failure names, come to something that is accepted."""
    found = [each for seed in seeds for each in findings(random_model(seed, nodes), fusion)]
    assert [str(each) for each in found if each.kind not in ACCEPTED] == []
    assert any(each.kind == "equal" for each in found)


@pytest.mark.parametrize("seed", range(40))
def test_a_small_random_model(seed: int) -> None:
    _hold([seed], nodes=6)


@pytest.mark.parametrize("fusion", ["none", "pattern", "stack", "both"])
def test_modes_of_fusion_give_the_same(fusion: str) -> None:
    _hold(range(100, 103), nodes=8, fusion=fusion)


def test_a_model_is_read_the_same_way_each_time() -> None:
    for seed in range(6):
        proto = random_model(seed).proto
        assert repr(import_model(proto)) == repr(import_model(proto)), seed
        assert random_model(seed).proto == proto


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_random_models(block: int) -> None:
    _hold(range(1000 + _BLOCK * block, 1000 + _BLOCK * (block + 1)))


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["none", "pattern", "stack", "both"])
def test_random_models_in_modes_of_fusion(fusion: str) -> None:
    _hold(range(2000, 2000 + _BLOCK), fusion=fusion)


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(60))
def test_many_random_models(block: int) -> None:
    _hold(range(10000 + _BLOCK * block, 10000 + _BLOCK * (block + 1)))


# What was found.


def _runs(text: str, *shapes: dict[str, tuple[int, ...]]) -> Session:
    """One session, run at all shapes."""
    proto, session = opened(text)
    for each in shapes:
        check(session, proto, {name: floats(*shape) for name, shape in each.items()})
    return session


def test_a_slice_that_goes_backwards_from_before_the_start() -> None:
    text = """g (float[N] x) => (float[M] y) <int64[1] s = {-2}, int64[1] e = {-4611686018427387904}, int64[1] a = {0},
      int64[1] t = {-1}> { y = Slice(x, s, e, a, t) }"""
    _runs(text, {"x": (5,)}, {"x": (2,)}, {"x": (1,)}, {"x": (0,)})


def test_what_is_required_of_an_assumed_size_is_assumed() -> None:
    """N == M is a guess at what is broadcast, and M == 1 is required: N is not."""
    text = """g (float[N] x, float[M] y) => (float[K] z, float w) <int64[1] a = {0}> { z = Add(x, y)
      w = Squeeze(y, a) }"""
    session = _runs(text, {"x": (5,), "y": (1,)}, {"x": (1,), "y": (1,)})
    assert session.stats.models_reread <= 1


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_of_nothing(op: str) -> None:
    _runs(
        f"g (float[N,M] x) => (float[N,M] y) {{ y = {op}<axis = 1>(x) }}", {"x": (3, 4)}, {"x": (3, 0)}, {"x": (0, 4)}
    )


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "ReduceMean"])
def test_a_reduction_of_nothing(op: str) -> None:
    text = f"g (float[N,M] x) => (float[N] y) <int64[1] a = {{1}}> {{ y = {op}<keepdims = 0>(x, a) }}"
    proto, session = opened(text)
    nothing = {"ReduceMax": -np.inf, "ReduceMin": np.inf, "ReduceMean": np.nan}[op]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(session, proto, {"x": floats(3, 4)})
        made = session.run({"x": floats(3, 0)})["y"]
    np.testing.assert_array_equal(made, np.full(3, nothing, np.float32))


def test_sizes_of_what_the_host_makes_and_nobody_reads() -> None:
    """The bound of the slice may be below zero, so that the host cuts; only the size of what is left is used."""
    text = """g (float[N] x, float[M] y) => (int64[1] z, float[M] w) <int64[1] two = {2}, int64[1] a = {0}, int64[1] o = {1}> {
      m = Shape(y)
      e = Sub(m, o)
      cut = Slice(x, a, e, a, two)
      n = Shape(cut)
      z = Mod(n, two)
      w = Relu(y) }"""
    _runs(text, {"x": (9,), "y": (5,)}, {"x": (3,), "y": (7,)}, {"x": (4,), "y": (1,)}, {"x": (4,), "y": (0,)})


def test_a_running_sum_of_a_function_of_many_steps() -> None:
    """Telling the programs of a reversed sum apart takes one look at each step of the cosine."""
    text = """g (float[N,M] x) => (float[N,M] z) <int64 a = {0}> { y = Cos(x)
      z = CumSum<exclusive = 1, reverse = 1>(y, a) }"""
    _runs(text, {"x": (5, 3)}, {"x": (1, 2)}, {"x": (0, 2)})


@pytest.mark.parametrize(
    "line",
    [
        "y = Gather<axis = 0>(x, two)",
        "y, places = TopK<axis = 0>(x, two)",
        "y = Gemm(x, b, c)",
    ],
)
def test_what_does_not_fit_is_refused(line: str) -> None:
    """Row 2 of two, the best two of one, a bias of four columns for one."""
    proto, session = opened(
        f"g (float[N,3] x, float[3,M] b) => (float[P,Q] y) <int64[1] two = {{2}}, float[4] c = {{1, 2, 3, 4}}> {{ {line} }}"
    )
    check(session, proto, {"x": floats(5, 3), "b": floats(3, 4)})
    with pytest.raises(NpuvmError, match=r"Gather: index 2 is outside|TopK: k is 2|sizes 1 and 4 must be equal"):
        session.run({"x": floats(1, 3), "b": floats(3, 1)})


def test_an_extreme_of_rows_whose_number_the_host_finds_may_be_of_none() -> None:
    text = """g (float[N,2] x, float[M,1] z) => (float[two] y) <int64[1] two = {2}, int64[1] a = {0}, int64[1] s = {-1}> {
      whole = Shape<start = 0, end = 1>(z)
      e = Sub(whole, two)
      last = Slice(x, s, e, a)
      y = ReduceMax<keepdims = 0>(last, a) }"""
    _runs(text, {"x": (3, 2), "z": (5, 1)}, {"x": (1, 2), "z": (2, 1)})
