"""What a study is begun with and keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["SAMPLERS", "SamplerName", "Settings"]

SamplerName: TypeAlias = Literal["grid", "random", "tpe", "nsga2"]
SAMPLERS: tuple[SamplerName, ...] = ("grid", "random", "tpe", "nsga2")


@dataclass(frozen=True)
class Settings:
    """What decides which points are asked for, and which of them are pruned."""

    sampler: SamplerName
    seed: int
    batch: int
    bounds: bool = True
    """Whether lower bounds may prune a point."""
