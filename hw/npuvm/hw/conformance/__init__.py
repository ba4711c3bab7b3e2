"""The conformance targets of this package: the functional interpreter and the timed model."""

from __future__ import annotations

from npuvm.hw.conformance.functional import functional_target
from npuvm.hw.conformance.timed import simpy_target

__all__ = ["functional_target", "simpy_target"]
