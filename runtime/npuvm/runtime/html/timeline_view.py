"""A timeline as a page shows it: its name, what it leaves out, and the columns that the page's script draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from npuvm.runtime.html.inputs import LaunchTimeline
from npuvm.runtime.html.kernels import KernelRow

__all__ = ["timeline_columns", "timeline_label", "timeline_note"]


def timeline_label(rows: Sequence[KernelRow], timeline: LaunchTimeline) -> str:
    """The row that a timeline's launch belongs to, and which of its launches it is: "3. gelu, launch 2 of 72"."""
    row = next(row for row in rows if timeline.launch in row.launches)
    place = row.launches.index(timeline.launch) + 1
    return f"{row.number}. {row.label}" + (f", launch {place} of {len(row.launches)}" if len(row.launches) > 1 else "")


def timeline_note(timeline: LaunchTimeline) -> str:
    """How much of the launch is shown, and by what it was cut."""
    shown, cores = len(timeline.slices), sorted({core for core, _, _ in timeline.rows})
    of_all = f"of {timeline.cores} core{'s' if timeline.cores > 1 else ''}"
    if shown == timeline.instructions:
        return f"All {shown:,} instructions of the launch, on {len(cores)} {of_all}."
    named = f"core{'s' if len(cores) > 1 else ''} {', '.join(map(str, cores))}"
    until = "" if timeline.cut_at is None else f" that start before cycle {timeline.cut_at:,}"
    part = f"{shown:,} of {timeline.instructions:,} instructions: those of {named}{until}, {of_all}"
    return f"{part}. The two curves count all instructions of all cores."


def timeline_columns(timeline: LaunchTimeline) -> dict[str, Any]:
    """Plain data; `slices` has a list for each field of `Slice`."""
    return {
        "cycles": timeline.cycles,
        "rows": timeline.rows,
        "texts": timeline.texts,
        "slices": list(zip(*(astuple(each) for each in timeline.slices), strict=True)),
        "step": timeline.step,
        "busy": timeline.busy,
        "moved": timeline.moved,
    }
