"""Sessions: models on a simulated device."""

from __future__ import annotations

from npuvm.runtime.session.profile import KernelUse, profile_json, render_profile
from npuvm.runtime.session.report import HostUse, RunReport, SessionStats
from npuvm.runtime.session.session import Session

__all__ = ["HostUse", "KernelUse", "RunReport", "Session", "SessionStats", "profile_json", "render_profile"]
