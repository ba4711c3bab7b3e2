"""The static verifier of program images; its rules are described in docs/reference/verifier.md."""

from __future__ import annotations

from npuvm.isa.verifier.known import Verifier
from npuvm.isa.verifier.launch import verify
from npuvm.isa.verifier.report import RULES, CapacityLimits, Finding, VerifyReport

__all__ = ["RULES", "CapacityLimits", "Finding", "Verifier", "VerifyReport", "verify"]
