"""The all-MiniLM-L6-v2 sentence encoder as a sequence of kernel launches.

Everything runs on the device: the lookup of the tokens in the embedding table, every operator of the six layers, the pooling
and the final normalisation. A sentence of S tokens is a tensor of S rows without padding, so every length is a new shape of
every kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from npuvm.compiler import Kernel
from npuvm.runtime.models.minilm_assets import MiniLmAssets
from npuvm.runtime.models.minilm_kernels import make_kernels

__all__ = ["OPERATOR_KINDS", "MiniLmEncoder", "Session"]

T = TypeVar("T")

OPERATOR_KINDS = (
    "embedding + layernorm",
    "query, key, value projection",
    "attention scores",
    "softmax",
    "attention context",
    "output projection",
    "residual + layernorm",
    "feed-forward up",
    "gelu",
    "feed-forward down",
    "mean pooling + L2 norm",
)
"""Kinds of operators in the order of their first launch."""


class Session(Protocol[T]):
    """What the encoder needs of a device: putting arrays there, and launching kernels on what is there."""

    def tensor(self, array: npt.NDArray[Any]) -> T:
        """Copy an array into the memory of the device."""

    def launch(self, kind: str, kernel: Kernel, inputs: Mapping[str, T]) -> T:
        """Run a kernel of one output; `kind` is one of `OPERATOR_KINDS`."""


@dataclass(frozen=True)
class _Dense(Generic[T]):
    weight: T
    bias: T


@dataclass(frozen=True)
class _Layer(Generic[T]):
    query: _Dense[T]
    key: _Dense[T]
    value: _Dense[T]
    attention_output: _Dense[T]
    attention_norm: _Dense[T]
    up: _Dense[T]
    down: _Dense[T]
    output_norm: _Dense[T]


class MiniLmEncoder(Generic[T]):
    """The encoder with its weights and embedding tables on a device, in fp16."""

    def __init__(self, assets: MiniLmAssets, session: Session[T]) -> None:
        self._session = session
        self._kernels = make_kernels(assets.config)
        self._words = session.tensor(_half(assets.weights["embeddings.word_embeddings.weight"]))
        self._positions = session.tensor(_half(assets.weights["embeddings.position_embeddings.weight"]))
        self._segment = session.tensor(_half(assets.weights["embeddings.token_type_embeddings.weight"][0]))
        self._embed_norm = self._dense(assets, "embeddings.LayerNorm")
        self._layers = [self._layer(assets, f"encoder.layer.{i}.") for i in range(assets.config.layers)]

    def _layer(self, assets: MiniLmAssets, prefix: str) -> _Layer[T]:
        return _Layer(
            query=self._dense(assets, prefix + "attention.self.query"),
            key=self._dense(assets, prefix + "attention.self.key"),
            value=self._dense(assets, prefix + "attention.self.value"),
            attention_output=self._dense(assets, prefix + "attention.output.dense"),
            attention_norm=self._dense(assets, prefix + "attention.output.LayerNorm"),
            up=self._dense(assets, prefix + "intermediate.dense"),
            down=self._dense(assets, prefix + "output.dense"),
            output_norm=self._dense(assets, prefix + "output.LayerNorm"),
        )

    def _dense(self, assets: MiniLmAssets, name: str) -> _Dense[T]:
        tensor = self._session.tensor
        return _Dense(tensor(_half(assets.weights[f"{name}.weight"])), tensor(_half(assets.weights[f"{name}.bias"])))

    @property
    def launches_per_sentence(self) -> int:
        """Launches that `encode` makes."""
        return 2 + 12 * len(self._layers)

    def encode(self, tokens: Sequence[int]) -> T:
        """The unit-length embedding, fp32 [1, hidden] on the device, of one sentence's token ids."""
        ids = self._session.tensor(np.asarray(tokens, dtype=np.int32))
        inputs = {"words": self._words, "ids": ids, "positions": self._positions, "segment": self._segment}
        hidden = self._launch("embedding + layernorm", self._kernels.embed, **inputs, **vars(self._embed_norm))
        for layer in self._layers:
            hidden = self._encode_layer(layer, hidden)
        return self._launch("mean pooling + L2 norm", self._kernels.pool, x=hidden)

    def _encode_layer(self, layer: _Layer[T], hidden: T) -> T:
        kernels = self._kernels
        projections = (layer.query, layer.key, layer.value)
        query, key, value = (self._project("query, key, value projection", hidden, each) for each in projections)
        scores = self._launch("attention scores", kernels.scores, query=query, key=key)
        weights = self._launch("softmax", kernels.softmax, x=scores)
        context = self._launch("attention context", kernels.context, weights=weights, value=value)
        attended = self._project("output projection", context, layer.attention_output)
        attended = self._add_norm(attended, hidden, layer.attention_norm)
        inner = self._launch("gelu", kernels.gelu, x=self._project("feed-forward up", attended, layer.up))
        return self._add_norm(self._project("feed-forward down", inner, layer.down), attended, layer.output_norm)

    def _project(self, kind: str, x: T, dense: _Dense[T]) -> T:
        return self._launch(kind, self._kernels.project, x=x, weight=dense.weight, bias=dense.bias)

    def _add_norm(self, x: T, residual: T, norm: _Dense[T]) -> T:
        kernel = self._kernels.add_norm
        return self._launch("residual + layernorm", kernel, x=x, residual=residual, weight=norm.weight, bias=norm.bias)

    def _launch(self, kind: str, kernel: Kernel, **inputs: T) -> T:
        return self._session.launch(kind, kernel, inputs)


def _half(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    return array.astype(np.float16)
