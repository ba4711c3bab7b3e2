"""The launches of a run explained: a breakdown and advice for each kernel and for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from npuvm.hw.config import NpuConfig
from npuvm.hw.explain import Advice, LaunchBreakdown, advise, break_down, sum_breakdowns, to_json

from .device import LaunchRecord
from .recording import by_kernel

__all__ = ["ExplainedKernel", "ExplainedRun", "explain_launches", "explained_json"]

EXPLAINED_VERSION = 1


@dataclass(frozen=True)
class ExplainedKernel:
    """All launches of a kernel; `name` is the tag of its launches, or its own name."""

    name: str
    breakdown: LaunchBreakdown
    advice: tuple[Advice, ...]


@dataclass(frozen=True)
class ExplainedRun:
    """Every kernel of a run, and all launches together; `stream_us` is their time with the host's dispatch."""

    chip: NpuConfig
    kernels: tuple[ExplainedKernel, ...]
    whole: ExplainedKernel
    stream_us: float


def explain_launches(records: Sequence[LaunchRecord]) -> ExplainedRun:
    """Explain launches of one device; there must be one at least."""
    chip, stream_us = records[0].chip, records[-1].times.end_us
    parts = [break_down(record.result) for record in records]
    kernels = []
    for name, places in by_kernel(records).items():
        breakdown = sum_breakdowns(parts[place] for place in places)
        kernels.append(ExplainedKernel(name, breakdown, advise(chip, breakdown)))
    whole = sum_breakdowns(parts)
    return ExplainedRun(
        chip, tuple(kernels), ExplainedKernel("all launches", whole, advise(chip, whole, stream_us)), stream_us
    )


def explained_json(run: ExplainedRun) -> dict[str, Any]:
    """The run as plain JSON values; each kernel is `npuvm.hw.explain.to_json` with its name.

    `version` changes when a key changes its meaning or goes away.
    """
    return {
        "version": EXPLAINED_VERSION,
        "chip": run.chip.name,
        "stream_us": run.stream_us,
        "kernels": [_kernel_json(kernel) for kernel in run.kernels],
        "whole": _kernel_json(run.whole),
    }


def _kernel_json(kernel: ExplainedKernel) -> dict[str, Any]:
    return {"name": kernel.name, **to_json(kernel.breakdown, kernel.advice)}
