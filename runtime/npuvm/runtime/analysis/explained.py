"""The launches of a run explained: a breakdown and advice for each kernel and for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from npuvm.hw.config import NpuConfig
from npuvm.hw.explain import (
    Advice,
    LaunchBreakdown,
    PathStep,
    advise,
    break_down,
    critical_path,
    instruction_shares,
    path_shares,
    sum_breakdowns,
    to_json,
)
from npuvm.isa import decode_at, format_insn
from npuvm.runtime.analysis.recording import ALL_LAUNCHES, by_kernel, chip_of
from npuvm.runtime.device.device import LaunchRecord

__all__ = ["ExplainedKernel", "ExplainedRun", "KernelPath", "explain_launches", "explained_json"]

EXPLAINED_VERSION = 1


@dataclass(frozen=True)
class KernelPath:
    """The critical path of one launch of `cycles`; `texts` are the instructions on it by place."""

    cycles: int
    steps: tuple[PathStep, ...]
    texts: Mapping[int, str]


@dataclass(frozen=True)
class ExplainedKernel:
    """All launches of a kernel; `name` is the tag of its launches, or its own name.

    `ktypes` are the kinds that its kernels state, `kinds` how many launches of each kind there were.
    `path` is that of its longest traced launch, None when none was traced.
    """

    name: str
    breakdown: LaunchBreakdown
    advice: tuple[Advice, ...]
    path: KernelPath | None = None
    ktypes: tuple[str, ...] = ()
    kinds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ExplainedRun:
    """Every kernel of a run, and all launches together; `stream_us` is their time with the host's dispatch."""

    chip: NpuConfig
    kernels: tuple[ExplainedKernel, ...]
    whole: ExplainedKernel
    stream_us: float


def explain_launches(records: Sequence[LaunchRecord]) -> ExplainedRun:
    """Explain launches of one device; DeviceError when there is none."""
    chip, stream_us = chip_of(records), records[-1].times.end_us
    parts = [break_down(record.result) for record in records]
    kernels = []
    for name, places in by_kernel(records).items():
        breakdown = sum_breakdowns(parts[place] for place in places)
        own = [records[place] for place in places]
        kinds = Counter(each.kind for each in own if each.kind)
        ktypes = tuple(dict.fromkeys(each.ktype for each in own if each.ktype))
        kernels.append(ExplainedKernel(name, breakdown, advise(chip, breakdown), _path(own), ktypes, kinds))
    whole = sum_breakdowns(parts)
    return ExplainedRun(
        chip, tuple(kernels), ExplainedKernel(ALL_LAUNCHES, whole, advise(chip, whole, stream_us)), stream_us
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
    path = None if kernel.path is None else _path_json(kernel.path)
    kinds = {"ktypes": list(kernel.ktypes), "kinds": dict(kernel.kinds)}
    return {"name": kernel.name, **kinds, **to_json(kernel.breakdown, kernel.advice), "critical_path": path}


def _path_json(path: KernelPath) -> dict[str, Any]:
    return {
        "cycles": path.cycles,
        "shares": [
            {"unit": share.unit, "kind": share.kind, "cycles": share.cycles, "steps": share.steps}
            for share in path_shares(path.steps)
        ],
        "instructions": [
            {
                "word": each.pc,
                "text": path.texts[each.pc],
                "unit": each.unit,
                "cycles": each.cycles,
                "steps": each.steps,
            }
            for each in instruction_shares(path.steps)
        ],
    }


def _path(records: Sequence[LaunchRecord]) -> KernelPath | None:
    traced = [record for record in records if record.result.trace]
    if not traced:
        return None
    record = max(traced, key=lambda each: each.result.cycles)
    steps = critical_path(record.chip, record.isa, record.image, record.result)
    words = record.image.words.tolist()
    texts = {
        pc: format_insn(record.isa, decode_at(record.isa, words, pc)[0]) if pc >= 0 else ""
        for pc in {step.pc for step in steps}
    }
    return KernelPath(record.result.cycles, steps, texts)
