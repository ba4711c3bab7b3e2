"""Models with symbolic sizes, read once and run at many sizes on the device alone, compute what onnxruntime computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.zoo.entry import Sizes
from benchmarks.zoo.measure import Oracle, decode, largest_difference
from benchmarks.zoo.models import MODELS

from npuvm.isa.errors import NpuvmError
from npuvm.runtime.session import Session

TOLERANCE = 1e-5
"""Of an output's largest magnitude: fp32 sums of a few thousand terms in another order."""

HALF_TOLERANCE = 4e-3
"""As above for fp16, of which a unit in the last place is 1e-3."""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_runs_at_many_sizes(name: str) -> None:
    variant = MODELS[name].small
    model = variant.make()
    oracle, session = Oracle(model), Session(model, "edge", engine="functional", no_host=True)
    for sizes in variant.shapes:
        feeds = variant.inputs(sizes)
        assert largest_difference(session.run(feeds), oracle.run(feeds)) <= TOLERANCE, sizes
        assert session.last.launches > 0
    assert session.stats.models_reread == 0
    assert session.stats.shapes_compiled <= len(variant.shapes)
    known = variant.inputs(variant.shapes[0], seed=1)
    assert largest_difference(session.run(known), oracle.run(known)) <= TOLERANCE
    assert session.last.known_shape


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("bert_base", {"batch": 0, "sequence": 4}),
        ("bert_base", {"batch": 2, "sequence": 48}),
        ("gpt2", {"batch": 1, "sequence": 2, "past": 62}),
        ("llama_block", {"batch": 1, "sequence": 0, "past": 5}),
        ("dlrm", {"batch": 3, "bag": 0}),
        ("whisper_tiny_encoder", {"batch": 1, "frames": 1}),
        ("resnet50", {"batch": 1, "height": 1, "width": 1}),
    ],
)
def test_sizes_at_their_ends(name: str, sizes: Sizes) -> None:
    """No elements, a single one, and as many positions as there are."""
    variant = MODELS[name].small
    model, feeds = variant.make(), variant.inputs(sizes)
    assert (
        largest_difference(Session(model, "edge", engine="functional").run(feeds), Oracle(model).run(feeds))
        <= TOLERANCE
    )


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["ascend_910a", "ascend_910b1", "ascend_950pr"])
@pytest.mark.parametrize("name", ["gpt2", "mobilenet_v2"])
def test_other_chips(name: str, chip: str) -> None:
    variant = MODELS[name].small
    model, feeds = variant.make(), variant.inputs(variant.shapes[3])
    session = Session(model, chip, engine="functional", no_host=True)
    assert largest_difference(session.run(feeds), Oracle(model).run(feeds)) <= TOLERANCE


def test_fusion_changes_launches_and_no_result() -> None:
    variant = MODELS["llama_block"].small
    model, feeds = variant.make(), variant.inputs(variant.shapes[3])
    expected, launches = Oracle(model).run(feeds), {}
    for fusion in ("none", "pattern", "stack", "both"):
        session = Session(model, "edge", engine="functional", fusion=fusion)
        assert largest_difference(session.run(feeds), expected) <= TOLERANCE
        launches[fusion] = session.last.launches
    assert launches["both"] < min(launches["pattern"], launches["stack"])
    assert max(launches["pattern"], launches["stack"]) < launches["none"]


def test_more_tokens_than_positions_are_an_error() -> None:
    variant = MODELS["bert_base"].small
    session = Session(variant.make(), "edge", engine="functional")
    with pytest.raises(NpuvmError, match=r"/Add_1: .*49 and 48"):
        session.run(variant.inputs({"batch": 1, "sequence": 49}))


@pytest.mark.parametrize("name", ["minilm", "gpt2", "mobilenet_v2"])
def test_time_needs_no_data(name: str) -> None:
    variant = MODELS[name].small
    model, sizes = variant.make(), variant.shapes[1]
    feeds = variant.inputs(sizes)
    timed = Session(model, "edge", timing_only=True)
    report = timed.time({key: each.shape for key, each in feeds.items()})
    session = Session(model, "edge")
    outputs = session.run(feeds)
    assert report.launches == session.last.launches
    assert report.output_shapes == {key: each.shape for key, each in outputs.items()}
    assert report.cycles > 0


def test_gpt2_decodes_with_a_cache_that_grows() -> None:
    (*_, run) = decode(MODELS["gpt2"].small, "edge", prompt=5, steps=6)
    assert [row.sizes["past"] for row in run.rows] == [0, 5, 6, 7, 8, 9, 10]
    assert max(row.difference or 0.0 for row in run.rows) <= TOLERANCE


@pytest.mark.parametrize("name", ["bert_base", "llama_block"])
def test_a_model_in_half_precision(name: str) -> None:
    variant = MODELS[name].small
    half = replace(variant, config=replace(variant.config, dtype="float16"))
    model = half.make()
    oracle, session = Oracle(variant.make()), Session(model, "edge", engine="functional")
    for sizes in variant.shapes[:2]:
        feeds = half.inputs(sizes)
        wide = {key: each.astype(np.float32) if each.dtype == np.float16 else each for key, each in feeds.items()}
        outputs = {key: each.astype(np.float32) for key, each in session.run(feeds).items()}
        assert largest_difference(outputs, oracle.run(wide)) <= HALF_TOLERANCE
