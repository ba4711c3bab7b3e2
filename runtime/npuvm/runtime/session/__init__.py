"""Sessions: models on a simulated device."""

from __future__ import annotations

from npuvm.runtime.session.report import HostUse, RunReport, SessionStats
from npuvm.runtime.session.session import Session

__all__ = ["HostUse", "RunReport", "Session", "SessionStats"]
