"""The report of a run as one self-contained HTML page (docs/reference/report.md). Drawing needs the extra `report`."""

from __future__ import annotations

from .inputs import LaunchTimeline, ReportInputs, Slice
from .page import plotly_script, render_report
from .recorder import ReportRecorder

__all__ = ["LaunchTimeline", "ReportInputs", "ReportRecorder", "Slice", "plotly_script", "render_report"]
