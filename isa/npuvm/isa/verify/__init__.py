"""The static verifier of program images; its rules are described in docs/reference/verifier.md."""

from __future__ import annotations

from npuvm.isa.verify.report import RULES, CapacityLimits, Finding, VerifyReport
from npuvm.isa.verify.verifier import verify

__all__ = ["RULES", "CapacityLimits", "Finding", "VerifyReport", "verify"]
