"""The models of benchmarks/zoo are what they say: valid, dynamic, and of the networks that they are named after."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks.zoo.entry import Feeds, Sizes, Variant
from benchmarks.zoo.graph import Array
from benchmarks.zoo.models import MODELS
from onnx.reference import ReferenceEvaluator

from npuvm.runtime.models import minilm_reference
from npuvm.runtime.models.minilm_assets import load_minilm

CASES = [
    pytest.param(name, sizes, id=f"{name}-{'x'.join(map(str, sizes.values()))}")
    for name, model in MODELS.items()
    for sizes in model.small.shapes
]


@cache
def small(name: str) -> tuple[Variant[Any], onnx.ModelProto, onnxruntime.InferenceSession]:
    variant = MODELS[name].small
    model = variant.make()
    return variant, model, session(model)


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(name: str, feeds: Feeds) -> dict[str, Array]:
    runner = small(name)[2]
    return dict(zip([each.name for each in runner.get_outputs()], runner.run(None, feeds), strict=True))


def concrete(value: onnx.ValueInfoProto, sizes: Sizes) -> tuple[int, ...]:
    """The declared shape with numbers in place of symbols; a dimension may be a formula of them."""
    dims = value.type.tensor_type.shape.dim
    return tuple(eval(dim.dim_param, {}, dict(sizes)) if dim.dim_param else dim.dim_value for dim in dims)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_valid_and_dynamic(name: str) -> None:
    variant, model, _ = small(name)
    onnx.checker.check_model(model, full_check=True)
    assert len({tuple(sizes.items()) for sizes in variant.shapes}) >= 8
    assert len({tuple(sizes.items()) for sizes in MODELS[name].full.shapes}) >= 8
    symbols = {dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim} - {""}
    assert set(variant.shapes[0]) <= symbols
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_a_model_runs_at_each_of_its_sizes(name: str, sizes: Sizes) -> None:
    variant, model, _ = small(name)
    feeds = variant.inputs(sizes)
    for value in model.graph.input:
        assert feeds[value.name].shape == concrete(value, sizes)
    outputs = run(name, feeds)
    for value in model.graph.output:
        assert outputs[value.name].shape == concrete(value, sizes)
        assert np.isfinite(outputs[value.name]).all()
        assert outputs[value.name].std() > 0 or outputs[value.name].size == 1


@pytest.mark.parametrize("name", MODELS)
def test_a_model_means_the_same_to_the_reference_evaluator(name: str) -> None:
    variant, model, _ = small(name)
    feeds = variant.inputs(variant.shapes[4], seed=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # T5 takes the logarithm of a distance of zero and drops it
        expected = ReferenceEvaluator(model).run(None, feeds)
    for want, got in zip(expected, run(name, feeds).values(), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_weights_come_from_a_seed(name: str) -> None:
    assert MODELS[name].small.make() == small(name)[1]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "minilm"])
def test_a_model_in_half_precision_is_near_the_one_in_single(name: str) -> None:
    variant, _, _ = small(name)
    half = replace(variant, config=replace(variant.config, dtype="float16"))
    feeds = variant.inputs(variant.shapes[0])
    rounded = {key: each.astype(np.float16) if each.dtype == np.float32 else each for key, each in feeds.items()}
    model = half.make()
    runner = (
        ReferenceEvaluator(model) if name == "lstm_tagger" else session(model)
    )  # onnxruntime crashes on such an LSTM
    got = runner.run(None, rounded)
    for want, each in zip(run(name, feeds).values(), got, strict=True):
        assert each.dtype == np.float16
        np.testing.assert_allclose(each, want, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["minilm", "bert_base"])
def test_padding_changes_no_token_of_an_encoder(name: str) -> None:
    variant, _, _ = small(name)
    feeds = variant.inputs({"batch": 1, "sequence": 6})
    padded = {key: np.pad(each, ((0, 0), (0, 3))) for key, each in feeds.items()}
    want, got = run(name, feeds), run(name, padded)
    np.testing.assert_allclose(got["last_hidden_state"][:, :6], want["last_hidden_state"], atol=1e-5)


def test_minilm_has_the_published_network() -> None:
    assets = load_minilm()
    tokens = assets.tokens("A chip is judged by what it does for a sentence.")
    ids = np.array([tokens], dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    embedding = run("minilm", feeds)["sentence_embedding"][0]
    layers = MODELS["minilm"].small_config.layers
    np.testing.assert_allclose(embedding, minilm_reference.encode(assets.weights, tokens, layers=layers), atol=1e-6)


@pytest.mark.parametrize(("name", "stream"), [("gpt2", "input_ids"), ("llama_block", "inputs_embeds")])
def test_steps_with_a_cache_are_the_run_without(name: str, stream: str) -> None:
    variant, _, _ = small(name)
    whole = variant.inputs({"batch": 2, "sequence": 7, "past": 0})
    whole["attention_mask"][:] = 1
    whole["position_ids"][:] = np.arange(7)
    expected = run(name, whole)
    cache = {key: each for key, each in whole.items() if key.startswith("past")}
    for start, end in ((0, 3), (3, 4), (4, 7)):
        feeds = {
            stream: whole[stream][:, start:end],
            "attention_mask": whole["attention_mask"][:, :end],
            "position_ids": whole["position_ids"][:, start:end],
            **cache,
        }
        outputs = run(name, feeds)
        cache = {
            key.replace("present", "past_key_values"): each
            for key, each in outputs.items()
            if key.startswith("present")
        }
        first = next(iter(outputs))
        np.testing.assert_allclose(outputs[first], expected[first][:, start:end], atol=2e-5)


def test_a_later_token_of_t5_changes_no_earlier_one_and_reaches_the_encoder_not_at_all() -> None:
    variant, _, _ = small("t5_small")
    feeds = variant.inputs({"batch": 1, "source": 9, "target": 6})
    changed = {**feeds, "decoder_input_ids": feeds["decoder_input_ids"].copy()}
    changed["decoder_input_ids"][0, 4] += 1
    want, got = run("t5_small", feeds), run("t5_small", changed)
    np.testing.assert_array_equal(got["encoder_last_hidden_state"], want["encoder_last_hidden_state"])
    np.testing.assert_allclose(got["logits"][:, :4], want["logits"][:, :4], atol=1e-5)
    assert np.abs(got["logits"][:, 4:] - want["logits"][:, 4:]).max() > 0.1


def test_t5_sees_distances_and_no_places() -> None:
    """The same words further on: relative positions leave the encoder's rows as they are."""
    variant, _, _ = small("t5_small")
    feeds = variant.inputs({"batch": 1, "source": 8, "target": 2})
    shifted = {
        "input_ids": np.pad(feeds["input_ids"], ((0, 0), (3, 0))),
        "attention_mask": np.pad(feeds["attention_mask"], ((0, 0), (3, 0))),
        "decoder_input_ids": feeds["decoder_input_ids"],
    }
    want, got = (run("t5_small", each)["encoder_last_hidden_state"] for each in (feeds, shifted))
    np.testing.assert_allclose(got[:, 3:], want, atol=1e-5)


def test_dlrm_sums_bags_and_multiplies_pairs() -> None:
    variant, model, _ = small("dlrm")
    feeds = variant.inputs({"batch": 3, "bag": 4})
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}

    def layer(x: Array, name: str) -> Array:
        return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])

    x = feeds["dense"]
    for index in range(2):
        x = np.maximum(layer(x, f"bot_l.{index}"), 0)
    bags = [weights[f"emb_l.{table}.weight"][feeds["indices"][:, table]].sum(axis=1) for table in range(4)]
    rows = np.stack([x, *bags], axis=1)
    pairs = [(rows[:, i] * rows[:, j]).sum(axis=1) for i in range(5) for j in range(i)]
    x = np.concatenate([x, np.stack(pairs, axis=1)], axis=1)
    for index in range(2):
        x = np.maximum(layer(x, f"top_l.{index}"), 0)
    click = 1 / (1 + np.exp(-layer(x, "top_l.last")))
    np.testing.assert_allclose(run("dlrm", feeds)["click"], click, rtol=1e-5)


def test_the_full_models_have_the_published_numbers_of_parameters() -> None:
    """Millions of parameters as published, where no table is cut: mobilenet 3.5, resnet 25.6, vit 22.1."""
    for name, millions in {"mobilenet_v2": 3.5, "resnet50": 25.6, "vit_small": 22.1}.items():
        initializers = MODELS[name].full.make().graph.initializer
        trained = [each for each in initializers if "running" not in each.name]
        assert sum(int(np.prod(each.dims)) for each in trained) / 1e6 == pytest.approx(millions, abs=0.06)
