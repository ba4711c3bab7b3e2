"""The report of a run as one self-contained HTML page (docs/reference/report.md). Drawing needs the extra `report`."""

from __future__ import annotations

from npuvm.runtime.html.inputs import LaunchTimeline, ReportInputs, Slice
from npuvm.runtime.html.page import plotly_script, render_report
from npuvm.runtime.html.recorder import ReportRecorder

__all__ = ["LaunchTimeline", "ReportInputs", "ReportRecorder", "Slice", "plotly_script", "render_report"]
