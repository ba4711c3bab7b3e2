"""Sessions: models on a simulated device."""

from __future__ import annotations

from npuvm.runtime.session.device_array import DeviceArray
from npuvm.runtime.session.profile import KernelUse, NodeUse, ProgramUse, TransferUse, profile_json
from npuvm.runtime.session.report import HostUse, RunReport, SessionStats
from npuvm.runtime.session.session import Session
from npuvm.runtime.session.show import render_nodes, render_profile, render_transfers
from npuvm.runtime.session.streams import StreamTimes, side_by_side

__all__ = [
    "DeviceArray",
    "HostUse",
    "KernelUse",
    "NodeUse",
    "ProgramUse",
    "RunReport",
    "Session",
    "SessionStats",
    "StreamTimes",
    "TransferUse",
    "profile_json",
    "render_nodes",
    "render_profile",
    "render_transfers",
    "side_by_side",
]
