"""The encoder's kernels in their order, evaluated in numpy with fp16 tensors, give the reference's embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from npuvm.compiler import Kernel, interpret
from npuvm.runtime.models import minilm, minilm_assets, minilm_reference

Array = npt.NDArray[Any]


class NumpySession:
    """Keeps tensors as arrays, evaluates kernels in numpy, and counts launches by kind."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.dtypes: set[str] = set()

    def tensor(self, array: Array) -> Array:
        return array

    def launch(self, kind: str, kernel: Kernel, inputs: Mapping[str, Array]) -> Array:
        self.kinds[kind] += 1
        self.dtypes |= {str(array.dtype) for array in inputs.values()}
        return interpret(kernel.graph, inputs)["out0"]


@pytest.fixture(scope="module")
def assets() -> minilm_assets.MiniLmAssets:
    return minilm_assets.load_minilm()


@pytest.mark.parametrize("sentence", ["Good evening.", "A kitten is napping on the couch this afternoon."])
def test_encoder_equals_the_reference(assets: minilm_assets.MiniLmAssets, sentence: str) -> None:
    session = NumpySession()
    encoder = minilm.MiniLmEncoder(assets, session)
    tokens = assets.tokens(sentence)
    embedding = encoder.encode(tokens)
    assert embedding.shape == (1, 384)
    assert float(np.linalg.norm(embedding)) == pytest.approx(1.0, abs=1e-5)
    assert float(embedding[0] @ minilm_reference.encode(assets.weights, tokens)) > 0.9999
    assert session.dtypes == {"float16", "int32"}
    assert tuple(session.kinds) == minilm.OPERATOR_KINDS
    assert session.kinds.total() == encoder.launches_per_sentence == 74
    assert session.kinds["query, key, value projection"] == 18
