"""Float32 reference of the all-MiniLM-L6-v2 sentence encoder, in plain numpy.

This module imports nothing of npuvm (a test holds it to that), so that what the simulated chip computes is checked
against code which shares nothing with it. Weights carry the names of the published checkpoint; the network is BERT
(Devlin et al. 2018, arXiv:1810.04805) with mean pooling over the tokens and L2 normalisation (Reimers and Gurevych
2019, arXiv:1908.10084).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["encode", "gelu", "layer_norm", "softmax"]

Array = npt.NDArray[np.float32]

_erf = np.frompyfunc(math.erf, 1, 1)


def gelu(x: Array) -> Array:
    """Gaussian error linear unit in its exact form, x * 0.5 * (1 + erf(x / sqrt(2)))."""
    erf = np.asarray(_erf(x / np.float32(math.sqrt(2.0)))).astype(np.float32)
    return np.asarray(x * np.float32(0.5) * (np.float32(1.0) + erf), dtype=np.float32)


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float32)


def layer_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """Layer normalisation over the last axis, with the biased variance."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + np.float32(epsilon)) * weight + bias, dtype=np.float32)


def encode(
    weights: Mapping[str, Array],
    tokens: Sequence[int],
    *,
    layers: int = 6,
    heads: int = 12,
    epsilon: float = 1e-12,
) -> Array:
    """Return the unit-length embedding, float32 [hidden], of one sentence.

    `tokens` are the token ids with the start and end marks and without padding. `weights` maps the parameter names of
    the checkpoint to float32 arrays.
    """
    hidden = _embed(weights, tokens, epsilon)
    for layer in range(layers):
        hidden = _layer(weights, f"encoder.layer.{layer}.", hidden, heads, epsilon)
    pooled = hidden.mean(axis=0)
    return np.asarray(pooled / np.linalg.norm(pooled), dtype=np.float32)


def _embed(weights: Mapping[str, Array], tokens: Sequence[int], epsilon: float) -> Array:
    prefix = "embeddings."
    words = weights[prefix + "word_embeddings.weight"][np.asarray(tokens)]
    positions = weights[prefix + "position_embeddings.weight"][: len(tokens)]
    kinds = weights[prefix + "token_type_embeddings.weight"][0]
    scale, shift = weights[prefix + "LayerNorm.weight"], weights[prefix + "LayerNorm.bias"]
    return layer_norm(words + positions + kinds, scale, shift, epsilon)


def _layer(weights: Mapping[str, Array], prefix: str, hidden: Array, heads: int, epsilon: float) -> Array:
    length, width = hidden.shape

    def dense(name: str, x: Array) -> Array:
        return np.asarray(x @ weights[f"{prefix}{name}.weight"].T + weights[f"{prefix}{name}.bias"], dtype=np.float32)

    def norm(name: str, x: Array) -> Array:
        return layer_norm(x, weights[f"{prefix}{name}.weight"], weights[f"{prefix}{name}.bias"], epsilon)

    def split(x: Array) -> Array:
        return x.reshape(length, heads, width // heads).transpose(1, 0, 2)

    query, key, value = (split(dense(f"attention.self.{name}", hidden)) for name in ("query", "key", "value"))
    scores = query @ key.transpose(0, 2, 1) * np.float32(1.0 / math.sqrt(width // heads))
    context = (softmax(scores) @ value).transpose(1, 0, 2).reshape(length, width)
    attended = norm("attention.output.LayerNorm", dense("attention.output.dense", context) + hidden)
    inner = gelu(dense("intermediate.dense", attended))
    return norm("output.LayerNorm", dense("output.dense", inner) + attended)
