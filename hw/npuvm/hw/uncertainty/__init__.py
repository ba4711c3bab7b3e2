"""How far times can be trusted: the error bars of a chip's numbers, propagated through the simulator."""

from __future__ import annotations

from npuvm.hw.uncertainty.parameters import FIXED, Parameter, uncertain_parameters
from npuvm.hw.uncertainty.propagation import (
    DEFAULT_SAMPLES,
    DEFAULT_SEED,
    Band,
    Influence,
    Measure,
    Propagated,
    propagate,
)
from npuvm.hw.uncertainty.samples import chip_at_end, sample_chips

__all__ = [
    "DEFAULT_SAMPLES",
    "DEFAULT_SEED",
    "FIXED",
    "Band",
    "Influence",
    "Measure",
    "Parameter",
    "Propagated",
    "chip_at_end",
    "propagate",
    "sample_chips",
    "uncertain_parameters",
]
