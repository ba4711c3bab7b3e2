"""Attention and rotary embeddings with unknown batches and lengths, against ONNX's own tests."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.compiler.frontends.onnx.model_run import Array, check, node_case, node_cases

from npuvm.compiler.frontends.onnx import import_model

WITHOUT = ("padded_kv", "float16", "fp16", "bf16", "local_window_gqa_rank4")
"""Masks of fewer keys than there are, roundings of the expected values, float64."""

CASES = [each for each in node_cases("Attention") if not any(part in each for part in WITHOUT)]


def _with_names(name: str) -> tuple[onnx.ModelProto, dict[str, Array], list[Array]]:
    """A case in which batches and lengths have names, heads and their sizes are numbers."""
    proto, feeds, expected = node_case(name)
    for info in proto.graph.input:
        dims = info.type.tensor_type.shape.dim
        lengths = {4: (0, 2), 3: (0, 1)}.get(len(dims), ()) if info.name in ("Q", "K", "V", "input") else ()
        if info.name.startswith("past_"):
            lengths = (0, 2)
        for axis, dim in enumerate(dims):
            if axis not in lengths:
                dim.dim_value = feeds[info.name].shape[axis]
    return proto, feeds, expected


@pytest.mark.parametrize("name", CASES)
def test_attention(name: str) -> None:
    proto, feeds, expected = _with_names(name)
    check(proto, feeds, expected=expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", node_cases("RotaryEmbedding"))
def test_rotary_embeddings(name: str) -> None:
    proto, feeds, expected = _with_names(name)
    check(proto, feeds, expected=expected, rtol=1e-4, atol=1e-6)


def test_a_decoder_with_a_growing_cache_is_one_model() -> None:
    heads, size = 4, 8
    kinds = {"Q": ("b", heads, "s", size), "K": ("b", 2, "s", size), "V": ("b", 2, "s", size)}
    kinds |= {"pk": ("b", 2, "p", size), "pv": ("b", 2, "p", size)}
    given = [helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, dims) for each, dims in kinds.items()]
    made = [helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, None) for each in ("Y", "k", "v")]
    node = helper.make_node("Attention", ["Q", "K", "V", "", "pk", "pv"], ["Y", "k", "v"], is_causal=1)
    graph = helper.make_graph([node], "decoder", given, made)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    model = import_model(proto)
    assert not model.host_steps()
    assert not model.guards
    rng = np.random.default_rng(0)
    for sizes in ({"b": 1, "s": 5, "p": 0}, {"b": 2, "s": 1, "p": 5}, {"b": 2, "s": 3, "p": 6}):
        shapes = {
            name: [sizes.get(each, each) if isinstance(each, str) else each for each in kinds[name]] for name in kinds
        }
        feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}  # type: ignore[arg-type]
        check(proto, feeds, expected=_decoded(feeds), rtol=1e-4, atol=1e-6)


def _decoded(feeds: dict[str, Array]) -> list[Array]:
    keys, values = (np.concatenate([feeds[f"p{each}"], feeds[each.upper()]], 2) for each in "kv")
    wide_keys, wide_values = (np.repeat(each, 2, 1) for each in (keys, values))
    scores = feeds["Q"] @ wide_keys.swapaxes(2, 3) / np.sqrt(8)
    queries, count = scores.shape[2:]
    scores = np.where(np.arange(count) <= np.arange(queries)[:, None] + count - queries, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return [(weights / weights.sum(-1, keepdims=True) @ wide_values).astype(np.float32), keys, values]
