"""Builds tile libraries: runs tiles of products on one core of the simulator, for no shape in particular."""

from __future__ import annotations

from npuvm.explore.tuning.build import Built, Progress, tune_chip

__all__ = ["Built", "Progress", "tune_chip"]
