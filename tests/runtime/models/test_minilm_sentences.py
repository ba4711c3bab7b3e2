"""The sentences of configs/minilm.yaml: twelve lengths, and an order of neighbours that rounding cannot decide."""

from __future__ import annotations

import numpy as np
import pytest

from npuvm.isa.resources import data_root
from npuvm.runtime.models import minilm_assets, minilm_reference
from npuvm.runtime.scenarios.schema import MiniLmScenario, load_scenario


@pytest.fixture(scope="module")
def tokens() -> list[tuple[int, ...]]:
    scenario = load_scenario(data_root() / "configs" / "minilm.yaml")
    assert isinstance(scenario, MiniLmScenario)
    assets = minilm_assets.load_minilm()
    return [assets.tokens(sentence) for sentence in scenario.sentences]


def test_twelve_different_lengths(tokens: list[tuple[int, ...]]) -> None:
    lengths = [len(ids) for ids in tokens]
    assert len(set(lengths)) == len(lengths) == 12
    assert min(lengths) <= 6
    assert max(lengths) >= 64


def test_neighbours_are_well_apart(tokens: list[tuple[int, ...]]) -> None:
    weights = minilm_assets.load_minilm().weights
    embeddings = np.stack([minilm_reference.encode(weights, ids) for ids in tokens])
    similarity = embeddings @ embeddings.T
    for row in range(len(tokens)):
        others = np.sort(np.delete(similarity[row], row))
        assert np.diff(others).min() > 4e-4
    # five pairs of paraphrases: each is the other's nearest
    nearest = (similarity - 2 * np.eye(len(tokens))).argmax(axis=1)
    mutual = [i for i in range(len(tokens)) if nearest[nearest[i]] == i]
    assert len(mutual) == 10
