"""What a model of the zoo offers: a graph, inputs for any sizes, and the sizes that it is tried at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import onnx
from benchmarks.zoo.graph import Array

__all__ = ["Feeds", "Sizes", "Variant", "ZooModel", "padding_mask", "shapes", "token_ids"]

Sizes = Mapping[str, int]
"""A number for each symbol in the dimensions of a model's inputs."""

Feeds = dict[str, Array]
Config = TypeVar("Config")


@dataclass(frozen=True)
class Variant(Generic[Config]):
    """A model in one configuration, and at least eight sizes to try it at."""

    config: Config
    shapes: Sequence[Sizes]
    model: ZooModel[Config]

    def make(self) -> onnx.ModelProto:
        """The model with its weights."""
        return self.model.make(self.config)

    def inputs(self, sizes: Sizes, seed: int = 0) -> Feeds:
        """Inputs by name."""
        return self.model.inputs(self.config, sizes, np.random.default_rng(seed))


@dataclass(frozen=True)
class ZooModel(Generic[Config]):
    """A model, full and small; the small one has the same operators and is quick enough for tests."""

    name: str
    make: Callable[[Config], onnx.ModelProto]
    inputs: Callable[[Config, Sizes, np.random.Generator], Feeds]
    full_config: Config
    small_config: Config
    full_shapes: Sequence[Sizes]
    small_shapes: Sequence[Sizes]

    @property
    def full(self) -> Variant[Config]:
        """The published sizes."""
        return Variant(self.full_config, self.full_shapes, self)

    @property
    def small(self) -> Variant[Config]:
        """Few layers, narrow."""
        return Variant(self.small_config, self.small_shapes, self)


def shapes(names: str, rows: str) -> list[Sizes]:
    """Sizes from words: `shapes("batch sequence", "1x8 4x32")`."""
    return [dict(zip(names.split(), map(int, row.split("x")), strict=True)) for row in rows.split()]


def token_ids(rng: np.random.Generator, vocabulary: int, *shape: int) -> Array:
    """Random tokens, int64."""
    return rng.integers(0, vocabulary, shape, dtype=np.int64)


def padding_mask(rng: np.random.Generator, batch: int, length: int, *, least: int = 1) -> Array:
    """int64 [batch, length]: ones, then zeros to the right; the first row has no zeros, every row `least` ones or more."""
    lengths = rng.integers(min(least, length), length + 1, (batch, 1))
    lengths[:1] = length
    return np.asarray(np.arange(length) < lengths, dtype=np.int64)
