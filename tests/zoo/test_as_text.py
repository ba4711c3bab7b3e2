"""Text models of configs/models are the models of the zoo: same operators, same results, weights from outside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks.zoo.as_text import TEXTS, text_of, texts
from benchmarks.zoo.entry import Feeds
from benchmarks.zoo.graph import Array
from benchmarks.zoo.models import MODELS
from ml_dtypes import float8_e4m3fn as float8
from onnx import numpy_helper, parser

from npuvm.compiler.frontends.onnx import import_model, load_model
from npuvm.isa import decode_program
from npuvm.isa.resources import data_root
from npuvm.runtime.session import Session
from npuvm.runtime.session.feeds import shapes_at

FOLDER = data_root() / "configs" / "models"
SMALL = [
    pytest.param("minilm", {"published": True, "layers": 1}, {"batch": 2, "sequence": 7}, id="minilm"),
    pytest.param("llama_block", {"layers": 1, "final_norm": False}, {"batch": 2, "sequence": 3, "past": 9}, id="llama"),
]


def run(model: onnx.ModelProto, feeds: Feeds) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([each.name for each in session.get_outputs()], session.run(None, feeds), strict=True))


def pair(name: str, changes: dict[str, Any]) -> tuple[onnx.ModelProto, str]:
    """A small model of the zoo with its weights, and its text without them."""
    entry = MODELS[name]
    config = replace(entry.small_config, dtype="float16", **changes)
    return entry.make(config), text_of(entry.make(replace(config, free=True)))


@pytest.mark.parametrize(("name", "changes", "sizes"), SMALL)
def test_the_text_of_a_model_computes_what_the_model_does(
    name: str, changes: dict[str, Any], sizes: dict[str, int]
) -> None:
    whole, text = pair(name, changes)
    config = replace(MODELS[name].small_config, dtype="float16", **changes)
    given = MODELS[name].inputs(config, sizes, np.random.default_rng(3))
    weights = {each.name: numpy_helper.to_array(each) for each in whole.graph.initializer}
    parsed = parser.parse_model(text)
    onnx.checker.check_model(parsed, full_check=True)
    assert {each.name for each in parsed.graph.input} == {*given, *weights}
    made = run(parsed, {**given, **weights})
    for output, want in run(whole, given).items():
        got = made[output]
        assert got.dtype == want.dtype == np.float16
        np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=0.01, atol=0.01)


def test_a_session_runs_the_text_of_a_model_with_its_weights() -> None:
    whole, text = pair("llama_block", {"layers": 1, "final_norm": False})
    config = replace(MODELS["llama_block"].small_config, layers=1, dtype="float16")
    given = MODELS["llama_block"].inputs(config, {"batch": 1, "sequence": 2, "past": 5}, np.random.default_rng(4))
    weights = {each.name: numpy_helper.to_array(each) for each in whole.graph.initializer}
    with Session(parser.parse_model(text), "edge", engine="functional") as session:
        made = session.run({**given, **weights})
    for name, want in run(whole, given).items():
        np.testing.assert_allclose(made[name].astype(float), want.astype(float), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", TEXTS)
def test_a_shipped_text_is_what_the_zoo_writes_and_has_no_operator_of_the_host(name: str) -> None:
    path = FOLDER / f"{name}.onnxtxt"
    assert path.read_text(encoding="utf-8") == dict(texts())[name], "run python benchmarks/zoo/as_text.py"
    model = import_model(load_model(path))
    assert not model.host_steps()
    assert sum(array.nbytes for array in model.constants.values()) < 1 << 16


def test_a_cache_in_8_bits_is_attention_over_what_it_holds() -> None:
    """By hand in numpy: scores of rounded keys, with the step of 1/16 that the text has."""
    rng = np.random.default_rng(6)
    past, shape = 5, (1, 32, 1, 128)
    query, key, value = (rng.standard_normal(shape, dtype=np.float32).astype(np.float16) for _ in range(3))
    kept = [(16 * rng.standard_normal((1, 32, past, 128), dtype=np.float32)).astype(float8) for _ in range(2)]
    feeds = {"query": query, "key": key, "value": value, "past_keys": kept[0], "past_values": kept[1]}
    path = FOLDER / "fp8_cache.onnxtxt"
    assert not import_model(load_model(path)).host_steps()
    with Session(path, "edge", engine="functional") as session:
        made = session.run(feeds)
    new = [(16 * each.astype(np.float32)).astype(float8) for each in (key, value)]
    for name, want in zip(("new_keys", "new_values"), new, strict=True):
        np.testing.assert_array_equal(made[name].astype(np.float32), want.astype(np.float32))
    keys, values = (np.concatenate(pair, 2).astype(np.float64) / 16 for pair in zip(kept, new, strict=True))
    scores = query.astype(np.float64) @ keys.swapaxes(2, 3) / np.sqrt(128)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ values
    np.testing.assert_allclose(made["mixed"].astype(np.float64), mixed, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    ("name", "sizes", "extension", "wanted"),
    [
        ("fp8_cache", {"batch": 1, "sequence": 1, "past": 31}, "fp8", {"vq8s", "vdq8s"}),
        ("minilm", {"batch": 1, "sequence": 9}, "activation", {"vexpdc"}),
        ("minilm", {"batch": 1, "sequence": 9}, "fma", {"vfmas", "vmadds", "vfnma"}),
    ],
)
def test_models_take_instructions_of_extensions(
    name: str, sizes: dict[str, int], extension: str, wanted: set[str]
) -> None:
    def used(overrides: tuple[str, ...]) -> set[str]:
        session = Session(FOLDER / f"{name}.onnxtxt", "edge", overrides, timing_only=True)
        session.time(shapes_at(session.model, sizes))
        launches = session.device.launches
        return {insn.op for each in launches for _, insn in decode_program(session.device.isa, each.image.words)}

    assert not used(()) & wanted
    assert used((f"isa.extensions=[{extension}]",)) >= wanted


def test_no_line_of_a_text_holds_data() -> None:
    for path in FOLDER.glob("*.onnxtxt"):
        assert max(map(len, path.read_text(encoding="utf-8").splitlines())) < 1000
