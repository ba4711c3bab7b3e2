"""Sessions: models on a simulated device."""

from __future__ import annotations

from npuvm.runtime.session.profile import KernelUse, profile_json, render_profile
from npuvm.runtime.session.report import HostUse, RunReport, SessionStats
from npuvm.runtime.session.session import Session
from npuvm.runtime.session.streams import StreamTimes, side_by_side

__all__ = [
    "HostUse",
    "KernelUse",
    "RunReport",
    "Session",
    "SessionStats",
    "StreamTimes",
    "profile_json",
    "render_profile",
    "side_by_side",
]
