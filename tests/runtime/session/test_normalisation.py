"""Normalisations over axes without elements, and with scales that are spread over their input."""

from __future__ import annotations

import numpy as np
import pytest
from tests.runtime.session.models import Array, check, floats, opened

from npuvm.isa.errors import NpuvmError

VARIANCE = "m (float[N, C, H, W] x) => (float[N, C, H, W] y) { y = MeanVarianceNormalization (x) }"
ROWS = "l (float[N, D] x, float[D] s) => (float[N, D] y) { y = LayerNormalization (x, s) }"
LAYER = "layer (float[A, B, D] x, float[S, E] s) => (float[a, b, c] y) { y = LayerNormalization (x, s) }"


@pytest.mark.parametrize(
    ("text", "feeds"),
    [
        (
            "i (float[N, C, L] x, float[C] s, float[C] b) => (float[N, C, L] y) { y = InstanceNormalization (x, s, b) }",
            {"x": floats(3, 2, 0), "s": floats(2), "b": floats(2)},
        ),
        (
            VARIANCE,
            {"x": floats(3, 2, 0, 2)},
        ),
        (
            VARIANCE,
            {"x": floats(0, 2, 1, 2)},
        ),
        (
            ROWS,
            {"x": floats(0, 4), "s": floats(4)},
        ),
    ],
)
def test_nothing_is_normalised_to_nothing(text: str, feeds: dict[str, Array]) -> None:
    proto, session = opened(text, no_host=True)
    check(session, proto, feeds)


@pytest.mark.parametrize("groups", [1, 2])
def test_groups_of_nothing(groups: int) -> None:
    each = f"float[{groups}]"
    text = f"{{ y = GroupNormalization <num_groups = {groups}> (x, s, b) }}"
    _, session = opened(f"g (float[N, 4, L] x, {each} s, {each} b) => (float[N, 4, L] y) {text}")
    made = session.run({"x": floats(3, 4, 0), "s": floats(groups), "b": floats(groups)})["y"]
    assert made.shape == (3, 4, 0)


def test_the_mean_of_nothing_is_not_a_number() -> None:
    """As in ONNX's reference and numpy; onnxruntime refuses rows of nothing."""
    _, session = opened(
        "l (float[N, D] x, float[D] s) => (float[N, D] y, float[N, E] m, float[N, E] i)"
        "{ y, m, i = LayerNormalization (x, s) }"
    )
    made = session.run({"x": floats(3, 0), "s": floats(0)})
    assert {name: each.shape for name, each in made.items()} == {"y": (3, 0), "m": (3, 1), "i": (3, 1)}
    assert np.isnan(made["m"]).all() and np.isnan(made["i"]).all()
    again = session.run({"x": floats(3, 5), "s": floats(5)})
    np.testing.assert_allclose(again["m"][:, 0], floats(3, 5).mean(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [(5, 4), (1, 4), (5, 1), (1, 1)])
def test_a_scale_is_spread_over_the_input(scale: tuple[int, int]) -> None:
    proto, session = opened(LAYER)
    check(session, proto, {"x": floats(3, 5, 4), "s": floats(*scale)})


@pytest.mark.parametrize(("x", "scale", "wrong"), [((3, 1, 4), (5, 4), "1 and 5"), ((3, 5, 1), (5, 4), "1 and 4")])
def test_an_input_is_not_spread_over_its_scale(x: tuple[int, ...], scale: tuple[int, int], wrong: str) -> None:
    _, session = opened(LAYER)
    with pytest.raises(NpuvmError, match=f"LayerNormalization_y: sizes {wrong} must be equal"):
        session.run({"x": floats(*x), "s": floats(*scale)})


def test_a_scale_has_no_more_dims_than_the_input() -> None:
    with pytest.raises(NpuvmError, match=r"input 1 is \[S, D\]; allowed: at most the 1 dims of input 0"):
        opened("l (float[D] x, float[S, D] s) => (float[a, b] y) { y = LayerNormalization (x, s) }")


def test_what_must_not_be_spread_is_required_where_it_is_known() -> None:
    _, session = opened("l (float[A, 1, D] x, float[S, D] s) => (float[a, b, c] y) { y = LayerNormalization (x, s) }")
    assert [str(each) for each in session.model.required] == ["S == 1"]
    with pytest.raises(NpuvmError, match="S == 1 must hold, not S = 5"):
        session.run({"x": floats(3, 1, 4), "s": floats(5, 4)})


def test_an_operator_is_named_where_its_sizes_are_wrong_inside_a_region() -> None:
    """A top of rows that are too short is found when the sizes are: by the operator, not by a line of Python."""
    text = "t (float[N, D] x) => (float[N, 3] v, int64[N, 3] i) <int64[1] k = {3}> { [best] v, i = TopK (x, k) }"
    _, session = opened(text)
    with pytest.raises(NpuvmError, match="best"):
        session.run({"x": floats(2, 2)})
