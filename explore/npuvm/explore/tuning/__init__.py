"""Builds tile libraries: runs tiles of products on one core of the simulator, for no shape in particular."""

from __future__ import annotations

from npuvm.explore.tuning.build import SPREAD, Built, Progress, tune_chip

__all__ = ["SPREAD", "Built", "Progress", "tune_chip"]
