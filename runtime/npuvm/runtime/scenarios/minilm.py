"""Runs the sentence encoder of a `minilm` scenario and compares its embeddings with the float32 reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from npuvm.compiler import Kernel
from npuvm.runtime.device.tensor import Tensor
from npuvm.runtime.models.minilm import OPERATOR_KINDS, MiniLmEncoder
from npuvm.runtime.models.minilm_assets import MiniLmAssets, load_minilm
from npuvm.runtime.models.minilm_reference import encode as encode_reference
from npuvm.runtime.scenarios.report import Header, KindRow, Progress, ScenarioReport, SentenceRow, Totals
from npuvm.runtime.scenarios.schema import MiniLmScenario, PinFields
from npuvm.runtime.scenarios.session import LaunchSession

__all__ = ["neighbour_order", "run_minilm"]

Array: TypeAlias = npt.NDArray[Any]


def neighbour_order(embeddings: Array) -> Array:
    """For each of n unit-length embeddings [n, width], the other n - 1 from nearest to farthest by cosine, int [n, n - 1]."""
    wide = embeddings.astype(np.float64)
    order = np.argsort(-(wide @ wide.T), axis=1, kind="stable")
    return np.stack([row[row != index] for index, row in enumerate(order)])


def run_minilm(scenario: MiniLmScenario, session: LaunchSession, header: Header, progress: Progress) -> ScenarioReport:
    """Encode every sentence of the scenario; its report has a row for each sentence and each kind of operator."""
    assets = load_minilm()
    tokens = [assets.tokens(sentence) for sentence in scenario.sentences]
    recorder = _Recorder(session, scenario.pins)
    encoder = MiniLmEncoder(assets, recorder)
    recorder.resident = False
    embeddings: list[Array | None] = []
    totals: list[Totals] = []
    for index, ids in enumerate(tokens):
        progress(index, len(tokens), f"{scenario.name}: sentence of {len(ids)} tokens")
        with session.scope():
            embeddings.append(session.array(encoder.encode(ids)))
        totals.append(recorder.take())
    progress(len(tokens), len(tokens), scenario.name)
    compared = _compare(assets, tokens, embeddings)
    sentences = tuple(
        SentenceRow(text, len(ids), part, cosine, same)
        for text, ids, part, (cosine, same) in zip(scenario.sentences, tokens, totals, compared, strict=True)
    )
    kinds = tuple(KindRow(kind, Totals.sum(recorder.by_kind[kind])) for kind in OPERATOR_KINDS)
    return ScenarioReport(
        header,
        stream_us=session.stream_us,
        sentences=sentences,
        kinds=kinds,
        cosine_min=scenario.cosine_min,
        calls=session.calls,
    )


class _Recorder:
    """The encoder's session: launches go to the device, their totals are kept by kind and by sentence.

    `resident`: what is put on the device are weights, which stay.
    """

    def __init__(self, session: LaunchSession, pins: PinFields) -> None:
        self.by_kind: dict[str, list[Totals]] = {kind: [] for kind in OPERATOR_KINDS}
        self.resident = True
        self._session = session
        self._pins = pins
        self._sentence: list[Totals] = []

    def tensor(self, array: Array) -> Tensor:
        return self._session.tensor(array, resident=self.resident)

    def launch(self, kind: str, kernel: Kernel, inputs: Mapping[str, Tensor]) -> Tensor:
        output, totals = self._session.launch(kernel, inputs, self._pins, tag=kind)
        self.by_kind[kind].append(totals)
        self._sentence.append(totals)
        return output

    def take(self) -> Totals:
        """Totals of the launches since the last call."""
        total = Totals.sum(self._sentence)
        self._sentence = []
        return total


def _compare(
    assets: MiniLmAssets, tokens: Sequence[Sequence[int]], embeddings: Sequence[Array | None]
) -> list[tuple[float | None, bool | None]]:
    """Cosine with the reference and equality of the neighbour order for each sentence; None where there is no data."""
    found = [embedding[0] for embedding in embeddings if embedding is not None]
    if len(found) < len(tokens):
        return [(None, None)] * len(tokens)
    config = assets.config
    reference = np.stack(
        [
            encode_reference(assets.weights, ids, layers=config.layers, heads=config.heads, epsilon=config.epsilon)
            for ids in tokens
        ]
    )
    result = np.stack(found).astype(np.float64)
    result /= np.linalg.norm(result, axis=1, keepdims=True)
    cosines = (result * reference).sum(axis=1)
    same = (neighbour_order(result) == neighbour_order(reference)).all(axis=1)
    return [(float(cosine), bool(equal)) for cosine, equal in zip(cosines, same, strict=True)]
