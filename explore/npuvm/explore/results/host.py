"""What of the workloads the host did, which no measure has."""

from __future__ import annotations

from collections.abc import Iterable

from npuvm.explore.evaluation import host_line
from npuvm.explore.results.entry import Entry

__all__ = ["host_lines"]


def host_lines(entries: Iterable[Entry]) -> tuple[str, ...]:
    """A line for each workload with operators on the host, as its runs say."""
    most: dict[str, int] = {}
    for entry in entries:
        for run in entry.evaluation.runs:
            most[run.workload] = max(run.host_operators, most.get(run.workload, 0))
    return tuple(host_line(workload, count) for workload, count in most.items() if count)
